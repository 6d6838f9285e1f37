"""Dead letters that a person asked to try again, looked for now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from filerbackup.errors import StateError
from filerbackup.pipeline.planner import Operation, Planner
from filerbackup.pipeline.scheduler import Scheduler
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import DeadLetterStore

EVERY_S = 5.0


class Retries:
    """One a session. `position` gives the low watermark.

    What is tried is what the live filer has by then, not the old change; a success settles the letter.
    """

    def __init__(
        self,
        letters: DeadLetterStore,
        planner: Planner,
        scheduler: Scheduler[Operation],
        watcher: Watcher,
        position: Callable[[], int],
    ) -> None:
        self._letters = letters
        self._planner = planner
        self._scheduler = scheduler
        self._watcher = watcher
        self._position = position
        self._under_way: set[str] = set()

    async def run(self) -> None:
        """Look every few seconds; a filer that is silent delays it and nothing else."""
        while True:
            try:
                await self.look()
            except StateError as error:
                self._watcher.complain("dead letters cannot be looked for, will be tried again", error)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Queue a try for each letter that one is asked for. Raises StateError."""
        for letter in await self._letters.all():
            if letter.retry_requested and letter.letter_id not in self._under_way:
                self._under_way.add(letter.letter_id)
                operation = self._planner.refresh(self._position(), letter.key, letter.path)
                await self._scheduler.submit(operation, partial(self._under_way.discard, letter.letter_id))
