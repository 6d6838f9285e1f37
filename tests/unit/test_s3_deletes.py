"""Collecting deletes: what goes together, what is withdrawn, what fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable
from filerbackup.sinks.s3.deletes import MOST_BATCHES, Deletes


class FakeBucket:
    """Answers bulk deletes when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fail: SinkError | None = None
        self.failed: dict[str, SinkError] = {}

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        self.batches.append(list(names))
        await self.open.wait()
        if self.fail is not None:
            raise self.fail
        return {name: error for name, error in self.failed.items() if name in names}

    async def delete(self, name: str) -> None:
        self.batches.append([name])


@pytest.fixture
def bucket() -> FakeBucket:
    return FakeBucket()


async def test_what_comes_together_goes_together(bucket: FakeBucket) -> None:
    deletes = Deletes(bucket)  # type: ignore[arg-type]
    await asyncio.gather(*(deletes.delete([f"k{n}", "shared"]) for n in range(10)))
    assert len(bucket.batches) == 1
    assert sorted(bucket.batches[0]) == sorted(["shared", *(f"k{n}" for n in range(10))])
    await deletes.delete([])
    assert len(bucket.batches) == 1
    await deletes.close()


async def test_many_are_cut_into_thousands_and_few_requests_run_at_once(bucket: FakeBucket) -> None:
    deletes = Deletes(bucket)  # type: ignore[arg-type]
    bucket.open.clear()
    deleting = asyncio.create_task(deletes.delete([f"k{n}" for n in range(7500)]))
    while len(bucket.batches) < MOST_BATCHES:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert [len(batch) for batch in bucket.batches] == [1000] * MOST_BATCHES
    bucket.open.set()
    await deleting
    assert [len(batch) for batch in bucket.batches] == [1000] * 7 + [500]
    await deletes.close()


async def test_each_gets_its_own_answer(bucket: FakeBucket) -> None:
    bucket.failed = {"bad": SinkRefused("no")}
    deletes = Deletes(bucket)  # type: ignore[arg-type]
    good, bad = await asyncio.gather(
        deletes.delete(["good"]), deletes.delete(["bad"]), return_exceptions=True
    )
    assert good is None
    assert isinstance(bad, SinkRefused)
    bucket.fail = SinkUnavailable("down")
    with pytest.raises(SinkUnavailable, match="down"):
        await deletes.delete(["good"])
    await deletes.close()


async def test_what_was_cancelled_is_not_deleted_later(bucket: FakeBucket) -> None:
    deletes = Deletes(bucket)  # type: ignore[arg-type]
    withdrawn = asyncio.create_task(deletes.delete(["withdrawn"]))
    await asyncio.sleep(0)
    withdrawn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await withdrawn
    await deletes.delete(["other"])
    assert bucket.batches == [["other"]]
    await deletes.close()


async def test_control_characters_go_alone(bucket: FakeBucket) -> None:
    deletes = Deletes(bucket)  # type: ignore[arg-type]
    await deletes.delete(["a", "b\x01", "c"])
    assert sorted(bucket.batches) == [["a", "c"], ["b\x01"]]
    await deletes.close()


async def test_closing_answers_everybody(bucket: FakeBucket) -> None:
    deletes = Deletes(bucket)  # type: ignore[arg-type]
    bucket.open.clear()
    under_way = asyncio.create_task(deletes.delete(["a"]))
    while not bucket.batches:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(deletes.delete(["b"]))
    await asyncio.sleep(0)
    await deletes.close()
    for task in (under_way, waiting, asyncio.create_task(deletes.delete(["c"]))):
        with pytest.raises(SinkUnavailable, match="closed"):
            await task
