"""How far everything is done: positions that finish in any order, and the newest contiguous one."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P")
_FEW = 64


@dataclass(slots=True, eq=False)
class Ticket(Generic[P]):
    """One unit of work at a position, between the one that came before it and the one after."""

    position: P
    done: bool = False
    before: Ticket[P] | None = field(default=None, repr=False)
    after: Ticket[P] | None = field(default=None, repr=False)


class Contiguous(Generic[P]):
    """Positions in the order of their coming; `last` is the newest with nothing unfinished before it.

    Of neighbours that are done only the last is kept, so that memory follows what is unfinished, however
    much is done behind it.
    """

    def __init__(self, start: P) -> None:
        self._last = start
        self._first: Ticket[P] | None = None
        self._newest: Ticket[P] | None = None

    @property
    def last(self) -> P:
        """The newest position at which, and before which, all is done."""
        return self._last

    def add(self, position: P) -> Ticket[P]:
        """Work at `position` begins to count."""
        ticket = Ticket(position, before=self._newest)
        if self._newest is None:
            self._first = ticket
        else:
            self._newest.after = ticket
        self._newest = ticket
        return ticket

    def finish(self, ticket: Ticket[P]) -> None:
        """That work is done."""
        ticket.done = True
        if ticket.before is not None and ticket.before.done:
            self._take_out(ticket.before)
        if ticket.after is not None and ticket.after.done:
            self._take_out(ticket)
        if self._first is not None and self._first.done:
            self._last = self._first.position
            self._take_out(self._first)

    def __len__(self) -> int:
        count, ticket = 0, self._first
        while ticket is not None:
            count, ticket = count + 1, ticket.after
        return count

    def _take_out(self, ticket: Ticket[P]) -> None:
        before, after = ticket.before, ticket.after
        if before is None:
            self._first = after
        else:
            before.after = after
        if after is None:
            self._newest = before
        else:
            after.before = before
        ticket.before = ticket.after = None


class Watermark:
    """The low watermark of a change log, in its `ts_ns`.

    A stream delivers at least once and may step back. Until the repeated changes are done again the
    watermark steps back with it, because a repeated old version lies in the sink meanwhile.
    Amortised O(log n) a change, O(1) to read.
    """

    def __init__(self, start_ns: int) -> None:
        self._order: Contiguous[int] = Contiguous(start_ns)
        self._by_time: list[tuple[int, int, Ticket[int]]] = []
        self._count = 0
        self._unfinished = 0

    def __len__(self) -> int:
        """How many positions are kept in memory."""
        return max(len(self._order), len(self._by_time))

    def add(self, ts_ns: int) -> Ticket[int]:
        """A change at `ts_ns` begins to count."""
        ticket = self._order.add(ts_ns)
        self._count += 1
        self._unfinished += 1
        heapq.heappush(self._by_time, (ts_ns, self._count, ticket))
        return ticket

    def finish(self, ticket: Ticket[int]) -> None:
        """That change is done (durable at the next flush, or a dead letter)."""
        self._order.finish(ticket)
        self._unfinished -= 1
        while self._by_time and self._by_time[0][2].done:
            heapq.heappop(self._by_time)
        if len(self._by_time) > 2 * self._unfinished + _FEW:
            # Done ones behind an old one that is not: without this they would stay as long as it does.
            self._by_time = [item for item in self._by_time if not item[2].done]
            heapq.heapify(self._by_time)

    def pass_by(self, ts_ns: int) -> None:
        """Nothing is to be done at `ts_ns`."""
        self._order.finish(self._order.add(ts_ns))

    @property
    def value_ns(self) -> int:
        """The newest offset at which, and below which, nothing is unfinished."""
        oldest = self.oldest_unfinished_ns
        return self._order.last if oldest is None else min(self._order.last, oldest - 1)

    @property
    def oldest_unfinished_ns(self) -> int | None:
        """The smallest `ts_ns` of an unfinished change, or None."""
        return self._by_time[0][0] if self._by_time else None
