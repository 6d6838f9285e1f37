"""How far everything is done: positions that finish in any order, and the newest contiguous one."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(slots=True, eq=False)
class Ticket(Generic[P]):
    """One unit of work at a position."""

    position: P
    done: bool = False


class Contiguous(Generic[P]):
    """Positions in the order of their coming; `last` is the newest with nothing unfinished before it."""

    def __init__(self, start: P) -> None:
        self._last = start
        self._open: deque[Ticket[P]] = deque()

    @property
    def last(self) -> P:
        """The newest position at which, and before which, all is done."""
        return self._last

    def add(self, position: P) -> Ticket[P]:
        """Work at `position` begins to count."""
        ticket = Ticket(position)
        self._open.append(ticket)
        return ticket

    def finish(self, ticket: Ticket[P]) -> None:
        """That work is done."""
        ticket.done = True
        while self._open and self._open[0].done:
            self._last = self._open.popleft().position

    def __len__(self) -> int:
        return len(self._open)


class Watermark:
    """The low watermark of a change log, in its `ts_ns`.

    A stream delivers at least once and may step back. Until the repeated changes are done again the
    watermark steps back with it, because a repeated old version lies in the sink meanwhile.
    Amortised O(log n) a change, O(1) to read.
    """

    def __init__(self, start_ns: int) -> None:
        self._order: Contiguous[int] = Contiguous(start_ns)
        self._unfinished: list[tuple[int, int, Ticket[int]]] = []
        self._count = 0

    def add(self, ts_ns: int) -> Ticket[int]:
        """A change at `ts_ns` begins to count."""
        ticket = self._order.add(ts_ns)
        self._count += 1
        heapq.heappush(self._unfinished, (ts_ns, self._count, ticket))
        return ticket

    def finish(self, ticket: Ticket[int]) -> None:
        """That change is done (durable at the next flush, or a dead letter)."""
        self._order.finish(ticket)
        while self._unfinished and self._unfinished[0][2].done:
            heapq.heappop(self._unfinished)

    def pass_by(self, ts_ns: int) -> None:
        """Nothing is to be done at `ts_ns`."""
        if len(self._order):
            self.finish(self.add(ts_ns))
        else:
            self._order.finish(self._order.add(ts_ns))

    @property
    def value_ns(self) -> int:
        """The newest offset at which, and below which, nothing is unfinished."""
        oldest = self.oldest_unfinished_ns
        return self._order.last if oldest is None else min(self._order.last, oldest - 1)

    @property
    def oldest_unfinished_ns(self) -> int | None:
        """The smallest `ts_ns` of an unfinished change, or None."""
        return self._unfinished[0][0] if self._unfinished else None
