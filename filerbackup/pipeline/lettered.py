"""The dead letters of one (source folder, sink) while a session runs: left, settled, forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace

from filerbackup.pipeline.claims import Claim
from filerbackup.pipeline.planner import Move, Operation
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import DeadLetter, DeadLetterStore

_LONGEST_REASON = 500


class Lettered:
    """One a session. Letters are durable when `give_up` returns, and go only when a success is durable."""

    def __init__(self, store: DeadLetterStore, watcher: Watcher) -> None:
        self._store = store
        self._watcher = watcher
        self._by_key: dict[str, str] = {}
        self._settled: list[str] = []
        self._one_at_a_time = asyncio.Lock()

    def know(self, letters: Iterable[DeadLetter]) -> None:
        """The letters that there are already."""
        self._by_key.update((letter.key, letter.letter_id) for letter in letters)

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
                self._by_key[letter.key] = letter.letter_id
        for letter in letters:
            self._watcher.dead_letter(letter)

    def settle(self, operation: Operation) -> None:
        """The operation is done: letters of what it covers are needless."""
        if not self._by_key:
            return
        claims = operation.claims
        for key in [key for key in self._by_key if any(claim.covers(Claim(key, True)) for claim in claims)]:
            self._settled.append(self._by_key.pop(key))
            self._watcher.settled(key)

    def take_settled(self) -> list[str]:
        """Letters that a success has made needless; `forget` them once that is durable."""
        settled, self._settled = self._settled, []
        return settled

    async def forget(self, settled: Iterable[str]) -> None:
        """Remove letters, but for those whose key has become one again meanwhile. Raises StateError."""
        async with self._one_at_a_time:
            for letter_id in settled:
                if letter_id not in self._by_key.values():
                    await self._store.remove(letter_id)
