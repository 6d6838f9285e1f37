"""Dead letters that a person asked to try again, looked for now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from filerbackup.errors import StateError
from filerbackup.pipeline.planner import Operation, Planner
from filerbackup.pipeline.scheduler import Scheduler
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import DeadLetterStore

EVERY_S = 5.0
SHARE = 20
"""Where there are very many letters, no more than this part of the time is spent on reading them."""


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
        self._took_s = 0.0

    async def run(self) -> None:
        """Look every few seconds; a filer that is silent delays it and nothing else.

        What was asked for before this began is the business of who calls `look` at the start.
        """
        while True:
            await asyncio.sleep(max(EVERY_S, SHARE * self._took_s))
            try:
                await self.look()
            except StateError as error:
                self._watcher.complain("dead letters cannot be looked for, will be tried again", error)

    async def look(self) -> None:
        """Queue a try for each letter that one is asked for. Raises StateError."""
        began_at = time.monotonic()
        letters = await self._letters.all()
        self._took_s = time.monotonic() - began_at
        for letter in letters:
            if letter.retry_requested and letter.letter_id not in self._under_way:
                self._under_way.add(letter.letter_id)
                operation = self._planner.refresh(self._position(), letter.key, letter.path)
                await self._scheduler.submit(operation, partial(self._under_way.discard, letter.letter_id))
