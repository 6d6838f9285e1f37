"""The sink on Google Cloud Storage in the contract suite, on fake-gcs-server."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from filerbackup.settings.model import GcsSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.base import Sink
from filerbackup.sinks.gcs import gcs_sink
from filerbackup.sinks.objects.times import parse_rfc3339
from tests.contract.place import WRONG_KEY, Harness
from tests.support.gcs import GcsPeer, GcsServer, TokenServer, gcs_peer

BUCKET = "contract"
LINK = ".rclonelink"
OWN_METADATA = {"mtime", "mode", "uid", "gid", "md5chksum", "filerbackup-version"}
HEADERS = {
    "content-type": "contentType",
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
}
GONE = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}


class GcsPlace:
    """A folder of a bucket, looked at with Google's own client."""

    def __init__(self, server: GcsServer, peer: GcsPeer, tokens: TokenServer) -> None:
        self.endpoint = server.endpoint
        self._peer = peer
        self._tokens = tokens
        self._folder = f"place-{secrets.token_hex(4)}"

    def settings(self, endpoint: str = "") -> GcsSettings:
        return GcsSettings(
            "google_cloud_storage",
            directory=f"/{self._folder}",
            bucket=BUCKET,
            endpoint=endpoint or self.endpoint,
            part_size_bytes=5 << 20,
        )

    def sink(self, endpoint: str = "") -> Sink:
        return gcs_sink(self.settings(endpoint))

    def with_wrong_key(self) -> Sink:
        key = Secret(self._tokens.key(key_id=WRONG_KEY))
        return gcs_sink(dataclasses.replace(self.settings(), credentials=key))

    def without_bucket(self) -> Sink:
        return gcs_sink(dataclasses.replace(self.settings(), bucket="never-made"))

    async def content(self, key: str) -> bytes | None:
        return await self._peer.get(f"{self._folder}/{key}")

    async def keys(self) -> set[str]:
        names = {name[len(self._folder) + 1 :] for name in await self._peer.names(f"{self._folder}/")}
        return {name.removesuffix(LINK) for name in names if not name.startswith(".filerbackup/")}

    async def mode(self, key: str) -> int | None:
        user = await self._user(key)
        assert int(user["goog-reserved-posix-mode"], 8) == int(user["mode"], 8) & 0o777
        return int(user["mode"], 8) & 0o7777

    async def mtime_ns(self, key: str) -> int | None:
        user = await self._user(key)
        time_ns = parse_rfc3339(user["mtime"])
        assert time_ns is not None
        assert int(user["goog-reserved-file-mtime"]) == time_ns // 10**9
        return time_ns

    async def symlink_target(self, key: str) -> str | None:
        target = await self.content(key + LINK)
        return None if target is None else target.decode()

    async def metadata(self, key: str) -> Mapping[str, str]:
        described = await self._peer.describe(f"{self._folder}/{key}")
        assert described is not None
        user = described.get("metadata", {})
        # What a patch has removed, fake-gcs-server keeps with an empty value.
        others = {
            name: text
            for name, text in user.items()
            if text and name not in OWN_METADATA and not name.startswith("goog-reserved-")
        }
        return {
            **{name: described[member] for name, member in HEADERS.items() if described.get(member)},
            **{f"meta:{name}": text for name, text in others.items()},
        }

    async def unfinished(self) -> set[str]:
        return await self._peer.names(f"{self._folder}/.filerbackup/parts/")

    async def _user(self, key: str) -> dict[str, str]:
        for name in (key, key + LINK):
            described = await self._peer.describe(f"{self._folder}/{name}")
            if described is not None:
                return described["metadata"]
        raise KeyError(key)


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[GcsPlace]:
    server = request.getfixturevalue("gcs")
    tokens = TokenServer()
    tokens.refusal = (400, GONE)
    async with tokens.running():
        with gcs_peer(server, BUCKET) as peer:
            yield GcsPlace(server, peer, tokens)


HARNESS = Harness(
    "gcs",
    _place,
    refuses=lambda key: "\n" in key or "\r" in key,
    loses=frozenset({"tag", "expires"}),
    # A patch to null and a compose over an object leave these as they were, in fake-gcs-server.
    sticks=frozenset(HEADERS),
)
