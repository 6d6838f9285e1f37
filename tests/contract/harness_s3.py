"""The S3 sink in the contract suite, on SeaweedFS's S3 gateway with signatures checked."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.objects.times import parse_unix_seconds
from filerbackup.sinks.s3 import S3Sink
from tests.contract.place import WRONG_KEY, Harness
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, Peer, peer_of

BUCKET = "contract"
LINK = ".rclonelink"
OWN_METADATA = {"mtime", "mode", "uid", "gid", "md5chksum", "filerbackup-version"}
HEADERS = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "expires": "ExpiresString",
}


class S3Place:
    """A folder of a bucket, looked at with a plain SDK client; `checks_keys`: whether the server does."""

    def __init__(self, endpoint: str, peer: Peer, *, checks_keys: bool) -> None:
        self.endpoint = endpoint
        self._peer = peer
        self._folder = f"place-{secrets.token_hex(4)}"
        self._checks_keys = checks_keys

    def settings(self, endpoint: str = "") -> S3Settings:
        return S3Settings(
            "s3",
            directory=f"/{self._folder}",
            bucket=BUCKET,
            region="us-east-1",
            endpoint=endpoint or self.endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=Secret(SECRET_KEY),
            part_size_bytes=5 << 20,
        )

    def sink(self, endpoint: str = "") -> S3Sink:
        return S3Sink(self.settings(endpoint))

    def with_wrong_key(self) -> S3Sink | None:
        if not self._checks_keys:
            return None
        return S3Sink(dataclasses.replace(self.settings(), secret_access_key=Secret(WRONG_KEY)))

    def without_bucket(self) -> S3Sink:
        return S3Sink(dataclasses.replace(self.settings(), bucket="never-made"))

    async def content(self, key: str) -> bytes | None:
        return await self._peer.get(f"{self._folder}/{key}")

    async def keys(self) -> set[str]:
        names = {name[len(self._folder) + 1 :] for name in await self._peer.names(f"{self._folder}/")}
        return {name.removesuffix(LINK) for name in names if not name.startswith(".filerbackup/")}

    async def mode(self, key: str) -> int | None:
        return int((await self._user(key))["mode"], 8) & 0o7777

    async def mtime_ns(self, key: str) -> int | None:
        return parse_unix_seconds((await self._user(key))["mtime"])

    async def symlink_target(self, key: str) -> str | None:
        target = await self.content(key + LINK)
        return None if target is None else target.decode()

    async def metadata(self, key: str) -> Mapping[str, str]:
        name = f"{self._folder}/{key}"
        head = await self._peer.head(name)
        assert head is not None
        tags = await self._peer.tags(name)
        return {
            **{name: head[member] for name, member in HEADERS.items() if head.get(member)},
            **{f"meta:{name}": text for name, text in head["Metadata"].items() if name not in OWN_METADATA},
            **{f"tag:{name}": text for name, text in tags.items()},
        }

    async def unfinished(self) -> set[str]:
        return await self._peer.uploads(f"{self._folder}/")

    async def _user(self, key: str) -> dict[str, str]:
        for name in (key, key + LINK):
            head = await self._peer.head(f"{self._folder}/{name}")
            if head is not None:
                return head["Metadata"]
        raise KeyError(key)


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[S3Place]:
    endpoint = request.getfixturevalue("guarded_weed").s3_endpoint
    async with peer_of(endpoint, BUCKET) as peer:
        yield S3Place(endpoint, peer, checks_keys=True)


HARNESS = Harness("s3", _place, refuses=lambda key: "\\" in key)
