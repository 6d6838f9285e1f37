"""A budget of bytes in memory that all replicators of a process share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """First come, first served. What wants more than there is in all gets all of it, alone.

    An operation takes everything that it may hold in one step and never more while it holds
    something, so two can not wait for each other.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def in_use_bytes(self) -> int:
        """Bytes that are taken now."""
        return self._total - self._free

    @asynccontextmanager
    async def hold(self, wanted_bytes: int) -> AsyncIterator[None]:
        """Hold `wanted_bytes`, at most the whole budget, for the time of the block."""
        amount = min(wanted_bytes, self._total)
        await self._take(amount)
        try:
            yield
        finally:
            self._free += amount
            self._serve()

    async def _take(self, amount: int) -> None:
        if not self._waiting and amount <= self._free:
            self._free -= amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += amount
            self._serve()
            raise

    def _serve(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if amount > self._free:
                return
            self._waiting.popleft()
            self._free -= amount
            turn.set_result(None)
