"""The in-memory reference sink in the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from filerbackup.events import EntryKind
from filerbackup.sinks.memory import MemoryObject, MemorySink
from tests.contract.place import Harness


class MemoryPlace:
    """The dictionaries of one sink: its memory is the place."""

    def __init__(self) -> None:
        self._sink = MemorySink()

    @property
    def endpoint(self) -> str:
        return ""

    def sink(self, endpoint: str = "") -> MemorySink:
        return self._sink

    def settings(self, endpoint: str = "") -> None:
        return None

    def with_wrong_key(self) -> None:
        return None

    def without_bucket(self) -> None:
        return None

    async def content(self, key: str) -> bytes | None:
        found = self._found(key)
        return found.data if found is not None and found.kind is EntryKind.FILE else None

    async def keys(self) -> set[str]:
        objects = self._sink.objects.items()
        return {key + "/" if found.kind is EntryKind.DIRECTORY else key for key, found in objects}

    async def mode(self, key: str) -> int | None:
        found = self._found(key)
        return None if found is None else found.mode

    async def mtime_ns(self, key: str) -> int | None:
        found = self._found(key)
        return None if found is None else found.mtime_ns

    async def symlink_target(self, key: str) -> str | None:
        found = self._found(key)
        return found.target if found is not None and found.kind is EntryKind.SYMLINK else None

    async def metadata(self, key: str) -> Mapping[str, str] | None:
        return None

    async def unfinished(self) -> set[str]:
        return set()

    def _found(self, key: str) -> MemoryObject | None:
        return self._sink.objects.get(key)


@asynccontextmanager
async def _place(_request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[MemoryPlace]:
    yield MemoryPlace()


HARNESS = Harness("memory", _place)
