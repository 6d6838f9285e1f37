"""Held deletes: what is recorded of them on the filer, and what a person's decision makes of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from filerbackup.pipeline.removals import Keys
from filerbackup.state.base import Decision, DeleteWish, GuardRecord, HeldDelete, HeldStore

BATCH = 1000
_BATCH_CHARACTERS = 256 << 10
"""Some filer stores take no entry of more than about a megabyte."""
_FULL_ENOUGH = 100
"""A batch with fewer deletes is written again with the next ones, rather than another beside it."""


class HeldDeletes:
    """One a session. `record` is what is, or is to be, stored beside the batches.

    `carried_out`: allowed batches that are done; `forget` them once that is durable.

    Batches have ascending numbers; those after a decision have higher ones than those before it.
    """

    def __init__(self, store: HeldStore) -> None:
        self._store = store
        self.record = GuardRecord()
        self._held, self._kept = Keys(), Keys()
        self._pending: deque[HeldDelete] = deque()
        self._open: list[HeldDelete] = []
        self._last = 0
        self._rest: dict[int, int] = {}
        self.carried_out: list[int] = []

    async def load(self) -> GuardRecord:
        """Go on with what is on the filer; returns the record as it is there. Raises StateError."""
        record = await self._store.load()
        self._last = max((record.decided_to, *record.allowed))
        held, found = 0, set()
        async for number, deletes in self._store.batches():
            self._last = max(self._last, number)
            found.add(number)
            if number in record.allowed:
                continue
            waits = number > record.decided_to
            keys = self._held if waits else self._kept
            added = sum(keys.add(delete.key) for delete in deletes)
            held += added if waits else 0
        # Batches are written before the record: a crash in between must not set them free.
        since_ns = (record.tripped_ns or time.time_ns()) if held else record.tripped_ns
        allowed = tuple(number for number in record.allowed if number in found)
        self.record = replace(record, held=held, tripped_ns=since_ns, allowed=allowed)
        return record

    # -- holding ----------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many are not recorded yet."""
        return len(self._pending)

    def hold(self, key: str, path: str, ts_ns: int) -> None:
        """Take one in; `ts_ns` is its position in the log, 0 for what a comparison found."""
        known = not self._held.add(key)
        if not known:
            self._pending.append(HeldDelete(key, path))
        self.record = replace(
            self.record,
            held=self.record.held + (not known),
            held_until_ns=max(self.record.held_until_ns, ts_ns),
        )

    def is_held(self, key: str) -> bool:
        """Whether the key waits for a decision."""
        return key in self._held

    def is_kept(self, key: str) -> bool:
        """Whether a person said that the copy stays."""
        return key in self._kept

    def holds_below(self, key: str) -> bool:
        """Whether something below the key waits for a decision."""
        return self._held.below(key)

    def keeps_below(self, key: str) -> bool:
        """Whether there is something below the key that a person said is to stay."""
        return self._kept.below(key)

    async def write(self) -> None:
        """Record what is pending. Raises StateError; what was not recorded stays pending."""
        while self._pending:
            if not self._open:
                self._last += 1
            more = self._next(BATCH - len(self._open))
            number = self._last
            await self._store.put(number, [*self._open, *more])
            for _ in more:
                self._pending.popleft()
            self._open = [*self._open, *more] if len(self._open) + len(more) < _FULL_ENOUGH else []
            if self._pending:
                self._open = []

    def _next(self, most: int) -> list[HeldDelete]:
        """The first of what is pending, as many as fit into a batch; at least one."""
        taken: list[HeldDelete] = []
        characters = 0
        for delete in islice(self._pending, most):
            characters += len(delete.key) + len(delete.path)
            if taken and characters > _BATCH_CHARACTERS:
                break
            taken.append(delete)
        return taken

    # -- deciding ---------------------------------------------------------------------------------

    def decide(self, wish: DeleteWish) -> None:
        """Make of the recorded batches what a person wants. Nothing may be pending."""
        record, last = self.record, self._last
        waiting = [*range(record.decided_to + 1, last + 1)]
        if wish.kept:
            waiting = [number for number in range(1, last + 1) if number not in record.allowed]
        if wish.decision is Decision.ALLOW:
            record = replace(
                record, allowed=(*record.allowed, *waiting), allowed_until_ns=record.held_until_ns
            )
            self._kept = Keys() if wish.kept else self._kept
        else:
            record = replace(record, kept_until_ns=record.held_until_ns)
            self._kept.update(self._held)
        self._held, self._open = Keys(), []
        self.record = replace(record, tripped_ns=0, held=0, decided_to=last, answered_ns=wish.asked_ns)

    # -- carrying out what is allowed ---------------------------------------------------------------

    def to_carry_out(self) -> list[int]:
        """Allowed batches that were not begun."""
        return [number for number in self.record.allowed if number not in self._rest]

    async def begin(self, number: int) -> Sequence[HeldDelete]:
        """The deletes of an allowed batch; call `finish_one` for each that is done. Raises StateError."""
        deletes = await self._store.read(number)
        self._rest[number] = len(deletes)
        if not deletes:
            self.carried_out.append(number)
        return deletes

    def finish_one(self, number: int) -> None:
        """One delete of the batch is done (durable at the next flush, or a dead letter)."""
        self._rest[number] -= 1
        if not self._rest[number]:
            self.carried_out.append(number)

    async def forget(self, done: Sequence[int]) -> None:
        """Drop batches. Raises StateError."""
        for number in done:
            await self._store.remove(number)
            if number in self.carried_out:
                self.carried_out.remove(number)
        left = tuple(number for number in self.record.allowed if number not in done)
        self.record = replace(self.record, allowed=left)
