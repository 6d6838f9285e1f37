"""The delete guard: too many removals within a window, and from then on they are held, not carried out.

Removals of the log are counted when they are planned, in log order; those of whole directories, and
those of a comparison, when they are carried out, the latter after the live filer has confirmed each.
A removal that is held counts as done once it is recorded on the filer, which the checkpointer sees to
before it stores an offset. When a person allows it, each held key is refreshed: it becomes what the
live filer says of its path by then. When a person discards it, the key is kept: neither a comparison
nor a repeated part of the log removes it any more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from filerbackup.errors import ObjectRejected
from filerbackup.events import Change, Delete, Entry, Upsert
from filerbackup.pipeline.held import HeldDeletes
from filerbackup.pipeline.planner import Move, Operation, Refresh, Remove
from filerbackup.pipeline.removals import TreeSize, Window
from filerbackup.pipeline.scheduler import Replaces
from filerbackup.pipeline.watcher import Watcher
from filerbackup.settings.model import DeleteGuard
from filerbackup.state.base import Decision, GuardRecord, HeldStore

LEAST_BY_SHARE = 100
"""A share of a small tree is never less than this: the first deletes of a new folder hold nothing."""
COUNTS_EVERY_S = 60.0
"""Counts alone are stored this often: a crash forgets that much of them at most."""
TREE_IS_KNOWN_NS = 7 * 86_400_000_000_000


class Guard:
    """One a session.

    `directories`: the sink has real ones, so that a file cannot be where something is below.
    """

    def __init__(
        self,
        limits: DeleteGuard,
        store: HeldStore,
        watcher: Watcher,
        *,
        directories: bool,
    ) -> None:
        self._limits = limits
        self._store = store
        self._watcher = watcher
        self._directories = directories
        self._window = Window(int(limits.window_s * 1e9))
        self._moved_out = ""
        self._tree = TreeSize(int(limits.window_s * 1e9))
        self._saved = GuardRecord()
        self._counts_saved_at = time.monotonic()
        self._one_at_a_time = asyncio.Lock()
        self.deletes = HeldDeletes(store)

    async def load(self) -> None:
        """Go on with what is on the filer. Raises StateError."""
        record = self._saved = await self.deletes.load()
        self._tree.load(record.tree, record.tree_peak, record.tree_to_ns)
        self._window.load(record.counts, record.compared, record.counted_to_ns)
        self._tell()

    # -- removals ---------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether removals are held now."""
        return self.deletes.record.tripped_ns != 0

    @property
    def limit(self) -> int | None:
        """So many removals in a row are surely allowed; None: any number."""
        known = [self._limits.limit] if self._limits.limit else []
        if self._limits.share and self._tree.entries is not None:
            known.append(self._share_of(self._tree.entries))
        return min(known, default=None)

    def _share_of(self, entries: int) -> int:
        return max(LEAST_BY_SHARE, math.ceil(self._limits.share * entries))

    def _exceeds(self, ts_ns: int, count: int) -> tuple[int, int] | None:
        """How many removals of how many that are allowed, when they are too many.

        A number limits removals. A share limits by how much the tree shrinks: files that come and go
        are no loss. What comparisons remove nobody saw go, so it counts in full.
        """
        limits = self._limits
        if limits.limit and count > limits.limit:
            return count, limits.limit
        peak, entries = self._tree.peak_at(ts_ns), self._tree.entries
        if limits.share and peak is not None and entries is not None:
            allowed = self._share_of(peak)
            lost = max(peak - entries, self._window.compared_at(ts_ns))
            if lost > allowed:
                return lost, allowed
        return None

    def lets(self, operation: Operation, *, moved_out: bool = False) -> bool:
        """Whether an operation of the log goes on its way; False: it is held, or its copy is kept.

        `moved_out`: a removal because something went to where it is not copied; a directory comes
        before what is in it. Changes an operation that would take held or kept copies along.
        """
        if isinstance(operation, Move) and self.stands_below(operation.old_key):
            operation.whole = False
            if operation.entry.is_directory and self._directories and self.holds:
                self.hold_old(operation)
        return not isinstance(operation, Remove) or self._lets_remove(operation, moved_out)

    def _lets_remove(self, operation: Remove, moved_out: bool) -> bool:
        ts_ns, key, record = operation.ts_ns, operation.key, self.deletes.record
        if ts_ns <= record.kept_until_ns and self.deletes.is_kept(key):
            return False
        # What went through before deletes were held goes through again when the log repeats it: a
        # repeated write before it may just have brought the copy back.
        went_through = (
            not operation.tree and self._window.was_counted(ts_ns) and not self.deletes.is_held(key)
        )
        if self.holds and not went_through:
            return self._hold(key, operation.path, ts_ns)
        if operation.tree and self.stands_below(key):
            operation.tree, operation.replaces = False, Replaces.KEY
        if self.limit is None:
            return True
        if moved_out and self._moved_out and key.startswith(self._moved_out + "/"):
            operation.guarded = operation.counted = True
        elif operation.tree:
            # What is in it went before, comes later, or never: some stores drop a bucket and tell of the
            # bucket alone. So what is left in the sink by then counts, and nothing is joined with it.
            operation.guarded = True
            self._moved_out = key if moved_out else ""
        if operation.guarded:
            operation.replaces = operation.replaceable = Replaces.NOTHING
            return True
        if went_through or ts_ns <= record.allowed_until_ns:
            return True
        excess = self._exceeds(ts_ns, self._window.add(ts_ns))
        return excess is None or self._trip(*excess, key, operation.path, ts_ns)

    def admits(self, operation: Remove | Refresh, below: int = 0) -> bool:
        """Whether a guarded operation may remove its key now, with `below` objects that nobody counted.

        False: it is held, or its copy is kept.
        """
        key, compared = operation.key, isinstance(operation, Refresh)
        ts_ns = 0 if compared else operation.ts_ns
        if compared and self.deletes.is_kept(key):
            return False
        if self.holds:
            return self._hold(key, operation.path, ts_ns)
        if self.limit is None or operation.counted:
            return True
        count = self._window.add(operation.ts_ns, compared=compared)
        if below:
            # Nobody has told of these either.
            count = self._window.add(operation.ts_ns, below, compared=True)
        # Another try of the same one is not another removal.
        operation.counted = True
        excess = self._exceeds(operation.ts_ns, count)
        return excess is None or self._trip(*excess, key, operation.path, ts_ns)

    def blocks(self, key: str, entry: Entry, ts_ns: int) -> bool:
        """Whether a file cannot be written because held copies are below its name: it is held then too.

        Raises ObjectRejected when those copies are kept for good.
        """
        if not self._directories or entry.is_directory:
            return False
        if self.deletes.keeps_below(key):
            raise ObjectRejected(
                f"{entry.path} is a file now, and copies whose deletes were discarded are below its name: "
                "`filerbackup deletes allow --kept` removes them"
            )
        return self.deletes.holds_below(key) and not self._hold(key, entry.path, ts_ns)

    def hold_old(self, operation: Move) -> None:
        """Hold the removal of the old name of what could not be moved yet."""
        self._hold(operation.old_key, operation.old_path, operation.ts_ns)

    def spares(self, key: str) -> bool:
        """Whether a comparison need not look at the key: its removal is held, or its copy is kept."""
        return self.deletes.is_held(key) or self.deletes.is_kept(key)

    def stands_below(self, key: str) -> bool:
        """Whether something is held or kept below the key."""
        return self.deletes.holds_below(key) or self.deletes.keeps_below(key)

    def read_again(self) -> None:
        """The log is being opened again: what it repeats was counted."""
        self._window.read_again()

    def _trip(self, count: int, limit: int, key: str, path: str, ts_ns: int) -> bool:
        self.deletes.record = replace(self.deletes.record, tripped_ns=time.time_ns())
        self._watcher.logger.warning(
            "delete guard: %d deletes within %g s, where %d are allowed: deletes are held from now on, "
            "all else goes on (filerbackup deletes list, then allow or discard)",
            count, self._limits.window_s, limit,
        )  # fmt: skip
        self._watcher.reminds_of_held()
        return self._hold(key, path, ts_ns)

    def _hold(self, key: str, path: str, ts_ns: int) -> bool:
        self.deletes.hold(key, path, ts_ns)
        self._tell()
        return False

    def _tell(self) -> None:
        held = self._watcher.held = self.deletes.record.held
        if held and self._watcher.reminds_of_held():
            self._watcher.logger.warning(
                "delete guard: %d deletes are held (filerbackup deletes list, then allow or discard)", held
            )

    # -- the size of the tree ---------------------------------------------------------------------

    @property
    def wants_tree(self) -> bool:
        """Whether a share is asked for, and nobody knows of what."""
        record = self.deletes.record
        if not self._limits.share:
            return False
        return record.tree is None or time.time_ns() - record.tree_ns > TREE_IS_KNOWN_NS

    def tree_is(self, entries: int) -> None:
        """So many entries are in the live tree."""
        now_ns = time.time_ns()
        self._tree.counted(entries, now_ns)
        self.deletes.record = replace(self.deletes.record, tree=entries, tree_ns=now_ns)

    def sees(self, change: Change) -> None:
        """Follow the size of the tree."""
        match change:
            case Upsert(ts_ns=ts_ns, is_new=True):
                self._tree.changes(ts_ns, 1)
            case Delete(ts_ns=ts_ns):
                self._tree.changes(ts_ns, -1)
            case _:
                return

    # -- what is on the filer -----------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether something is to be stored."""
        return self.deletes.pending > 0 or self._wanted(now=False) != self._saved

    async def flush(self, offset_ns: int = 0, *, now: bool = False) -> None:
        """Record what is held; `now`: the latest counts too. No log position below the offset will come.

        Raises StateError.
        """
        async with self._one_at_a_time:
            await self._write(now=now, offset_ns=offset_ns)

    async def _write(self, *, now: bool, offset_ns: int = 0) -> None:
        await self.deletes.write()
        self._window.forget_before(offset_ns)
        wanted = self._wanted(now=now)
        if wanted != self._saved:
            await self._store.save(wanted)
            if wanted.counts is not self._saved.counts:
                self._counts_saved_at = time.monotonic()
            self._saved = wanted

    def _wanted(self, *, now: bool) -> GuardRecord:
        record, saved = self.deletes.record, self._saved
        due = now or time.monotonic() - self._counts_saved_at >= COUNTS_EVERY_S
        if due or record.tripped_ns != saved.tripped_ns:
            log, compared = self._window.saved()
            tree = self._tree
            return replace(
                record,
                counts=log,
                compared=compared,
                counted_to_ns=self._window.counted_to_ns,
                tree=tree.entries,
                tree_peak=tree.peak_at(tree.seen_to_ns) or 0,
                tree_to_ns=tree.seen_to_ns,
            )
        return replace(
            record,
            counts=saved.counts,
            compared=saved.compared,
            counted_to_ns=saved.counted_to_ns,
            tree=saved.tree if record.tree_ns == saved.tree_ns else record.tree,
            tree_peak=saved.tree_peak,
            tree_to_ns=saved.tree_to_ns,
        )

    async def decide(self) -> bool:
        """Carry out what a person asked for, if they did. Raises StateError."""
        wish = await self._store.wish()
        if wish is None:
            return False
        if wish.asked_ns != self.deletes.record.answered_ns:
            async with self._one_at_a_time:
                while self.deletes.pending:
                    await self.deletes.write()
                held = self.deletes.record.held
                self.deletes.decide(wish)
                self._window.clear()
                self._tree.settle()
                self._tell()
            verb = "are carried out" if wish.decision is Decision.ALLOW else "are discarded, the copies stay"
            self._watcher.logger.warning("delete guard: %d held deletes %s", held, verb)
        await self.flush(now=True)
        await self._store.forget_wish()
        return True

    @property
    def carried_out(self) -> Sequence[int]:
        """Allowed batches that are done; `forget` them once that is durable."""
        return tuple(self.deletes.carried_out)

    async def forget(self, done: Sequence[int]) -> None:
        """Drop batches that were carried out. Raises StateError."""
        if done:
            await self.deletes.forget(done)
