"""Filling a sink from the live tree, and removing from a mirror what the live tree no longer has.

The walk and the sink's listing come in the same order, so that one pass over both tells what is
missing, what differs and what is too much. Copies go the same way as changes do: through the
scheduler, checked, retried, counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from filerbackup.errors import SourceUnreachable
from filerbackup.events import Entry, EntryKind
from filerbackup.pipeline.apply import Ends
from filerbackup.pipeline.filters import Scope
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.layout import Layout
from filerbackup.pipeline.planner import Operation, Planner, is_kept
from filerbackup.pipeline.scheduler import Scheduler
from filerbackup.pipeline.watcher import Watcher
from filerbackup.pipeline.watermark import Contiguous
from filerbackup.sinks.base import Listed

_log = logging.getLogger(__name__)
_AT_ONCE = 64
"""Comparisons, each of which may cost a request."""


def sort_key(path: str, is_directory: bool) -> bytes:
    """The place of a relative path or key in the common order of walks and listings."""
    return (path + "/" if is_directory else path).encode()


class Listing:
    """A sink's listing, walked in step with ascending look-ups."""

    def __init__(self, listing: AsyncIterator[Listed]) -> None:
        self._listing = listing
        self._next: Listed | None = None
        self._ended = False

    async def find(self, key: str, is_directory: bool) -> Listed | None:
        """What is listed under the key; asks must come in order."""
        wanted = sort_key(key, is_directory)
        while True:
            listed = await self._peek()
            if listed is None:
                return None
            at = sort_key(listed.key, listed.kind is EntryKind.DIRECTORY)
            if at > wanted:
                return None
            self._next = None
            if at == wanted:
                return listed

    async def _peek(self) -> Listed | None:
        if self._next is None and not self._ended:
            self._next = await anext(self._listing, None)
            self._ended = self._next is None
        return self._next


class _Pair(NamedTuple):
    """What the source has, and what the sink's listing shows under its key."""

    key: str
    entry: Entry
    listed: Listed | None


class Snapshot:
    """One pass from the live tree to the sink; `cursor` says how far everything is done."""

    def __init__(
        self,
        ends: Ends,
        scope: Scope,
        layout: Layout,
        planner: Planner,
        scheduler: Scheduler[Operation],
        watcher: Watcher,
        guard: Guard,
        *,
        offset_ns: int,
    ) -> None:
        self._source, self._sink = ends.source, ends.sink
        self._scope, self._layout, self._planner = scope, layout, planner
        self._scheduler = scheduler
        self._watcher = watcher
        self._guard = guard
        self._offset_ns = offset_ns
        self._done: Contiguous[str] = Contiguous("")

    @property
    def cursor(self) -> str:
        """The newest path of the walk at which, and before which, all is in the sink."""
        return self._done.last

    async def copy(self, *, after: str, compare: bool) -> None:
        """Write what the sink lacks. With `compare` what is there already and equal is left alone."""
        self._done = Contiguous(after)
        merge = compare and not self._layout.keeps_dates
        walked = 0
        async with aclosing(self._sink.list("", after.rstrip("/"))) as objects:
            listing = Listing(objects) if merge else None
            async for entry in self._source.walk(after):
                walked += 1
                await self._copy_one(entry, listing, look=compare and not merge)
        if not after:
            self._guard.tree_is(walked)
        await self._scheduler.drain()

    async def _copy_one(self, entry: Entry, listing: Listing | None, *, look: bool) -> None:
        relative = self._scope.relative(entry.path)
        ticket = self._done.add(relative + "/" if entry.is_directory else relative)
        write = self._planner.write(self._offset_ns, entry)
        if write is None:
            self._done.finish(ticket)
            return
        write.listed = await listing.find(write.key, entry.is_directory) if listing else None
        write.look, write.thorough = look, True
        await self._scheduler.submit(write, partial(self._done.finish, ticket))

    async def sweep(self) -> int:
        """Remove what only the sink has, each only when the live filer confirms it.

        A directory comes after what is in it, so that the delete guard counts one by one. Returns how
        many are to be removed, as far as the delete guard admits them.
        """
        await self._require_root()
        now_ns, found = await self._source.now_ns(), 0
        waiting: list[Listed] = []
        walk = self._kept()
        live: Entry | None = await anext(walk, None)
        async with aclosing(self._sink.list()) as objects:
            async for listed in objects:
                at = sort_key(listed.key, listed.kind is EntryKind.DIRECTORY)
                while live is not None and self._place(live) < at:
                    live = await anext(walk, None)
                while waiting and not listed.key.startswith(waiting[-1].key + "/"):
                    found += await self._sweep_one(waiting.pop(), now_ns)
                if live is not None and self._place(live) == at:
                    continue
                if listed.kind is EntryKind.DIRECTORY:
                    waiting.append(listed)
                else:
                    found += await self._sweep_one(listed, now_ns)
        while waiting:
            found += await self._sweep_one(waiting.pop(), now_ns)
        return found

    async def _sweep_one(self, listed: Listed, now_ns: int) -> bool:
        if self._guard.spares(listed.key):
            return False
        path = self._scope.absolute(listed.key)
        live = await self._source.lookup(path)
        is_directory = listed.kind is EntryKind.DIRECTORY
        if live is not None and live.is_directory == is_directory and self._keeps(live):
            return False
        # Not a removal outright: it looks again when its turn comes, in order with other changes.
        refresh = self._planner.refresh(now_ns, listed.key, path, guarded=True, tree=is_directory)
        await self._scheduler.submit(refresh, _nothing)
        return True

    async def reconcile(self, *, sweep: bool, thorough: bool) -> int:
        """Compare while the log is being followed; what differs is read anew from the live filer.

        A refresh takes its turn among the changes of its path, and changes that are older than what
        it read come after it and are themselves followed by the newer ones: the end is the same.
        Returns how many differed. `thorough`: attributes that a listing does not show count too.
        """
        differed = walked = 0
        merge = not self._layout.keeps_dates
        waiting: list[_Pair] = []
        async with aclosing(self._sink.list()) as objects:
            listing = Listing(objects)
            async for entry in self._source.walk():
                walked += 1
                key = self._layout.key(entry)
                if key is None or self._planner.write(0, entry) is None:
                    continue
                listed = await listing.find(key, entry.is_directory) if merge else None
                waiting.append(_Pair(key, entry, listed))
                if len(waiting) == _AT_ONCE:
                    differed += await self._mend(waiting, merge=merge, thorough=thorough)
                    waiting.clear()
            differed += await self._mend(waiting, merge=merge, thorough=thorough)
        self._guard.tree_is(walked)
        return differed + (await self.sweep() if sweep else 0)

    async def _mend(self, pairs: Sequence[_Pair], *, merge: bool, thorough: bool) -> int:
        """Compare these, all at once, and have refreshed what differs; returns how many those are."""

        async def is_same(pair: _Pair) -> bool:
            listed = pair.listed if merge else await self._sink.stat(pair.key)
            return listed is not None and await self._sink.matches(listed, pair.entry, thorough=thorough)

        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(is_same(pair)) for pair in pairs]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        unlike = [pair for pair, task in zip(pairs, asked, strict=True) if not task.result()]
        for pair in unlike:
            refresh = self._planner.refresh(
                self._offset_ns, pair.key, pair.entry.path, guarded=True, tree=False, changes=thorough
            )
            await self._scheduler.submit(refresh, _nothing)
        return len(unlike)

    async def _kept(self) -> AsyncIterator[Entry]:
        """What of the live tree the sink keeps: a file must not outlive that it became a symlink."""
        async for entry in self._source.walk():
            if self._keeps(entry):
                yield entry

    def _keeps(self, entry: Entry) -> bool:
        return is_kept(entry, self._sink.capabilities)

    def _place(self, entry: Entry) -> bytes:
        return sort_key(self._scope.relative(entry.path), entry.is_directory)

    async def _require_root(self) -> None:
        """A folder that is not there has an empty listing, which proves nothing."""
        if self._scope.root != "/" and await self._source.lookup(self._scope.root) is None:
            raise SourceUnreachable(f"the watched folder {self._scope.root!r} does not exist on the filer")


def _nothing() -> None:
    return
