"""Storing how far we are: flush the sink first, then the checkpoint, then what that makes needless."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from filerbackup.errors import StateError
from filerbackup.pipeline.apply import Applier
from filerbackup.pipeline.fence import Fence
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.watcher import Watcher
from filerbackup.sinks.base import Sink
from filerbackup.state.base import Checkpoint, CheckpointStore

EVERY_S = 3.0
TREE_MOVES_AHEAD_NS = 1_000_000_000
"""Of the log: renames of directories within it share one note."""


class Checkpointer:
    """One a session. `position` gives the checkpoint as of now; only its offsets are compared."""

    def __init__(
        self,
        store: CheckpointStore,
        sink: Sink,
        applier: Applier,
        guard: Guard,
        position: Callable[[], Checkpoint],
        watcher: Watcher,
        fence: Fence,
    ) -> None:
        self._store, self._sink, self._applier, self._guard = store, sink, applier, guard
        self._position = position
        self._watcher = watcher
        self._fence = fence
        self._saved: Checkpoint | None = None
        self._settled: list[str] = []
        self._one_at_a_time = asyncio.Lock()
        self.tree_moves_to_ns = 0

    @property
    def saved_offset_ns(self) -> int:
        """The offset that is stored, 0 before the first save."""
        return self._saved.offset_ns if self._saved else 0

    async def run(self) -> None:
        """Save every few seconds while something moves.

        A filer that is silent delays a checkpoint and nothing else. A sink that fails to flush may
        have lost what was written: that error ends the session, and the next one starts from the
        stored checkpoint.
        """
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.save()
            except StateError as error:
                self._watcher.complain("checkpoint not stored, will be tried again", error)

    async def expect_tree_move(self, ts_ns: int) -> None:
        """Before a directory moves as a whole: note that the sink may be past that in the log.

        What comes later below the old name may be in the sink when a crash lets the move be repeated,
        and must not go along then. Raises StateError, LeaseLost.
        """
        if ts_ns <= self.tree_moves_to_ns:
            return
        async with self._one_at_a_time:
            to_ns = max(self.tree_moves_to_ns, ts_ns + TREE_MOVES_AHEAD_NS)
            saved = self._saved or self._position()
            saved = replace(saved, ahead_to_ns=max(saved.ahead_to_ns, to_ns))
            self._fence.check()
            await self._store.save(replace(saved, updated_ns=time.time_ns()))
            self._saved, self.tree_moves_to_ns = saved, to_ns

    async def save(self, *, force: bool = False, last: bool = False) -> None:
        """Flush, then store. Raises StateError, LeaseLost, or what the sink's flush raises.

        `last`: nothing comes after it, so that what can wait otherwise is stored too.
        """
        async with self._one_at_a_time:
            position = self._position()
            # Kept until it is forgotten for good: a save can break off, or be cancelled, at any point.
            self._settled += self._applier.letters.take_settled()
            settled, carried_out = tuple(self._settled), self._guard.carried_out
            moved = self._saved is None or replace(position, updated_ns=0) != replace(
                self._saved, updated_ns=0
            )
            if not (moved or settled or carried_out or force or last or self._guard.has_news):
                return
            await self._sink.flush()
            # Whoever has lost the lease must not tell of its work any more: another one repeats it.
            self._fence.check()
            # What is held counts as done at this position: it is recorded before that is stored.
            await self._guard.forget(carried_out)
            await self._guard.flush(position.offset_ns, now=last)
            if moved or force:
                self._fence.check()
                await self._store.save(replace(position, updated_ns=time.time_ns()))
                self._saved = position
            await self._applier.letters.forget(settled)
            del self._settled[: len(settled)]
