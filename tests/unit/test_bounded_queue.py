"""What waits takes memory by what is unfinished, not by how much has gone by."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from filerbackup.events import Chunk, Entry, EntryKind, Rename, Upsert
from filerbackup.pipeline.claims import Claim
from filerbackup.pipeline.layout import Mirror
from filerbackup.pipeline.limiter import Limiter
from filerbackup.pipeline.planner import Planner
from filerbackup.pipeline.scheduler import Replaces, Scheduler, Work
from filerbackup.pipeline.watermark import Contiguous, Watermark
from filerbackup.sinks.base import Capabilities

MANY = 20_000
CAPABILITIES = Capabilities(
    directories=True, symlinks=True, move=True, move_tree=True, write_buffer_bytes=1 << 20
)


class Watched(Work):
    """One of which it can be seen whether it is still there."""


def work_on(key: str) -> Work:
    return Watched(claims=(Claim(key, True),), replaces=Replaces.KEY, replaceable=Replaces.KEY)


@asynccontextmanager
async def stopped_sink(max_queued: int) -> AsyncIterator[tuple[Scheduler[Work], asyncio.Event]]:
    """A scheduler of a sink that takes nothing until the event is set."""
    works = asyncio.Event()

    async def attempt(_work: Work, _number: int) -> float | None:
        await works.wait()
        return None

    limiter = Limiter(1, asyncio.get_running_loop().time)
    async with Scheduler(attempt, limiter, max_queued=max_queued) as scheduler:
        yield scheduler, works


async def test_overwrites_of_one_file_do_not_pile_up_while_the_sink_is_stopped() -> None:
    told = 0
    works_seen: list[weakref.ref[Work]] = []

    def done() -> None:
        nonlocal told
        told += 1

    async def overwrite(scheduler: Scheduler[Work]) -> None:
        for _ in range(MANY):
            work = work_on("same")
            works_seen.append(weakref.ref(work))
            await scheduler.submit(work, done)

    async with stopped_sink(100) as (scheduler, works):
        await scheduler.submit(work_on("runs"), done)
        overwriting = asyncio.create_task(overwrite(scheduler))
        await asyncio.sleep(0.1)
        # Even those who are to be told are not without bound: the stream waits.
        assert not overwriting.done()
        assert 100 < len(works_seen) < 1000
        # Of those that were replaced nothing is kept but whom to tell, and a few that are not swept up yet.
        gc.collect()
        assert sum(ref() is not None for ref in works_seen) < 100
        assert len(scheduler._ready) < 200
        works.set()
        await overwriting
        await scheduler.drain()
    assert told == 1 + MANY


def test_what_is_done_behind_one_that_is_stuck_takes_no_memory() -> None:
    watermark = Watermark(0)
    stuck = watermark.add(1)
    for number in range(2, MANY):
        watermark.finish(watermark.add(number))
        watermark.pass_by(number)
    assert len(watermark) < 100
    assert watermark.value_ns == 0
    watermark.finish(stuck)
    assert watermark.value_ns == MANY - 1
    assert len(watermark) == 0


def test_in_any_order_the_newest_contiguous_position_is_told() -> None:
    order: Contiguous[int] = Contiguous(0)
    tickets = [order.add(number) for number in range(1, 8)]
    seen = []
    for number in (3, 5, 4, 1, 7, 2, 6):
        order.finish(tickets[number - 1])
        seen.append(order.last)
    assert seen == [0, 0, 0, 1, 1, 5, 7]
    assert len(order) == 0


def _entry(**more: object) -> Entry:
    return Entry("/w/file", EntryKind.FILE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "large",
    [
        {"chunks": tuple(Chunk(f"3,{number:x}01234567", number, 1, 1) for number in range(5000))},
        {"content": bytes(1 << 20)},
        {"extended": {"xattr-user.large": bytes(1 << 20)}},
    ],
    ids=["chunks", "content", "attributes"],
)
def test_what_is_large_takes_more_of_the_queue(large: dict[str, object]) -> None:
    planner = Planner(Mirror(lambda path: path.removeprefix("/w/")), CAPABILITIES)
    for change in (Upsert(1, _entry(**large)), Rename(1, Entry("/w/old", EntryKind.FILE), _entry(**large))):
        small, planned = planner.plan(Upsert(1, _entry())), planner.plan(change)
        assert small is not None
        assert planned is not None
        assert small.weight == 1
        assert planned.weight > 200
