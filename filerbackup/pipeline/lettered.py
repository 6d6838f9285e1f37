"""The dead letters of one (source folder, sink) while a session runs: left, settled, forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace

from filerbackup.pipeline.planner import Move, Operation, Refresh, Remove
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import DeadLetter, DeadLetterStore, letter_id_of

_LONGEST_REASON = 500


class Lettered:
    """One a session. Letters are durable when `give_up` returns, and go only when a success is durable."""

    def __init__(self, store: DeadLetterStore, watcher: Watcher) -> None:
        self._store = store
        self._watcher = watcher
        self._known = _Keys()
        self._settled: list[str] = []
        self._one_at_a_time = asyncio.Lock()

    def know(self, letters: Iterable[DeadLetter]) -> None:
        """The letters that there are already."""
        for letter in letters:
            self._known.add(letter.key)

    async def give_up(self, operation: Operation, attempts: int, error: Exception) -> None:
        """Leave a letter for what could not be done. Raises StateError."""
        now_ns = time.time_ns()
        reason = self._watcher.clean(" ".join(str(error).split()))[:_LONGEST_REASON] or type(error).__name__
        letter = DeadLetter(
            key=operation.key,
            path=operation.path,
            action=type(operation).__name__.lower(),
            reason=reason,
            ts_ns=operation.ts_ns,
            attempts=attempts,
            first_failed_ns=now_ns,
            last_failed_ns=now_ns,
        )
        letters = [letter]
        if isinstance(operation, Move):
            # The copy stays under its old name, which is not done either.
            stays = f"the copy stays, because its new name was given up: {reason}"
            old_key, old_path = operation.old_key, operation.old_path
            letters.append(replace(letter, key=old_key, path=old_path, action="remove", reason=stays))
        async with self._one_at_a_time:
            for letter in letters:
                await self._store.put(letter)
                self._known.add(letter.key)
        for letter in letters:
            self._watcher.dead_letter(letter)

    def settle(self, operation: Operation) -> None:
        """The operation is done: letters of what it covers are needless."""
        if not self._known:
            return
        for claim in operation.claims:
            tree = claim.exclusive and not _leaves_alone_below(operation)
            for key in self._known.at(claim.key, tree=tree):
                self._known.remove(key)
                self._settled.append(key)
                self._watcher.settled(key)

    def take_settled(self) -> list[str]:
        """Keys whose letters a success has made needless; `forget` them once that is durable."""
        settled, self._settled = self._settled, []
        return settled

    async def forget(self, settled: Iterable[str]) -> None:
        """Remove the letters of these keys, but for what was given up again meanwhile. Raises StateError."""
        async with self._one_at_a_time:
            for key in settled:
                if key not in self._known:
                    await self._store.remove(letter_id_of(key))


def _leaves_alone_below(operation: Operation) -> bool:
    """Whether what is below its key is as it was, though nothing else may be done there meanwhile."""
    match operation:
        case Refresh():
            return True
        case Remove(tree=tree):
            return not tree
        case _:
            return False


class _Keys:
    """The keys with letters, and those of them that lie below a key, found by look-ups alone.

    `_below` has, for each key above one with a letter, the next keys on the way down.
    """

    def __init__(self) -> None:
        self._lettered: set[str] = set()
        self._below: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._lettered)

    def __contains__(self, key: str) -> bool:
        return key in self._lettered

    def add(self, key: str) -> None:
        """Absent or not."""
        self._lettered.add(key)
        above = key.rpartition("/")[0]
        while above:
            below = self._below.get(above)
            if below is not None:
                below.add(key)
                return
            self._below[above] = {key}
            key, above = above, above.rpartition("/")[0]

    def at(self, key: str, *, tree: bool) -> list[str]:
        """Those with letters: this one, and with `tree` those below it."""
        found = [key] if key in self._lettered else []
        places = [key] if tree and key in self._below else []
        while places:
            for below in self._below[places.pop()]:
                if below in self._lettered:
                    found.append(below)
                if below in self._below:
                    places.append(below)
        return found

    def remove(self, key: str) -> None:
        """The key is there."""
        self._lettered.remove(key)
        while key not in self._below and key not in self._lettered:
            above = key.rpartition("/")[0]
            if not above:
                break
            self._below[above].discard(key)
            if self._below[above]:
                break
            del self._below[above]
            key = above
