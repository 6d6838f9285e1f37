"""What the contract suite needs of a sink: a place that it can write to, and another way to look at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from filerbackup.settings.model import SinkSettings
from filerbackup.sinks.base import Sink

WRONG_KEY = "d3Jvbmcta2V5LW9mLXRoZS1jb250cmFjdC1zdWl0ZS10aGF0LW5vYm9keS1tYXktc2VlIQ=="
"""The secret of a sink made by `with_wrong_key`, where a service's keys can look like this."""


class Place(Protocol):
    """One empty place for copies, looked at without the sink that is tested."""

    @property
    def endpoint(self) -> str:
        """URL (scheme, host and port) of the server behind it, empty when there is none."""
        ...

    def sink(self, endpoint: str = "") -> Sink:
        """A new sink on this place, not opened yet; it asks `endpoint`, by default the server's own."""
        ...

    def settings(self, endpoint: str = "") -> SinkSettings | None:
        """What `sink` is made from, so that another process can have one; None where only this one can."""
        ...

    def with_wrong_key(self) -> Sink | None:
        """A sink on this place whose credentials are wrong; None where nobody asks for any."""
        ...

    def without_bucket(self) -> Sink | None:
        """A sink like this one on a bucket that does not exist; None where there is none."""
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

    async def metadata(self, key: str) -> Mapping[str, str] | None:
        """What is kept beside mode and time, None where the place has no such things at all.

        Names: `content-type`, `cache-control`, `content-disposition`, `content-encoding`,
        `content-language`, `expires`, `meta:<name>` for a user's own metadata (names in lower case, as
        the source has them) and `tag:<name>`.
        """
        ...

    async def unfinished(self) -> set[str]:
        """What is left of writes that never ended: temporary files, open multipart uploads."""
        ...


@dataclass(frozen=True, slots=True)
class Harness:
    """How to get a place. `place` may ask `request` for fixtures such as `weed`.

    `refuses`: whether the sink, by its nature, must reject this odd name (with ObjectRejected).
    `loses`: the names of `Place.metadata` for which the service has no room ("tag", "expires").
    `sticks`: names of `Place.metadata` that the test's server, unlike the service, never takes away again.
    `garbles`: characters in names that the test's server, unlike the service, cannot take.
    """

    name: str
    place: Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[Place]]
    refuses: Callable[[str], bool] = lambda _key: False
    loses: frozenset[str] = frozenset()
    sticks: frozenset[str] = frozenset()
    garbles: str = ""
