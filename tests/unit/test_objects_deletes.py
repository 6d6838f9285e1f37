"""Collecting deletes: what goes together, what is withdrawn, what fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable
from filerbackup.sinks.objects.deletes import Deletes
from filerbackup.sinks.objects.store import Traits
from filerbackup.sinks.s3.dialect import S3_DIALECT

TRAITS = Traits(kind="test", dialect=S3_DIALECT, bulk_names=1000, delete_lanes=4)


class FakeStore:
    """Answers bulk deletes when it is let."""

    def __init__(self, traits: Traits = TRAITS) -> None:
        self.traits = traits
        self.in_bulk = True
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fail: SinkError | None = None
        self.failed: dict[str, SinkError] = {}

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        self.batches.append(list(names))
        if not self.in_bulk:
            return None
        await self.open.wait()
        if self.fail is not None:
            raise self.fail
        return {name: error for name, error in self.failed.items() if name in names}

    async def delete(self, name: str) -> None:
        self.batches.append([name])
        await self.open.wait()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


async def test_what_comes_together_goes_together(store: FakeStore) -> None:
    deletes = Deletes(store)  # type: ignore[arg-type]
    await asyncio.gather(*(deletes.delete([f"k{n}", "shared"]) for n in range(10)))
    assert len(store.batches) == 1
    assert sorted(store.batches[0]) == sorted(["shared", *(f"k{n}" for n in range(10))])
    await deletes.delete([])
    assert len(store.batches) == 1
    await deletes.close()


async def test_many_are_cut_into_thousands_and_few_requests_run_at_once(store: FakeStore) -> None:
    deletes = Deletes(store)  # type: ignore[arg-type]
    store.open.clear()
    deleting = asyncio.create_task(deletes.delete([f"k{n}" for n in range(7500)]))
    while len(store.batches) < TRAITS.delete_lanes:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert [len(batch) for batch in store.batches] == [1000] * TRAITS.delete_lanes
    store.open.set()
    await deleting
    assert [len(batch) for batch in store.batches] == [1000] * 7 + [500]
    await deletes.close()


async def test_each_gets_its_own_answer(store: FakeStore) -> None:
    store.failed = {"bad": SinkRefused("no")}
    deletes = Deletes(store)  # type: ignore[arg-type]
    good, bad = await asyncio.gather(
        deletes.delete(["good"]), deletes.delete(["bad"]), return_exceptions=True
    )
    assert good is None
    assert isinstance(bad, SinkRefused)
    store.fail = SinkUnavailable("down")
    with pytest.raises(SinkUnavailable, match="down"):
        await deletes.delete(["good"])
    await deletes.close()


async def test_what_was_cancelled_is_not_deleted_later(store: FakeStore) -> None:
    deletes = Deletes(store)  # type: ignore[arg-type]
    withdrawn = asyncio.create_task(deletes.delete(["withdrawn"]))
    await asyncio.sleep(0)
    withdrawn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await withdrawn
    await deletes.delete(["other"])
    assert store.batches == [["other"]]
    await deletes.close()


async def test_a_service_without_bulk_delete_is_asked_once(store: FakeStore) -> None:
    store.in_bulk = False
    deletes = Deletes(store)  # type: ignore[arg-type]
    await deletes.delete(["a", "b"])
    await deletes.delete(["c"])
    assert sorted(store.batches) == [["a"], ["a", "b"], ["b"], ["c"]]
    await deletes.close()


async def test_where_there_is_no_bulk_delete_several_go_at_once() -> None:
    store = FakeStore(Traits(kind="test", dialect=S3_DIALECT, bulk_names=1, delete_lanes=3))
    deletes = Deletes(store)  # type: ignore[arg-type]
    store.open.clear()
    deleting = asyncio.create_task(deletes.delete([f"k{n}" for n in range(5)]))
    while len(store.batches) < 3:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert len(store.batches) == 3
    store.open.set()
    await deleting
    assert sorted(store.batches) == [[f"k{n}"] for n in range(5)]
    await deletes.close()


async def test_closing_answers_everybody(store: FakeStore) -> None:
    deletes = Deletes(store)  # type: ignore[arg-type]
    store.open.clear()
    under_way = asyncio.create_task(deletes.delete(["a"]))
    while not store.batches:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(deletes.delete(["b"]))
    await asyncio.sleep(0)
    await deletes.close()
    for task in (under_way, waiting, asyncio.create_task(deletes.delete(["c"]))):
        with pytest.raises(SinkUnavailable, match="closed"):
            await task
