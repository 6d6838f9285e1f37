"""Where volumes are: the filer's answers, kept for a while, asked for in batches."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from filerbackup.errors import FilerBackupError, SourceUnreachable

Lookup = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[str]]]]
"""The filer's LookupVolume: volume ids → `host:port` of the servers that have each.

A volume that nobody has is absent from the answer; or, as the filer itself does it, the whole call
fails with a SourceUnreachable whose text says `volume id <n> not found`.
"""

KEEP_FOUND_S = 600.0
KEEP_MISSING_S = 1.0
_BATCH = 100
_LARGEST_CACHE = 100_000
_STOPPED = "the volume lookup was stopped"

# Only the master's own words count: "volume <n> not found" alone also follows when no master answered.
_MISSING = re.compile(r"volume id (\d+) not found", re.ASCII)
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9._-]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Known:
    servers: tuple[str, ...]
    until: float


class Locations:
    """Caches lookups; callers that miss the cache at the same moment share one request.

    Raises what the lookup raises (SourceUnreachable, SourceRefused).
    """

    def __init__(self, lookup: Lookup, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, asyncio.Future[tuple[str, ...]]] = {}
        self._unsent: dict[str, asyncio.Future[tuple[str, ...]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def cached(self, volume_id: str) -> tuple[str, ...] | None:
        """The servers of a volume as they were known not long ago, or None."""
        known = self._known.get(volume_id)
        if known is None or known.until < self._clock():
            return None
        return known.servers

    async def find(self, volume_id: str) -> tuple[str, ...]:
        """The servers of a volume; none when the cluster has no such volume."""
        found = self.cached(volume_id)
        if found is not None:
            return found
        answer = self._asked.get(volume_id)
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            # Nobody may be left to see a failure; it is not lost, the next caller asks again.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._enqueue(volume_id, answer)
        return await asyncio.shield(answer)

    def forget(self, volume_id: str, servers: Sequence[str]) -> None:
        """These servers did not have it: ask again next time, unless that was done already."""
        known = self._known.get(volume_id)
        if known is not None and known.servers == tuple(servers):
            del self._known[volume_id]

    async def close(self) -> None:
        """Stop asking; who still waits gets SourceUnreachable."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for volume_id, answer in list(self._asked.items()):
            self._settle(volume_id, answer, SourceUnreachable(_STOPPED))

    def _enqueue(self, volume_id: str, answer: asyncio.Future[tuple[str, ...]]) -> None:
        self._asked[volume_id] = answer
        self._unsent[volume_id] = answer
        if len(self._unsent) == 1:
            # Runs after everything that is ready now, which thereby joins the same request.
            task = asyncio.create_task(self._send(), name="volume lookup")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        wanted, self._unsent = self._unsent, {}
        volume_ids = list(wanted)
        try:
            for at in range(0, len(volume_ids), _BATCH):
                batch = volume_ids[at : at + _BATCH]
                try:
                    found = await self._ask(batch)
                except FilerBackupError as error:
                    for volume_id in batch:
                        copy = type(error)(str(error), hint=error.hint)
                        self._settle(volume_id, wanted[volume_id], copy)
                else:
                    for volume_id in batch:
                        servers = self._learn(volume_id, found.get(volume_id, ()))
                        self._settle(volume_id, wanted[volume_id], servers)
        finally:
            # Cancelled, or a failure that nobody foresaw: no caller waits for ever.
            for volume_id, answer in wanted.items():
                self._settle(volume_id, answer, SourceUnreachable(_STOPPED))

    async def _ask(self, batch: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """One missing volume fails the filer's whole answer: ask again without it."""
        wanted = list(batch)
        while wanted:
            try:
                return await self._lookup(wanted)
            except SourceUnreachable as error:
                missing = set(_MISSING.findall(str(error))).intersection(wanted)
                if not missing:
                    raise
                wanted = [volume_id for volume_id in wanted if volume_id not in missing]
        return {}

    def _learn(self, volume_id: str, servers: Sequence[str]) -> tuple[str, ...]:
        usable = tuple(server for server in servers if _HOST_AND_PORT.fullmatch(server))
        keep_s = KEEP_FOUND_S if usable else KEEP_MISSING_S
        if len(self._known) >= _LARGEST_CACHE:
            self._known.clear()
        self._known[volume_id] = _Known(usable, self._clock() + keep_s)
        return usable

    def _settle(
        self,
        volume_id: str,
        answer: asyncio.Future[tuple[str, ...]],
        outcome: tuple[str, ...] | FilerBackupError,
    ) -> None:
        if self._asked.get(volume_id) is answer:
            del self._asked[volume_id]
        if answer.done():
            return
        if isinstance(outcome, FilerBackupError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
