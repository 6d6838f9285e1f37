"""The scheduler against a simple model: random works, random failures; order, completeness, watermark."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from filerbackup.pipeline.claims import Claim
from filerbackup.pipeline.limiter import Limiter
from filerbackup.pipeline.scheduler import Replaces, Scheduler, Work
from filerbackup.pipeline.watermark import Ticket, Watermark

KEYS = ["a", "b", "a/x", "a/y", "a/x/1", "a/x/2", "b/z", "ab", "ab/x"]


@dataclass(slots=True, eq=False, kw_only=True)
class Step(Work):
    number: int
    fails: int


def claims_of(kind: str, key: str, other: str) -> Step:
    """A work of one of the four shapes that the planner makes."""
    match kind:
        case "file":
            return Step(
                claims=(Claim(key, True),), replaces=Replaces.KEY, replaceable=Replaces.KEY, number=0, fails=0
            )
        case "directory":
            return Step(
                claims=(Claim(key, False),),
                replaces=Replaces.KEY,
                replaceable=Replaces.KEY,
                number=0,
                fails=0,
            )
        case "tree":
            return Step(
                claims=(Claim(key, True),),
                replaces=Replaces.TREE,
                replaceable=Replaces.TREE,
                number=0,
                fails=0,
            )
        case _:
            return Step(claims=(Claim(key, True), Claim(other, True)), number=0, fails=0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["file", "file", "directory", "tree", "move"]),
        st.sampled_from(KEYS),
        st.sampled_from(KEYS),
        st.integers(0, 2),
    ),
    max_size=40,
)


def conflict(one: Step, two: Step) -> bool:
    """The rule of `Claim`, the slow way."""
    for a in one.claims:
        for b in two.claims:
            if a.key == b.key or (a.exclusive and a.covers(b)) or (b.exclusive and b.covers(a)):
                return True
    return False


@dataclass
class Recorder:
    """Runs steps with random pauses; notes what ran beside what."""

    rng: random.Random
    running: dict[int, Step] = field(default_factory=dict)
    finished: list[int] = field(default_factory=list)
    overlaps: list[tuple[int, int]] = field(default_factory=list)

    async def attempt(self, step: Step, number: int) -> float | None:
        for other in self.running.values():
            if conflict(step, other):
                self.overlaps.append((step.number, other.number))
        self.running[step.number] = step
        for _ in range(self.rng.randrange(3)):
            await asyncio.sleep(0)
        del self.running[step.number]
        if number <= step.fails:
            return 0.0
        self.finished.append(step.number)
        return None


@settings(max_examples=400, deadline=None)
@given(steps, st.integers(1, 8), st.integers(0, 2**32))
def test_order_and_watermark(history: list[tuple[str, str, str, int]], most: int, seed: int) -> None:
    asyncio.run(check(history, most, random.Random(seed)))


async def check(history: list[tuple[str, str, str, int]], most: int, rng: random.Random) -> None:
    recorder = Recorder(rng)
    limiter = Limiter(most, asyncio.get_running_loop().time)
    watermark = Watermark(0)
    done: set[int] = set()
    works: list[Step] = []

    def finish(ticket: Ticket[int], number: int) -> None:
        assert number not in done, "reported done twice"
        done.add(number)
        watermark.finish(ticket)
        unfinished = [n for n in range(1, len(works) + 1) if n not in done]
        if unfinished:
            assert watermark.value_ns < min(unfinished), "the watermark passed something unfinished"

    async with Scheduler(recorder.attempt, limiter, max_queued=12) as scheduler:
        for number, (kind, key, other, fails) in enumerate(history, 1):
            step = claims_of(kind, key, other)
            step.number, step.fails = number, fails
            works.append(step)
            ticket = watermark.add(number)
            await scheduler.submit(step, lambda ticket=ticket, number=number: finish(ticket, number))
        async with asyncio.timeout(10):
            await scheduler.drain()
        assert scheduler.queued == 0
    assert done == set(range(1, len(history) + 1)), "something was forgotten"
    assert watermark.value_ns == len(history)
    assert recorder.overlaps == [], "conflicting works ran at the same time"
    assert_log_order(works, recorder.finished)


def assert_log_order(works: list[Step], finished: list[int]) -> None:
    """What ran of conflicting works ran in log order; what did not run was covered by a later one."""
    position = {number: place for place, number in enumerate(finished)}
    for i, earlier in enumerate(works):
        for later in works[i + 1 :]:
            if earlier.number in position and later.number in position and conflict(earlier, later):
                assert position[earlier.number] < position[later.number]
        if earlier.number not in position:
            covering = [
                later
                for later in works[i + 1 :]
                if later.number in position
                and len(later.claims) == 1
                and later.claims[0].covers(earlier.claims[0])
                and later.replaces is not Replaces.NOTHING
            ]
            assert covering, f"{earlier} was left out and nothing replaced it"


async def test_three_hundred_overwrites_are_written_at_most_twice() -> None:
    """One that has begun, and the newest: the promise of coalescing."""
    recorder = Recorder(random.Random(1))
    limiter = Limiter(4, asyncio.get_running_loop().time)
    async with Scheduler(recorder.attempt, limiter) as scheduler:
        for number in range(1, 301):
            step = claims_of("file", "a/x", "")
            step.number = number
            await scheduler.submit(step, lambda: None)
        await scheduler.drain()
    assert recorder.finished[-1] == 300
    assert len(recorder.finished) <= 2


async def test_created_and_deleted_uploads_nothing() -> None:
    recorder = Recorder(random.Random(1))
    gate = asyncio.Event()

    async def attempt(step: Step, number: int) -> float | None:
        await gate.wait()
        return await recorder.attempt(step, number)

    limiter = Limiter(1, asyncio.get_running_loop().time)
    async with Scheduler(attempt, limiter) as scheduler:
        for number, (kind, key) in enumerate(
            [("file", "other"), ("directory", "d"), ("file", "d/f"), ("file", "d/g"), ("tree", "d")], 1
        ):
            step = claims_of(kind, key, "")
            step.number = number
            await scheduler.submit(step, lambda: None)
        await asyncio.sleep(0)
        gate.set()
        await scheduler.drain()
    assert recorder.finished == [1, 5]


async def test_an_outage_leaves_one_probe_and_recovers() -> None:
    loop = asyncio.get_running_loop()
    limiter = Limiter(8, loop.time)
    down, most_at_once, running = True, 0, 0

    async def attempt(step: Step, number: int) -> float | None:
        nonlocal most_at_once, running
        began = loop.time()
        running += 1
        await asyncio.sleep(0)
        if limiter.outages:
            most_at_once = max(most_at_once, running)
        running -= 1
        if down:
            limiter.failed(began, 0.01)
            return 0.0
        limiter.succeeded()
        return None

    async with Scheduler(attempt, limiter) as scheduler:
        for number in range(20):
            step = claims_of("file", f"k{number}", "")
            step.number = number
            await scheduler.submit(step, lambda: None)
        while limiter.outages < 5:
            await asyncio.sleep(0.005)
        assert limiter.limit == 1
        most_at_once = 0
        while limiter.outages < 8:
            await asyncio.sleep(0.005)
        assert most_at_once == 1
        down = False
        async with asyncio.timeout(5):
            await scheduler.drain()
    assert limiter.limit > 1
