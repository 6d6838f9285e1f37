"""Directories that came to be without an event: those that a rename made above its new name.

(Seen on SeaweedFS 4.48: a create tells of the parents that it makes, a rename does not.) A sink with
directories would make them too, with a mode of its own, until the next comparison.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator

from filerbackup.events import Change, Delete, Entry, Rename, Upsert
from filerbackup.pipeline.filters import Scope
from filerbackup.source.base import Source

MOST_KNOWN = 10_000
"""Paths of directories that are remembered, the latest ones; another look costs one request."""


class Parents:
    """Remembers the directories that the sink has been told of. `wanted`: it keeps directories."""

    def __init__(self, source: Source, scope: Scope, *, wanted: bool) -> None:
        self._source, self._scope = source, scope
        self._wanted = wanted
        self._known: OrderedDict[str, None] = OrderedDict()

    async def untold(self, change: Change) -> AsyncGenerator[Entry, None]:
        """The live directories above a rename's new name that nothing has told of, the uppermost first.

        Raises SourceUnreachable.
        """
        match change:
            case _ if not self._wanted:
                return
            case Upsert(entry=entry) if entry.is_directory:
                self._remember(entry.path)
            case Delete(entry=entry) if entry.is_directory:
                self._known.pop(entry.path, None)
            case Rename(old=old, new=new):
                async for entry in self._above(new.path):
                    yield entry
                if new.is_directory:
                    self._known.pop(old.path, None)
                    self._remember(new.path)
            case _:
                return

    async def _above(self, path: str) -> AsyncGenerator[Entry, None]:
        parents = self._scope.relative(path).split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            above = self._scope.absolute("/".join(parents[:depth]))
            if above in self._known:
                self._known.move_to_end(above)
                continue
            live = await self._source.lookup(above)
            if live is None or not live.is_directory:
                # Moved on already: the log will tell.
                return
            self._remember(above)
            if self._scope.holds(live):
                yield live

    def _remember(self, path: str) -> None:
        self._known[path] = None
        self._known.move_to_end(path)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
