"""What the contract suite needs of a sink: a place that it can write to, and another way to look at it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from filerbackup.sinks.base import Sink


class Place(Protocol):
    """One empty place for copies, looked at without the sink that is tested."""

    def sink(self) -> Sink:
        """A new sink on this place, not opened yet."""
        ...

    async def content(self, key: str) -> bytes | None:
        """The bytes under the key, None when nothing (or a directory) is there."""
        ...

    async def keys(self) -> set[str]:
        """Every object outside `.filerbackup/`; a directory's key ends in a slash, where one is kept."""
        ...

    async def mode(self, key: str) -> int | None:
        """The POSIX mode bits (at most 0o7777) kept with the object, None where the place has none."""
        ...

    async def mtime_ns(self, key: str) -> int | None:
        """The source's modified time kept with the object, None where the place has none."""
        ...

    async def symlink_target(self, key: str) -> str | None:
        """The target when the object is kept as a symlink, else None."""
        ...

    async def unfinished(self) -> set[str]:
        """What is left of writes that never ended: temporary files, open multipart uploads."""
        ...


@dataclass(frozen=True, slots=True)
class Harness:
    """How to get a place. `place` may ask `request` for fixtures such as `weed`.

    `refuses`: whether the sink, by its nature, must reject this odd name (with ObjectRejected).
    """

    name: str
    place: Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[Place]]
    refuses: Callable[[str], bool] = lambda _key: False
