"""The filer sink in the contract suite: a folder of a SeaweedFS filer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.settings.model import FilerSinkSettings
from filerbackup.sinks.filer import FilerSink
from tests.contract.place import Harness
from tests.support.filer_looks import GO_DIRECTORY, GO_SYMLINK, Looks

OWN = ".filerbackup"
HEADERS = {"cache-control", "content-disposition", "content-encoding", "content-language", "expires"}


class FilerPlace:
    """A folder of a filer, looked at with plain gRPC and HTTP calls."""

    endpoint = ""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._folder = f"/contract/place-{secrets.token_hex(4)}"

    def settings(self, endpoint: str = "") -> FilerSinkSettings:
        assert not endpoint
        return FilerSinkSettings("filer", directory=self._folder, grpc_address=self._looks.weed.filer_grpc)

    def sink(self, endpoint: str = "") -> FilerSink:
        return FilerSink(self.settings(endpoint))

    def with_wrong_key(self) -> None:
        return None

    def without_bucket(self) -> None:
        return None

    async def content(self, key: str) -> bytes | None:
        entry = await self._entry(key)
        if entry is None or entry.attributes.file_mode & (GO_DIRECTORY | GO_SYMLINK):
            return None
        return await asyncio.to_thread(self._looks.content, f"{self._folder}/{key}")

    async def keys(self) -> set[str]:
        def look() -> set[str]:
            return {
                f"{path}/" if entry.attributes.file_mode & GO_DIRECTORY else path
                for path, entry in self._looks.below(self._folder)
                if path.partition("/")[0] != OWN
            }

        return await asyncio.to_thread(look)

    async def mode(self, key: str) -> int | None:
        return (await self._present(key)).attributes.file_mode & 0o7777

    async def mtime_ns(self, key: str) -> int | None:
        attributes = (await self._present(key)).attributes
        return attributes.mtime * 10**9 + attributes.mtime_ns

    async def symlink_target(self, key: str) -> str | None:
        entry = await self._entry(key)
        return entry.attributes.symlink_target or None if entry is not None else None

    async def metadata(self, key: str) -> Mapping[str, str] | None:
        entry = await self._present(key)
        found = {"content-type": entry.attributes.mime or "application/octet-stream"}
        for name, value in entry.extended.items():
            folded = name.lower()
            if folded in HEADERS:
                found[folded] = value.decode()
            elif folded.startswith("x-amz-meta-"):
                found["meta:" + folded.removeprefix("x-amz-meta-")] = value.decode()
            elif folded.startswith("x-amz-tagging-"):
                found["tag:" + name[len("x-amz-tagging-") :]] = value.decode()
        return found

    async def unfinished(self) -> set[str]:
        def look() -> set[str]:
            return {path for path, _ in self._looks.below(f"{self._folder}/{OWN}/tmp")}

        return await asyncio.to_thread(look)

    async def _entry(self, key: str) -> pb.Entry | None:
        return await asyncio.to_thread(self._looks.entry, f"{self._folder}/{key}")

    async def _present(self, key: str) -> pb.Entry:
        entry = await self._entry(key)
        if entry is None:
            raise KeyError(key)
        return entry


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[FilerPlace]:
    looks = Looks(request.getfixturevalue("weed"))
    try:
        yield FilerPlace(looks)
    finally:
        looks.close()


HARNESS = Harness("filer", _place)
