"""Deletes that come close together go to the service as one request."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence

from filerbackup.errors import FilerBackupError, LeaseLost, SinkError, SinkUnavailable
from filerbackup.sinks.objects.store import Store

LINGER_S = 0.005
"""How long the first of a batch waits for others."""
_log = logging.getLogger(__name__)


class Deletes:
    """Collects names into bulk deletes, where the service has such. `close` ends what runs.

    So many requests run at once as the service's traits say; more names wait, and so make larger batches.
    """

    def __init__(self, store: Store, may_change: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._may_change = may_change
        self._most_names = store.traits.bulk_names
        self._waiting: dict[str, asyncio.Future[FilerBackupError | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def delete(self, names: Iterable[str]) -> None:
        """Remove objects; absent ones are fine. Raises the first error of those that failed."""
        answers = {name: self._add(name) for name in names}
        if not answers:
            return
        try:
            await asyncio.wait(answers.values())
        except asyncio.CancelledError:
            # What was not sent yet must not be deleted behind a later write of the same object.
            for name, answer in answers.items():
                if self._waiting.get(name) is answer:
                    del self._waiting[name]
            raise
        for answer in answers.values():
            error = answer.result()
            if error is not None:
                raise error

    async def close(self) -> None:
        """End all requests; who still waits gets SinkUnavailable."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(_closed())
        self._waiting.clear()

    def _add(self, name: str) -> asyncio.Future[FilerBackupError | None]:
        answer = self._waiting.get(name)
        if answer is not None:
            return answer
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        if self._closed:
            answer.set_result(_closed())
            return answer
        self._waiting[name] = answer
        if len(self._waiting) >= self._most_names:
            self._send()
        elif self._timer is None:
            self._timer = loop.call_later(LINGER_S, self._send)
        return answer

    def _send(self) -> None:
        """Begin as many requests as may run; the rest is sent when one of them ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._running) < self._store.traits.delete_lanes:
            names = list(itertools.islice(self._waiting, self._most_names))
            batch = {name: self._waiting.pop(name) for name in names}
            task = asyncio.create_task(self._carry_out(batch), name="deletes")
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._closed:
            self._send()

    async def _carry_out(self, batch: dict[str, asyncio.Future[FilerBackupError | None]]) -> None:
        failed: dict[str, SinkError] = {}
        all_failed: FilerBackupError | None = _closed()
        try:
            self._may_change()
            failed = await self._delete(list(batch))
            all_failed = None
        except (SinkError, LeaseLost) as error:
            all_failed = error
        finally:
            for name, answer in batch.items():
                if not answer.done():
                    answer.set_result(all_failed or failed.get(name))

    async def _delete(self, names: Sequence[str]) -> dict[str, SinkError]:
        """Returns what failed; raises when all did."""
        if self._most_names > 1:
            failed = await self._store.delete_bulk(names)
            if failed is not None:
                return failed
            _log.warning("the service has no bulk delete: objects are deleted one by one")
            self._most_names = 1
        failed = {}
        for name in names:
            self._may_change()
            try:
                await self._store.delete(name)
            except SinkError as error:
                failed[name] = error
        return failed


def _closed() -> SinkError:
    return SinkUnavailable("the sink was closed")
