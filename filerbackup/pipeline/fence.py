"""No step in the sink without the lease: also not after the process stood still for a while.

A timer ends the session before the lease runs out. But a process that was stopped (SIGSTOP, a paused
machine, a very long page fault) comes back with answers and timers that all fell due meanwhile, and
the loop may run what was waiting for the sink before it runs that timer. So the lease's clock is
looked at each time that a call to the sink goes on, before it does anything more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from filerbackup.content import Content
from filerbackup.errors import LeaseLost
from filerbackup.events import Entry
from filerbackup.sinks.base import Fenceable, Sink
from filerbackup.sinks.wrapper import ReadsThrough

T = TypeVar("T")


class Fence:
    """`left_s`: how long writing is still safe, by a clock that goes on while the machine sleeps."""

    def __init__(self, left_s: Callable[[], float]) -> None:
        self._left_s = left_s

    def check(self) -> None:
        """Raises LeaseLost. May be called from any thread."""
        left_s = self._left_s()
        if left_s <= 0:
            raise LeaseLost(f"the lease could not be renewed in time ({-left_s:.1f} s ago)")


class _Fenced(Generic[T]):
    """Awaits a coroutine, and looks at the lease before each of its steps.

    Once it is lost the coroutine is cancelled where it waits, and may clean up: nothing else is safe
    there, since locks and semaphores hand on what they had just granted only when they see a
    cancellation. To the outside that is LeaseLost.
    """

    def __init__(self, steps: Coroutine[Any, Any, T], fence: Fence) -> None:
        self._steps = steps
        self._fence = fence

    def __await__(self) -> Generator[Any, Any, T]:
        steps, lost, cancelled = self._steps, None, False
        try:
            self._fence.check()
            waits_for = steps.send(None)
            while True:
                thrown: BaseException | None = None
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001  whatever comes is the coroutine's own affair
                    thrown = error
                    cancelled = cancelled or isinstance(error, asyncio.CancelledError)
                if thrown is None and lost is None and (lost := self._lost()) is not None:
                    thrown = asyncio.CancelledError()
                waits_for = steps.send(None) if thrown is None else steps.throw(thrown)
        except StopIteration as done:
            if lost is not None:
                raise lost from None
            result: T = done.value
            return result
        except asyncio.CancelledError:
            if lost is None or cancelled:
                raise
            raise lost from None
        finally:
            steps.close()

    def _lost(self) -> LeaseLost | None:
        try:
            self._fence.check()
        except LeaseLost as error:
            return error
        return None


class FencedSink(ReadsThrough):
    """Changes only under the fence; reads go through. Satisfies `Sink`.

    What a sink does outside of its calls' own steps (threads, collected requests) it checks itself,
    when it is `Fenceable`.
    """

    def __init__(self, sink: Sink, fence: Fence) -> None:
        super().__init__(sink)
        self._fence = fence
        if isinstance(sink, Fenceable):
            sink.may_change = fence.check

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """See the protocol."""
        await _Fenced(self._sink.write(key, entry, content), self._fence)

    async def delete(self, key: str) -> None:
        """See the protocol."""
        await _Fenced(self._sink.delete(key), self._fence)

    async def delete_tree(self, key: str) -> None:
        """See the protocol."""
        await _Fenced(self._sink.delete_tree(key), self._fence)

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """See the protocol."""
        return await _Fenced(self._sink.move(old_key, new_key, entry), self._fence)

    async def update(self, key: str, entry: Entry) -> bool:
        """See the protocol."""
        return await _Fenced(self._sink.update(key, entry), self._fence)

    async def write_own(self, key: str, data: bytes) -> None:
        """See the protocol."""
        await _Fenced(self._sink.write_own(key, data), self._fence)

    async def flush(self) -> None:
        """See the protocol."""
        await self._sink.flush()

    async def close(self) -> None:
        """See the protocol. Without the lease it ends what runs and tidies nothing up."""
        with contextlib.suppress(LeaseLost):
            await super().close()
