"""Threads for calls that block.

To hand one small step to a thread and its result back costs more than the step itself when the disk
is fast: two wake-ups, and the interpreter's lock changing hands. So short steps travel in batches,
one batch at a time (measured with steps of 40 µs: 18,000/s in one lane, 11,000/s in two, 8,000/s
each on its own). When batches show that steps really wait for the disk (a network file system, a
slow or busy disk), they travel alone for a second, each on a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")
_Step = tuple[Callable[[], Any], "asyncio.Future[Any]"]

_MOST = 64
_BATCH_S = 0.004
"""After so long a batch comes back with what it has done."""
_QUICK = 16
"""So many steps a batch must manage in that time for the disk to count as quick."""
_SLOW_BATCHES = 3
"""So many batches in a row must fail at it: a busy processor interrupts one now and then."""
_SPREAD_S = 1.0
STUCK_S = 60.0
"""A call into the file system cannot be cancelled; when none has come back for so long, that is said."""
REMIND_EVERY_S = 300.0
"""And said again so long after."""
_log = logging.getLogger(__name__)
_PATIENCE_S = 0.01
"""So long a step waits at most for a batch on the way to come back."""


class Workers:
    """A pool of threads, for one event loop. Create it inside that loop."""

    def __init__(self, threads: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="local-sink")
        self._waiting: deque[_Step] = deque()
        self._batches = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._slow_batches = 0
        self._spread_until = 0.0
        self._away = 0
        self._returned_at = 0.0
        self._look: asyncio.TimerHandle | None = None
        self._is_stuck = False
        self._said_at = 0.0

    async def short(self, step: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Run a step of a few system calls, together with others.

        Returns only when the step has ended, also when cancelled: else the next operation on the
        same key could overtake it. `undo` takes back what a step returned that nobody waits for.
        """
        future: asyncio.Future[_T] = self._loop.create_future()
        self._waiting.append((step, future))
        self._idle.clear()
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._dispatch)
        return await ended(future, undo)

    async def long(self, step: Callable[[], _T]) -> _T:
        """Run a step that may take its time, on a thread of its own; else as `short`."""
        self._leaves()
        future = self._loop.run_in_executor(self._pool, step)
        future.add_done_callback(lambda _done: self._returns())
        return await ended(future)

    async def close(self) -> None:
        """Wait until every step has ended. Nothing new may come."""
        await self._idle.wait()
        await ended(self._loop.run_in_executor(None, self._pool.shutdown))
        if self._look is not None:
            self._look.cancel()

    def _dispatch(self) -> None:
        """Send off what may go now, at the end of one turn of the loop: then it makes full batches."""
        self._is_scheduled = False
        most = 1 if self._loop.time() < self._spread_until else _MOST
        while self._waiting and (self._batches == 0 or most == 1):
            self._send(most)
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE_S, self._send_all)

    def _send_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._send(_MOST)

    def _send(self, most: int) -> None:
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._batches += 1
        self._leaves()
        self._pool.submit(self._work, batch)

    def _work(self, batch: Sequence[_Step]) -> None:
        """In a thread: carry out steps until the time is up."""
        done: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        ends_at = time.monotonic() + _BATCH_S
        for step, future in batch:
            try:
                done.append((future, step(), None))
            except BaseException as error:  # noqa: BLE001  handed to whoever waits for this step
                done.append((future, None, error))
            if time.monotonic() > ends_at:
                break
        self._loop.call_soon_threadsafe(self._settle, done, batch[len(done) :])

    def _settle(
        self, done: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]], left: Sequence[_Step]
    ) -> None:
        self._batches -= 1
        self._returns()
        for future, result, error in done:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        self._waiting.extendleft(reversed(left))
        self._judge(is_slow=bool(left) and len(done) < _QUICK)
        if self._waiting:
            self._dispatch()
        elif self._batches == 0:
            self._idle.set()

    def _leaves(self) -> None:
        """A call, or a batch of them, goes off to a thread."""
        self._away += 1
        if self._look is None:
            self._returned_at = self._loop.time()
            self._look = self._loop.call_later(STUCK_S, self._look_after)

    def _returns(self) -> None:
        self._away -= 1
        now = self._loop.time()
        if self._is_stuck:
            self._is_stuck = False
            _log.warning("the file system answers again after %.0f s", now - self._returned_at)
        self._returned_at = now

    def _look_after(self) -> None:
        """Say so when nothing has come back for long; a call into the kernel can only be waited for."""
        self._look = None
        if not self._away:
            return
        now = self._loop.time()
        silent_s = now - self._returned_at
        if silent_s >= STUCK_S and not (self._is_stuck and now - self._said_at < REMIND_EVERY_S):
            self._is_stuck = True
            self._said_at = now
            _log.error(
                "the file system has not answered for %.0f s, %d calls wait in it: is it on the network, "
                "and its server away? a second SIGTERM ends the process all the same",
                silent_s,
                self._away,
            )
        self._look = self._loop.call_later(max(STUCK_S - silent_s, STUCK_S / 10), self._look_after)

    def _judge(self, *, is_slow: bool) -> None:
        self._slow_batches = self._slow_batches + 1 if is_slow else 0
        if self._slow_batches >= _SLOW_BATCHES:
            self._slow_batches = 0
            self._spread_until = self._loop.time() + _SPREAD_S


async def ended(future: asyncio.Future[_T], undo: Callable[[_T], None] | None = None) -> _T:
    """Wait for a future to its end, also when cancelled; then `undo` its result."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        if future.exception() is None and undo is not None:
            undo(future.result())
        raise
