"""What a person decided about held deletes, looked for now and then, and carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from filerbackup.errors import StateError
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.planner import Operation, Planner
from filerbackup.pipeline.scheduler import Scheduler
from filerbackup.pipeline.watcher import Watcher

EVERY_S = 5.0


class Decisions:
    """One a session. `position` gives the low watermark."""

    def __init__(
        self,
        guard: Guard,
        planner: Planner,
        scheduler: Scheduler[Operation],
        watcher: Watcher,
        position: Callable[[], int],
    ) -> None:
        self._guard = guard
        self._planner = planner
        self._scheduler = scheduler
        self._watcher = watcher
        self._position = position
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Look every few seconds; a filer that is silent delays it and nothing else."""
        while True:
            try:
                await self.look()
            except StateError as error:
                self._watcher.complain("held deletes cannot be looked after, will be tried again", error)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Carry out a decision if there is one, and go on with what was allowed. Raises StateError."""
        async with self._one_at_a_time:
            await self._guard.decide()
            deletes = self._guard.deletes
            for number in deletes.to_carry_out():
                for delete in await deletes.begin(number):
                    refresh = self._planner.refresh(self._position(), delete.key, delete.path, look=True)
                    await self._scheduler.submit(refresh, partial(deletes.finish_one, number))
