"""The local sink in the contract suite."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from filerbackup.settings.model import LocalSettings
from filerbackup.sinks.local import LocalSink
from tests.contract.place import Harness

OWN = ".filerbackup"


class LocalPlace:
    """A directory, looked at with plain system calls."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def endpoint(self) -> str:
        return ""

    def sink(self, endpoint: str = "") -> LocalSink:
        return LocalSink(self.settings(endpoint))

    def settings(self, endpoint: str = "") -> LocalSettings:
        return LocalSettings("local", directory=str(self.directory))

    def with_wrong_key(self) -> None:
        return None

    def without_bucket(self) -> LocalSink:
        """The directory itself is made; what stands where it should be is not replaced."""
        self.directory.write_bytes(b"a file")
        return self.sink()

    async def content(self, key: str) -> bytes | None:
        path = self.path(key)
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None

    async def keys(self) -> set[str]:
        found = set()
        for above, directories, files in os.walk(self.directory):
            if above == str(self.directory):
                directories[:] = [name for name in directories if name != OWN]
            relative = Path(above).relative_to(self.directory)
            for name in [*directories, *files]:
                is_directory = name in directories and not (Path(above) / name).is_symlink()
                found.add(str(relative / name) + ("/" if is_directory else ""))
        return found

    async def mode(self, key: str) -> int | None:
        return stat.S_IMODE(self.path(key).lstat().st_mode)

    async def mtime_ns(self, key: str) -> int | None:
        return self.path(key).lstat().st_mtime_ns

    async def symlink_target(self, key: str) -> str | None:
        path = self.path(key)
        return os.readlink(path) if path.is_symlink() else None

    async def metadata(self, key: str) -> Mapping[str, str] | None:
        return None

    async def unfinished(self) -> set[str]:
        left = set()
        for above, _directories, files in os.walk(self.directory / OWN / "tmp"):
            left.update(str(Path(above) / name) for name in files if name != "lock")
        return left | {key for key in await self.keys() if OWN + "-tmp-" in key}

    def path(self, key: str) -> Path:
        return self.directory / key


@asynccontextmanager
async def _place(_request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[LocalPlace]:
    yield LocalPlace(directory / "copies")


HARNESS = Harness("local", _place)
