"""The scheduler: as many operations at once as path order, the sink and its queue allow.

Pure asyncio, no filer and no sink: an operation is a `Work` that says which keys it touches, and one
attempt at it is a call that the owner gave. See `Claim` for what conflicts.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

from filerbackup.pipeline.claims import Claim, ClaimTree
from filerbackup.pipeline.limiter import Limiter

W = TypeVar("W", bound="Work")


class Replaces(enum.Enum):
    """What of the queued work before it a newer one makes needless."""

    NOTHING = 0
    KEY = 1
    TREE = 2


@dataclass(slots=True, eq=False)
class Work:
    """One operation. Owners derive from it what they need to carry it out.

    `claims`: the keys that it touches, in the sink's words. `replaces`: what of the queued work it
    makes needless; `replaceable`: the least that a newer work must replace to make this one needless
    (NOTHING: it must always be carried out). `weight`: its share of the queue, 1 for an ordinary one.
    """

    claims: tuple[Claim, ...]
    replaces: Replaces = Replaces.NOTHING
    replaceable: Replaces = Replaces.NOTHING
    weight: int = 1


class State(enum.Enum):
    """The life of a queued operation. BACKOFF: tried, failed, waiting for the next try."""

    BLOCKED = enum.auto()
    READY = enum.auto()
    RUNNING = enum.auto()
    BACKOFF = enum.auto()
    DONE = enum.auto()


@dataclass(slots=True, eq=False)
class Node(Generic[W]):
    """A work with its place in the order: what it waits for, and what waits for it (by number).

    `on_done`: whom to tell that it is done, also for the works that it has replaced.
    """

    work: W
    number: int
    on_done: list[Callable[[], None]]
    state: State = State.BLOCKED
    attempts: int = 0
    blockers: dict[int, Node[W]] = field(default_factory=dict)
    dependents: dict[int, Node[W]] = field(default_factory=dict)


Attempt = Callable[[W, int], Awaitable[float | None]]
"""One try of a work, with its number from 1: None when it is done, else seconds to wait before the next."""


_REPLACED_A_WEIGHT = 8
"""A work that was replaced takes so much less of the queue: only who waits for it is remembered."""
_FEW = 64


class Scheduler(Generic[W]):
    """Use as `async with`; leaving it cancels what runs. `drain` waits for everything first."""

    def __init__(self, attempt: Attempt[W], limiter: Limiter, *, max_queued: int = 4096) -> None:
        self._attempt = attempt
        self._limiter = limiter
        self._max_queued = max_queued
        self._tree: ClaimTree[Node[W]] = ClaimTree()
        self._ready: list[tuple[int, Node[W]]] = []
        self._count = 0
        self._queued = 0
        self._replaced = 0
        self._gone_ready = 0
        self._running = 0
        self._stopped = False
        self._changed = asyncio.Event()
        self._wake: asyncio.TimerHandle | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Scheduler[W]:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    @property
    def queued(self) -> int:
        """Weight of all that is not done, running ones included."""
        return self._queued

    @property
    def running(self) -> int:
        """Operations that are being carried out now."""
        return self._running

    async def submit(self, work: W, on_done: Callable[[], None]) -> None:
        """Queue a work behind all that came before it; waits while the queue is full.

        `on_done` is called once, when it, or the newer work that replaced it, is done.
        """
        while self._queued + self._replaced // _REPLACED_A_WEIGHT >= self._max_queued:
            self._changed.clear()
            await self._changed.wait()
        self._count += 1
        node = Node(work, self._count, [on_done])
        self._queued += work.weight
        self._wait_behind(node)
        for claim in work.claims:
            self._tree.add(claim, node)
        if not node.blockers:
            self._make_ready(node)
            self._dispatch()

    async def drain(self) -> None:
        """Wait until nothing is queued."""
        while self._queued:
            self._changed.clear()
            await self._changed.wait()

    async def settle(self) -> None:
        """Wait until nothing runs (after `stop`: what is queued stays undone)."""
        while self._running:
            self._changed.clear()
            await self._changed.wait()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    # -- order ----------------------------------------------------------------------------------

    def _wait_behind(self, node: Node[W]) -> None:
        """Make `node` wait for what it conflicts with, and take the place of what it makes needless.

        Newest first: when a work is replaced, what it waited for is looked at next.
        """
        known: dict[int, Node[W]] = {}
        for claim in node.work.claims:
            for earlier in self._tree.conflicts(claim):
                known[earlier.number] = earlier
        order = [-number for number in known]
        heapq.heapify(order)
        while order:
            earlier = known[-heapq.heappop(order)]
            if not self._may_replace(node, earlier):
                earlier.dependents[node.number] = node
                node.blockers[earlier.number] = earlier
                continue
            for blocker in self._replace(node, earlier):
                if blocker.number not in known:
                    known[blocker.number] = blocker
                    heapq.heappush(order, -blocker.number)

    def _may_replace(self, node: Node[W], earlier: Node[W]) -> bool:
        """Nobody has begun it, nobody waits for it, and the newer one covers what it would do."""
        return (
            earlier.state in (State.READY, State.BLOCKED)
            and not earlier.attempts
            and not earlier.dependents
            and _makes_needless(node.work, earlier.work)
        )

    def _replace(self, node: Node[W], earlier: Node[W]) -> list[Node[W]]:
        """Let `node` stand for `earlier` too; returns what `earlier` was waiting for."""
        was_ready, earlier.state = earlier.state is State.READY, State.DONE
        if was_ready:
            self._leave_ready()
        self._forget(earlier)
        self._replaced += 1
        # The shorter list is added to the longer one: a work may be replaced many thousand times.
        fewer, more = sorted((node.on_done, earlier.on_done), key=len)
        more += fewer
        node.on_done = more
        blockers = list(earlier.blockers.values())
        for blocker in blockers:
            del blocker.dependents[earlier.number]
        earlier.blockers.clear()
        return blockers

    def _forget(self, node: Node[W]) -> None:
        for claim in node.work.claims:
            self._tree.remove(claim, node)
        self._queued -= node.work.weight
        self._changed.set()

    # -- running --------------------------------------------------------------------------------

    def _make_ready(self, node: Node[W]) -> None:
        node.state = State.READY
        heapq.heappush(self._ready, (node.number, node))

    def _leave_ready(self) -> None:
        """One of those that are ready was replaced: it is skipped later, or dropped with many others."""
        self._gone_ready += 1
        if self._gone_ready > len(self._ready) // 2 + _FEW:
            self._ready = [item for item in self._ready if item[1].state is State.READY]
            heapq.heapify(self._ready)
            self._gone_ready = 0

    def _dispatch(self) -> None:
        while self._ready and not self._stopped and self._running < self._limiter.limit:
            if wait_s := self._limiter.wait_s:
                self._wake_in(wait_s)
                return
            node = heapq.heappop(self._ready)[1]
            if node.state is not State.READY:
                self._gone_ready -= 1
                continue
            node.state = State.RUNNING
            self._running += 1
            task = self._group.create_task(self._run(node))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _wake_in(self, seconds: float) -> None:
        if self._wake is None:
            self._wake = asyncio.get_running_loop().call_later(seconds, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._dispatch()

    async def _run(self, node: Node[W]) -> None:
        node.attempts += 1
        try:
            delay_s = await self._attempt(node.work, node.attempts)
        except BaseException:
            # The group is about to cancel the rest and would refuse new tasks.
            self.stop()
            raise
        finally:
            self._running -= 1
            self._changed.set()
        if delay_s is None:
            self._finish(node)
        else:
            self._retry_in(node, delay_s)
        self._dispatch()

    def _retry_in(self, node: Node[W], delay_s: float) -> None:
        node.state = State.BACKOFF

        def again() -> None:
            self._timers.discard(timer)
            self._make_ready(node)
            self._dispatch()

        timer = asyncio.get_running_loop().call_later(delay_s, again)
        self._timers.add(timer)

    def _finish(self, node: Node[W]) -> None:
        node.state = State.DONE
        self._forget(node)
        for later in node.dependents.values():
            del later.blockers[node.number]
            if not later.blockers:
                self._make_ready(later)
        node.dependents.clear()
        self._replaced -= len(node.on_done) - 1
        for done in node.on_done:
            done()


def _makes_needless(newer: Work, older: Work) -> bool:
    if older.replaceable is Replaces.NOTHING or len(older.claims) != 1 or len(newer.claims) != 1:
        return False
    match newer.replaces:
        case Replaces.TREE:
            return newer.claims[0].covers(older.claims[0])
        case Replaces.KEY:
            return older.replaceable is Replaces.KEY and newer.claims[0] == older.claims[0]
        case _:
            return False
