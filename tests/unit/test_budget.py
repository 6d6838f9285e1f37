"""The byte budget: never more than there is, first come first served, nothing lost by cancellation."""

from __future__ import annotations

import asyncio
import random

from filerbackup.pipeline.budget import ByteBudget


async def test_never_more_than_there_is_and_all_get_their_turn() -> None:
    budget = ByteBudget(100)
    rng = random.Random(3)
    done = 0

    async def work(size: int) -> None:
        nonlocal done
        async with budget.hold(size):
            assert budget.in_use_bytes <= 100
            await asyncio.sleep(0)
        done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(work(rng.randint(0, 250)))
    assert done == 300
    assert budget.in_use_bytes == 0


async def test_what_wants_more_than_all_gets_all_alone() -> None:
    budget = ByteBudget(10)
    async with budget.hold(1_000_000):
        assert budget.in_use_bytes == 10


async def test_the_first_in_line_is_not_overtaken() -> None:
    budget = ByteBudget(10)
    order: list[str] = []
    release = asyncio.Event()

    async def take(name: str, size: int) -> None:
        async with budget.hold(size):
            order.append(name)
            await release.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(take("holds", 6))
        await asyncio.sleep(0)
        group.create_task(take("large", 8))
        await asyncio.sleep(0)
        group.create_task(take("small", 2))
        await asyncio.sleep(0)
        assert order == ["holds"]
        release.set()
    assert order == ["holds", "large", "small"]


async def test_a_cancelled_wait_gives_back_what_it_was_given() -> None:
    budget = ByteBudget(10)
    release = asyncio.Event()

    async def hold(size: int) -> None:
        async with budget.hold(size):
            await release.wait()

    first = asyncio.create_task(hold(10))
    await asyncio.sleep(0)
    second, third = asyncio.create_task(hold(5)), asyncio.create_task(hold(5))
    await asyncio.sleep(0)
    release.set()
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await asyncio.wait_for(third, 5)
    assert budget.in_use_bytes == 0
