"""Which uploads in parts are under way: a note in the sink, so that a killed process leaves nothing behind.

A service that keeps the parts of an unfinished upload keeps them, and charges for them, for ever. The
names are noted before an upload begins, those that begin together with one request; what is noted at
the next start was never ended. Names that are done leave the note when it is written the next time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from filerbackup.errors import SinkError
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.reading import read_all
from filerbackup.sinks.objects.store import Store

_METADATA = ObjectMetadata(content_type="application/json")
_VERSION = 1


@dataclass(slots=True)
class Noted:
    """One upload; `settled`: nothing of it stays behind."""

    settled: bool = True


class Journal:
    """The note `name`. Where a service keeps no unfinished parts it does nothing.

    `below`: what all names in it begin with; another is nothing of ours, whoever has put it there.
    `may_change` is called before the note is written: who works here next keeps its own in that place.
    """

    def __init__(
        self, store: Store, name: str, *, below: str = "", may_change: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._name, self._below = store, name, below
        self._may_change = may_change
        self._is_needed = store.traits.keeps_unfinished
        self._open: dict[str, int] = {}
        self._written: frozenset[str] = frozenset()
        self._lock = asyncio.Lock()

    async def load(self) -> list[str]:
        """The names that an earlier process has noted; a note that cannot be read counts as none."""
        raw = await read_all(self._store, self._name) if self._is_needed else None
        if raw is None:
            return []
        try:
            names = json.loads(raw)["names"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
        if not isinstance(names, list):
            return []
        self._written = frozenset(
            name for name in names if isinstance(name, str) and name.startswith(self._below)
        )
        return sorted(self._written)

    @asynccontextmanager
    async def noting(self, name: str) -> AsyncIterator[Noted]:
        """The name is in the note while this is entered, and stays there when it is not settled."""
        noted = Noted()
        if not self._is_needed:
            yield noted
            return
        self._open[name] = self._open.get(name, 0) + 1
        try:
            await self._write_with(name)
            yield noted
        finally:
            if noted.settled:
                self._open[name] -= 1
                if not self._open[name]:
                    del self._open[name]

    async def clear(self) -> None:
        """Write what is open now: nothing, after a sweep or at a clean end. Raises SinkError."""
        if self._written:
            await self._write()

    async def close(self) -> None:
        """As `clear`; a sink that is down keeps its note, and the next start looks at it."""
        try:
            await self.clear()
        except SinkError:
            return

    async def _write_with(self, name: str) -> None:
        # Also what is noted from an earlier upload has to wait: the note that is being written may
        # leave it out. Whoever waited here may find that the one before has noted both.
        async with self._lock:
            if name not in self._written:
                await self._write()

    async def _write(self) -> None:
        self._may_change()
        names = frozenset(self._open)
        if names:
            note = json.dumps({"version": _VERSION, "names": sorted(names)})
            await self._store.put(self._name, note.encode() + b"\n", _METADATA)
        else:
            await self._store.delete(self._name)
        self._written = names
