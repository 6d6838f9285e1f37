"""The S3 sink in the contract suite, on SeaweedFS's S3 gateway."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.metadata import parse_unix_seconds
from filerbackup.sinks.s3 import S3Sink
from tests.contract.place import Harness
from tests.support.s3 import Peer, peer_of
from tests.support.weed import WeedServer

BUCKET = "contract"
LINK = ".rclonelink"


class S3Place:
    """A folder of a bucket, looked at with a plain SDK client."""

    def __init__(self, server: WeedServer, peer: Peer, folder: str) -> None:
        self._server = server
        self._peer = peer
        self._folder = folder

    def sink(self) -> S3Sink:
        return S3Sink(
            S3Settings(
                "s3",
                directory=f"/{self._folder}",
                bucket=BUCKET,
                region="us-east-1",
                endpoint=self._server.s3_endpoint,
                access_key_id="any",
                secret_access_key=Secret("any-secret"),
                part_size_bytes=5 << 20,
            )
        )

    async def content(self, key: str) -> bytes | None:
        return await self._peer.get(f"{self._folder}/{key}")

    async def keys(self) -> set[str]:
        names = {name[len(self._folder) + 1 :] for name in await self._peer.names(f"{self._folder}/")}
        return {name.removesuffix(LINK) for name in names if not name.startswith(".filerbackup/")}

    async def mode(self, key: str) -> int | None:
        return int((await self._metadata(key))["mode"], 8) & 0o7777

    async def mtime_ns(self, key: str) -> int | None:
        return parse_unix_seconds((await self._metadata(key))["mtime"])

    async def symlink_target(self, key: str) -> str | None:
        target = await self.content(key + LINK)
        return None if target is None else target.decode()

    async def unfinished(self) -> set[str]:
        return await self._peer.uploads(f"{self._folder}/")

    async def _metadata(self, key: str) -> dict[str, str]:
        for name in (key, key + LINK):
            head = await self._peer.head(f"{self._folder}/{name}")
            if head is not None:
                return head["Metadata"]
        raise KeyError(key)


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[S3Place]:
    server = request.getfixturevalue("weed")
    async with peer_of(server, BUCKET, access="any", secret="any-secret") as peer:
        yield S3Place(server, peer, f"place-{secrets.token_hex(4)}")


HARNESS = Harness("s3", _place, refuses=lambda key: "\\" in key)
