"""Which paths of the target are stored alike, so that their chunks can be assigned together.

A filer chooses collection, replication, disk and time to live by the bucket of a path and by the rules
of its `filer.conf`, each for all paths that begin in a certain way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.sinks.filer.target import Target, parent_and_name

CONF_PATH = "/etc/seaweedfs/filer.conf"
_KEEP_S = 30.0


class Rules:
    """`read` gives the bytes of an entry. Before the first `refresh` every directory is by itself."""

    def __init__(self, target: Target, read: Callable[[pb.Entry], Awaitable[bytes]], buckets: str) -> None:
        self._target, self._read = target, read
        self._below_buckets = buckets + "/"
        self._prefixes: tuple[str, ...] | None = None
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read the rules again if they were read some time ago. Raises SinkError."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at < _KEEP_S:
            return
        message = await self._target.lookup(CONF_PATH)
        self._prefixes = () if message is None else prefixes_of(await self._read(message))
        self._read_at = now

    def group(self, path: str) -> tuple[str, ...]:
        """The same for paths that are stored alike."""
        if self._prefixes is None:
            return (parent_and_name(path)[0],)
        below = path.removeprefix(self._below_buckets)
        bucket = below.partition("/")[0] if below != path else ""
        return (bucket, *[prefix for prefix in self._prefixes if path.startswith(prefix)])


def prefixes_of(raw: bytes) -> tuple[str, ...] | None:
    """The beginnings of paths that a `filer.conf` has rules for; None when it cannot be read."""
    try:
        locations = json.loads(raw or b"{}").get("locations", [])
        found = [each.get("locationPrefix", each.get("location_prefix", "")) for each in locations]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return tuple(sorted(set(found))) if all(isinstance(each, str) for each in found) else None
