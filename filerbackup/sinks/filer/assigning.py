"""File ids from the target's filer: callers that want one at the same moment share a request."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.filer.fileid import following
from filerbackup.sinks.filer.rules import Rules
from filerbackup.sinks.filer.target import Target

MOST_AT_ONCE = 64
_is_token = re.compile(r"[A-Za-z0-9._~+/=-]{0,4096}", re.ASCII).fullmatch

_Alike = tuple[tuple[str, ...], int]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one needle. `path_id` is what goes into the URL, `auth` the token for writing it."""

    file_id: str
    path_id: str
    server: str
    auth: str


@dataclass(slots=True)
class _Line:
    """Who waits for ids of one kind, and the task that asks for them."""

    waiting: list[tuple[str, asyncio.Future[Slot]]]
    task: asyncio.Task[None] | None = None


class FileIds:
    """Ids are never kept for later: a token for one lives for ten seconds, and a volume can fill up.

    Only files that the target stores alike share a request.
    """

    def __init__(self, target: Target, rules: Rules) -> None:
        self._target, self._rules = target, rules
        self._lines: dict[_Alike, _Line] = {}

    async def take(self, path: str, ttl_s: int) -> Slot:
        """An id for a chunk of the file `path`. Raises SinkFull, SinkRefused, SinkUnavailable."""
        of = (self._rules.group(path), ttl_s)
        line = self._lines.get(of)
        if line is None:
            line = self._lines[of] = _Line([])
        mine: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        line.waiting.append((path, mine))
        if line.task is None:
            line.task = asyncio.create_task(self._serve(of, line), name="assign file ids")
        return await mine

    async def close(self) -> None:
        """Stop asking; who still waits gets SinkUnavailable."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, of: _Alike, line: _Line) -> None:
        batch: list[tuple[str, asyncio.Future[Slot]]] = []
        try:
            # Everything that is ready now joins the first request.
            await asyncio.sleep(0)
            while line.waiting:
                batch, line.waiting = line.waiting[:MOST_AT_ONCE], line.waiting[MOST_AT_ONCE:]
                batch = [each for each in batch if not each[1].done()]
                if batch:
                    await self._fill(batch, of[1])
        finally:
            line.task = None
            self._lines.pop(of, None)
            for _, future in (*batch, *line.waiting):
                if not future.done():
                    future.set_exception(SinkUnavailable("the sink was closed meanwhile"))

    async def _fill(self, batch: list[tuple[str, asyncio.Future[Slot]]], ttl_s: int) -> None:
        try:
            answer = await self._target.assign(batch[0][0], len(batch), ttl_s)
            if not _is_token(answer.auth):
                raise ValueError("its token is none")
            slots = [
                Slot(
                    following(answer.file_id, number),
                    f"{answer.file_id}_{number}" if number else answer.file_id,
                    answer.location.url,
                    answer.auth,
                )
                for number in range(min(len(batch), max(1, answer.count)))
            ]
        except ValueError as error:
            failure: SinkError = SinkUnavailable(f"the target's filer assigns a bad file id: {error}")
            slots = []
        except SinkError as error:
            failure, slots = error, []
        else:
            failure = SinkUnavailable("the target's filer assigned fewer file ids than were asked for")
        for number, (_, future) in enumerate(batch):
            if future.done():
                continue
            if number < len(slots):
                future.set_result(slots[number])
            else:
                future.set_exception(type(failure)(str(failure), hint=failure.hint))
