"""Nothing is done in a sink without the lease, at whatever step it was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import LeaseLost, SinkUnavailable
from filerbackup.events import Entry, EntryKind
from filerbackup.pipeline.fence import Fence, FencedSink
from filerbackup.settings.model import LocalSettings
from filerbackup.sinks.local import LocalSink
from filerbackup.sinks.memory import MemorySink
from filerbackup.sinks.objects.deletes import Deletes
from tests.support.trees import local_tree

ENTRY = Entry("/w/f", EntryKind.FILE, size=3)


class Steps(MemorySink):
    """A write of three steps, the last of which publishes; it cleans up behind itself."""

    def __init__(self) -> None:
        super().__init__()
        self.went = asyncio.Event()
        self.done: list[str] = []

    async def write(self, key: str, entry: Entry, content: object) -> None:
        try:
            self.done.append("begun")
            await self.went.wait()
            self.done.append("published")
        except BaseException as error:
            await asyncio.sleep(0)
            self.done.append(type(error).__name__)
            raise


class Clock:
    def __init__(self) -> None:
        self.left_s = 5.0

    def fence(self) -> Fence:
        return Fence(lambda: self.left_s)


async def test_a_call_that_waited_while_the_lease_ran_out_does_not_go_on() -> None:
    clock, sink = Clock(), Steps()
    task = asyncio.create_task(FencedSink(sink, clock.fence()).write("f", ENTRY, InlineContent(b"abc")))
    await asyncio.sleep(0)
    clock.left_s = -1.0
    sink.went.set()
    with pytest.raises(LeaseLost):
        await task
    assert sink.done == ["begun", "CancelledError"]


class Slots(MemorySink):
    """Each write takes a place that all sinks of the process share."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        super().__init__()
        self._slots = slots

    async def write(self, key: str, entry: Entry, content: object) -> None:
        async with self._slots:
            await asyncio.sleep(0.01)


async def test_places_that_are_shared_come_back_when_the_lease_is_lost() -> None:
    clock, slots = Clock(), asyncio.Semaphore(2)
    sink = FencedSink(Slots(slots), clock.fence())
    tasks = [asyncio.create_task(sink.write(f"f{i}", ENTRY, InlineContent(b"abc"))) for i in range(6)]
    await asyncio.sleep(0)
    clock.left_s = -1.0
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [LeaseLost] * 6
    async with asyncio.timeout(5), slots, slots:
        pass


async def test_a_cancellation_stays_one_though_the_lease_is_lost_too() -> None:
    clock, sink = Clock(), Steps()
    task = asyncio.create_task(FencedSink(sink, clock.fence()).write("f", ENTRY, InlineContent(b"abc")))
    await asyncio.sleep(0)
    clock.left_s = -1.0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_begins_only_with_the_lease() -> None:
    clock, sink = Clock(), Steps()
    clock.left_s = 0.0
    fenced = FencedSink(sink, clock.fence())
    for call in (
        fenced.write("f", ENTRY, InlineContent(b"abc")),
        fenced.delete("f"),
        fenced.delete_tree("f"),
        fenced.move("f", "g", ENTRY),
        fenced.update("f", ENTRY),
        fenced.write_own(".filerbackup/x", b""),
    ):
        with pytest.raises(LeaseLost):
            await call
    assert sink.done == [] and sink.objects == {}


async def test_with_the_lease_a_call_is_what_it_was() -> None:
    sink = Steps()
    fenced = FencedSink(sink, Clock().fence())
    sink.went.set()
    await fenced.write("f", ENTRY, InlineContent(b"abc"))
    sink.went.clear()
    task = asyncio.create_task(fenced.write("f", ENTRY, InlineContent(b"abc")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sink.done == ["begun", "published", "begun", "CancelledError"]
    sink.fail("delete", SinkUnavailable("down"))
    with pytest.raises(SinkUnavailable):
        await fenced.delete("f")


async def test_a_local_file_gets_its_name_only_with_the_lease(tmp_path: Path) -> None:
    """Its thread may have stood still after the bytes were written, and a removal in the middle."""
    clock, sink = Clock(), LocalSink(LocalSettings("local", directory=str(tmp_path / "copy")))
    fenced = FencedSink(sink, clock.fence())
    await fenced.open()
    try:
        for key in ("d/1", "d/2", "d/3"):
            await fenced.write(key, ENTRY, InlineContent(b"abc"))
        before = local_tree(tmp_path / "copy")
        looks = 0

        def stands_still() -> None:
            nonlocal looks
            looks += 1
            if looks > 2:
                clock.left_s = -1.0
            clock.fence().check()

        sink.may_change = stands_still
        await fenced.open()
        for call in (sink.write("new/f", ENTRY, InlineContent(b"abc")), sink.delete_tree("d")):
            looks, clock.left_s = 2, 5.0
            with pytest.raises(LeaseLost):
                await call
            assert {key for key in local_tree(tmp_path / "copy") if key != "new"} == set(before)
    finally:
        await fenced.close()


async def test_collected_deletes_are_sent_only_with_the_lease() -> None:
    clock, store = Clock(), Store()
    deletes = Deletes(store, clock.fence().check)  # type: ignore[arg-type]
    task = asyncio.create_task(deletes.delete(["a", "b"]))
    await asyncio.sleep(0)
    clock.left_s = -1.0
    with pytest.raises(LeaseLost):
        await task
    assert store.deleted == []
    clock.left_s = 1.0
    await deletes.delete(["a"])
    assert store.deleted == ["a"]
    await deletes.close()


class Store:
    """What `Deletes` needs of one."""

    class traits:  # noqa: N801  as it is called there
        bulk_names = 10
        delete_lanes = 1

    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def delete_bulk(self, names: list[str]) -> dict[str, Exception]:
        self.deleted += names
        return {}


async def test_a_sink_can_be_closed_when_the_lease_was_given_back() -> None:
    """Whatever it would still tidy up: the process ends, and with 0."""
    clock = Clock()

    class Tidies(MemorySink):
        async def close(self) -> None:
            await super().close()
            clock.fence().check()

    sink = FencedSink(Tidies(), clock.fence())
    clock.left_s = -1.0
    await sink.close()
