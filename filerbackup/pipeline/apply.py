"""Carrying out one operation in the sink: one attempt, its classification, and what follows from it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from filerbackup.content import Content, InlineContent
from filerbackup.errors import (
    ChunkGone,
    FilerBackupError,
    LeaseLost,
    ObjectRejected,
    SinkError,
    SinkUnavailable,
    SourceUnreachable,
    StateError,
)
from filerbackup.events import Entry, EntryKind
from filerbackup.pipeline.budget import ByteBudget
from filerbackup.pipeline.clocks import CLOCKS_DIFFER_NS
from filerbackup.pipeline.garbage import Garbage
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.layout import Layout
from filerbackup.pipeline.lettered import Lettered
from filerbackup.pipeline.limiter import Limiter
from filerbackup.pipeline.metered import WORTH_METERING_BYTES, MeteredContent
from filerbackup.pipeline.overtaken import is_overtaken
from filerbackup.pipeline.planner import Move, Operation, Refresh, Remove, Write, is_kept
from filerbackup.pipeline.room import make_room
from filerbackup.pipeline.watcher import Watcher
from filerbackup.retry import Action, decide
from filerbackup.sinks.base import Sink
from filerbackup.source.base import Source
from filerbackup.state.base import DeadLetterStore

_log = logging.getLogger(__name__)
_NOTHING = InlineContent(b"")
_AFTER_THE_PROBE = 1.25
PROBE_KEY = ".filerbackup/probe"
ROOM_AFTER = 2
"""Failures of one object, of a sink that takes others, before it is looked for what is in its way."""
PROBE_AFTER = 3
"""Failures in a row with no success of anything before the sink is asked to take something of ours."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of the way, and where what fails is kept."""

    source: Source
    sink: Sink
    letters: DeadLetterStore


class Applier:
    """`attempt` is what the scheduler calls. Only LeaseLost and StateError leave it.

    `ahead_to_ns`: the sink may hold what came up to there in the log, because a walk or a look at the
    live filer has shown it, or a run that broke off has applied it. `before_tree_move` stores that for
    the change at a position of the log. `repeats_to_ns`: an earlier run may have been so far, whatever it
    has stored. `may_sweep`: what the source does not have may be removed, as the sink is marked as ours.
    """

    def __init__(
        self,
        ends: Ends,
        layout: Layout,
        *,
        budget: ByteBudget,
        limiter: Limiter,
        watcher: Watcher,
        guard: Guard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._sink = ends.source, ends.sink
        self._garbage = Garbage()
        self.letters = Lettered(ends.letters, watcher)
        self._layout = layout
        self._budget = budget
        self._limiter = limiter
        self._watcher = watcher
        self._guard = guard
        self._clock = clock
        self.ahead_to_ns = self.repeats_to_ns = 0
        self.may_sweep = False
        self.before_tree_move: Callable[[int], Awaitable[None]] = _unrecorded

    async def attempt(self, operation: Operation, number: int) -> float | None:
        """One try: None when the operation is done (or a dead letter), else seconds until the next."""
        delay_s = await self._attempt(operation, number)
        self._garbage.collect()
        return delay_s

    async def _attempt(self, operation: Operation, number: int) -> float | None:
        began_at = self._clock()
        if operation.sink_took < 0:
            operation.sink_took = self._limiter.successes
        self._watcher.begun(operation)
        try:
            copied_bytes = await self._carry_out(operation)
        except (LeaseLost, StateError):
            raise
        except FilerBackupError as error:
            if await self._is_overtaken(operation, number, error):
                return self._leave_out(operation)
            return await self._failed(operation, number, error, began_at)
        except Exception as error:  # noqa: BLE001  a defect met by one object must not stop the others
            _log.exception("unexpected failure", extra={"path": operation.path})
            return await self._failed(operation, number, error, began_at)
        self._limiter.succeeded()
        self._watcher.done(operation, copied_bytes)
        if not (isinstance(operation, Move) and operation.overtaken):
            self.letters.settle(operation)
        return None

    async def _is_overtaken(self, operation: Operation, number: int, error: FilerBackupError) -> bool:
        if self._layout.keeps_deleted:
            return False
        ahead_to_ns = max(self.ahead_to_ns, self.repeats_to_ns)
        return await is_overtaken(self._source, operation, number, error, ahead_to_ns=ahead_to_ns)

    def _leave_out(self, operation: Operation) -> float | None:
        """Dead letters stay: it is the change to come that settles them."""
        _log.info(
            "skipped: the source has already replaced or removed this version", extra={"path": operation.path}
        )
        if isinstance(operation, Move):
            operation.overtaken = True
            return 0.0
        self._watcher.overtaken(operation)
        return None

    # -- what is to be done -----------------------------------------------------------------------

    async def _carry_out(self, operation: Operation) -> int | None:
        """Do it; returns how many bytes of content went through here, None when nothing was to be done."""
        match operation:
            case Write(key=key, entry=entry, listed=listed, look=look, thorough=thorough):
                if (look or listed is not None) and not self._lacks_body(entry):
                    listed = listed or await self._sink.stat(key)
                    if listed is not None:
                        if await self._sink.matches(listed, entry, thorough=thorough):
                            return None
                        operation.attributes_only |= thorough
                if self._guard.blocks(key, entry, operation.ts_ns):
                    return None
                if operation.attributes_only and await self._update(key, entry):
                    return 0
                return await self._write(key, entry)
            case Remove():
                return await self._remove(operation)
            case Move():
                return await self._move(operation)
            case Refresh():
                return await self._refresh(operation)
        return 0

    async def _remove(self, operation: Remove) -> int | None:
        if operation.guarded:
            below = await self._below(operation.key) if operation.tree and not operation.counted else 0
            if not self._guard.admits(operation, below):
                return None
        if operation.tree:
            await self._sink.delete_tree(operation.key)
        else:
            await self._sink.delete(operation.key)
        return 0

    async def _below(self, key: str) -> int:
        """How many objects are below a key, counted no further than what is surely too much."""
        most, count = self._guard.limit or 0, 0
        async with aclosing(self._sink.list(key + "/")) as objects:
            async for _ in objects:
                count += 1
                if count > most:
                    break
        return count

    async def _update(self, key: str, entry: Entry) -> bool:
        if entry.kind is not EntryKind.FILE or not self._sink.capabilities.update:
            return False
        return await self._sink.update(key, entry)

    async def _write(self, key: str, entry: Entry) -> int | None:
        try:
            return await self._copy(key, entry)
        except ChunkGone as error:
            newer = await self._superseded_by(entry, error)
            return None if newer is None else await self._copy(key, newer)

    async def _copy(self, key: str, entry: Entry) -> int | None:
        if entry.is_remote_only:
            return await self._copy_remote(key, entry)
        content = self._source.content(entry)
        if self._lacks_body(entry):
            await self._sink.write(key, entry, _NOTHING)
            raise _lacking_body(entry)
        in_sink = min(content.size, self._sink.capabilities.write_buffer_bytes)
        async with self._budget.hold(content.memory_bytes + in_sink):
            await self._sink.write(key, entry, self._metered(content))
        return content.size

    def _lacks_body(self, entry: Entry) -> bool:
        """Whether it is a directory with content of its own, which this sink cannot hold."""
        return entry.is_directory and entry.has_body and not self._sink.capabilities.directory_bodies

    async def _copy_remote(self, key: str, entry: Entry) -> int | None:
        """None: it is left out, or in the sink since before the filer dropped its own copy."""
        listed = await self._sink.stat(key)
        if listed is not None and (listed.size, listed.mtime_ns) == (entry.size, entry.mtime_ns):
            return None
        fetched = await self._source.fetch(entry)
        return None if fetched is None else await self._copy(key, fetched)

    def _metered(self, content: Content) -> Content:
        report = self._watcher.advanced
        return MeteredContent(content, report) if content.size >= WORTH_METERING_BYTES else content

    async def _superseded_by(self, entry: Entry, gone: ChunkGone) -> Entry | None:
        """What to write instead of an entry with a missing chunk; None when a later change covers it.

        Raises ChunkGone again when the live filer still has this very version: then it is damaged.
        """
        live = await self._source.lookup(entry.path)
        if live is None or live.mtime_ns > entry.mtime_ns or _is_past(live.bytes_end_ns):
            _log.info(
                "skipped: the source has already replaced, removed or outlived this version",
                extra={"path": entry.path},
            )
            self._watcher.counters.superseded += 1
            return None
        if (live.chunks, live.content) == (entry.chunks, entry.content):
            raise type(gone)(f"content is gone, though the filer still has this version: {gone}")
        return live

    async def _move(self, operation: Move) -> int | None:
        key, old_key, entry = operation.key, operation.old_key, operation.entry
        capabilities = self._sink.capabilities
        if operation.overtaken:
            await self._sink.delete(old_key)
            return None
        if self._guard.blocks(key, entry, operation.ts_ns):
            self._guard.hold_old(operation)
            return None
        movable = capabilities.move
        if entry.is_directory:
            # What came later below the old name must not go along.
            is_alone = operation.ts_ns > self.ahead_to_ns and not operation.repeated
            movable = capabilities.move_tree and operation.whole and is_alone
            if movable:
                await self._note_tree_move(operation.ts_ns)
        if movable and await self._sink.move(old_key, key, entry):
            if self._lacks_body(entry):
                raise _lacking_body(entry)
            return 0
        copied: int | None = 0
        # Written first and removed second, so that a crash in between leaves the entry visible.
        if not (capabilities.move_tree and await self._is_there(key, entry)):
            copied = await self._write(key, entry)
        if not entry.is_directory:
            await self._sink.delete(old_key)
        elif capabilities.move_tree and operation.whole:
            await self._sink.delete_tree(old_key)
        else:
            # What is below it moves by itself, or stays.
            await self._sink.delete(old_key)
        return copied

    async def _note_tree_move(self, ts_ns: int) -> None:
        try:
            await self.before_tree_move(ts_ns)
        except StateError as error:
            # To be tried again like anything that the filer does not answer, and no end of the session.
            raise SourceUnreachable(f"the checkpoint cannot be stored: {error}") from error

    async def _is_there(self, key: str, entry: Entry) -> bool:
        """Whether an earlier move of its directory has brought this entry along."""
        listed = await self._sink.stat(key)
        return listed is not None and await self._sink.matches(listed, entry)

    async def _refresh(self, operation: Refresh) -> int | None:
        key = operation.key
        live = await self._source.lookup(operation.path)
        if live is None:
            return await self._remove_refreshed(operation, tree=operation.tree)
        if self._layout.key(live) != key:
            return 0
        if not is_kept(live, self._sink.capabilities):
            return await self._remove_refreshed(operation, tree=False)
        listed = await self._sink.stat(key)
        if operation.look and listed is not None and await self._sink.matches(listed, live):
            return None
        if self._guard.blocks(key, live, operation.ts_ns):
            return None
        was_directory = operation.guarded and operation.tree
        if listed is not None and live.is_directory != (was_directory or listed.kind is EntryKind.DIRECTORY):
            # A bucket has room for both, so that a write of one leaves the other there.
            await self._sink.delete(key)
        self.ahead_to_ns = max(self.ahead_to_ns, time.time_ns() + CLOCKS_DIFFER_NS)
        if operation.changes and listed is not None and await self._update(key, live):
            return 0
        return await self._write(key, live)

    async def _remove_refreshed(self, operation: Refresh, *, tree: bool) -> int | None:
        if self._layout.keeps_deleted:
            return 0
        if operation.guarded and not self._guard.admits(operation):
            return None
        if tree and not self._guard.stands_below(operation.key):
            await self._sink.delete_tree(operation.key)
        else:
            await self._sink.delete(operation.key)
        self._watcher.counters.swept += operation.guarded
        return 0

    # -- what went wrong --------------------------------------------------------------------------

    async def _failed(
        self, operation: Operation, number: int, error: Exception, began_at: float
    ) -> float | None:
        if isinstance(operation, Write | Move):
            self._garbage.left(operation.entry.size)
        took, operation.sink_took = operation.sink_took, self._limiter.successes
        others_succeed = self._limiter.successes > took or await self._sink_works(error)
        decision = decide(
            error,
            operation.failures + 1,
            others_succeed=others_succeed,
            outages=self._limiter.outages,
            random=random.random,
        )
        self._watcher.failed(operation, error, decision.action)
        match decision.action:
            case Action.THROTTLE:
                self._limiter.throttled(began_at)
                return decision.delay_s
            case Action.OUTAGE:
                self._limiter.failed(began_at, decision.delay_s)
                # Others first: if they go through, the fault was this object's.
                return decision.delay_s * _AFTER_THE_PROBE
            case Action.RETRY:
                operation.failures += 1
                if operation.failures >= ROOM_AFTER and isinstance(error, SinkUnavailable):
                    await self._make_room(operation)
                return decision.delay_s
            case Action.DEAD_LETTER:
                await self.letters.give_up(operation, number, error)
                return None

    async def _make_room(self, operation: Operation) -> None:
        if self._layout.keeps_deleted or not self.may_sweep or self._sink.capabilities.move_tree:
            return
        try:
            removed = await make_room(self._source, self._sink, self._guard, operation)
        except (LeaseLost, StateError):
            raise
        except FilerBackupError as error:
            _log.debug("no room could be made", extra={"path": operation.path, "err": str(error)})
        else:
            self._watcher.counters.swept += removed

    async def _sink_works(self, error: Exception) -> bool:
        """When nothing else is there to show it: whether the sink takes something of our own."""
        if self._limiter.outages < PROBE_AFTER or not isinstance(error, SinkUnavailable):
            return False
        try:
            await self._sink.write_own(PROBE_KEY, b"")
        except SinkError:
            return False
        return True


async def _unrecorded(_: int) -> None:
    """Where no run repeats what another one did."""


def _is_past(end_ns: int | None) -> bool:
    return end_ns is not None and time.time_ns() > end_ns - CLOCKS_DIFFER_NS


def _lacking_body(entry: Entry) -> ObjectRejected:
    return ObjectRejected(
        f"{entry.path} is a directory with {entry.size} bytes of content of its own, "
        "which this sink cannot hold beside what is below it"
    )
