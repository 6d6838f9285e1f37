"""The switches of the in-memory sink, on which tests of the pipeline rely."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from filerbackup.content import InlineContent
from filerbackup.errors import ObjectRejected, SinkThrottled, SinkUnavailable
from filerbackup.sinks.base import Capabilities
from filerbackup.sinks.memory import MemorySink
from tests.contract.contents import NOTHING, directory_entry, file_entry, symlink_entry

PLAIN = Capabilities(directories=False, symlinks=False, move=False, move_tree=False, write_buffer_bytes=0)


@pytest_asyncio.fixture
async def sink() -> AsyncIterator[MemorySink]:
    sink = MemorySink()
    await sink.open()
    yield sink


async def write(sink: MemorySink, key: str, data: bytes = b"data") -> None:
    await sink.write(key, file_entry(key, len(data)), InlineContent(data))


async def test_a_fault_hits_as_often_as_it_should(sink: MemorySink) -> None:
    error = SinkThrottled("slow down")
    sink.fail("write", error, key="a", times=2)
    await write(sink, "b")
    for _ in range(2):
        with pytest.raises(SinkThrottled):
            await write(sink, "a")
    assert "a" not in sink.objects
    await write(sink, "a")

    assert sink.calls["write"] == 4


async def test_a_lost_answer_leaves_the_work_done(sink: MemorySink) -> None:
    sink.fail("write", SinkUnavailable("timed out"), after=True)
    with pytest.raises(SinkUnavailable):
        await write(sink, "a")

    assert sink.objects["a"].data == b"data"


async def test_a_held_call_waits_and_does_nothing_before(sink: MemorySink) -> None:
    sink.hold("write")
    task = asyncio.create_task(write(sink, "a"))
    await sink.reached("write")
    assert sink.objects == {}
    sink.release("write")
    await task
    assert "a" in sink.objects
    await write(sink, "b")


async def test_a_crash_loses_what_was_not_flushed(sink: MemorySink) -> None:
    await write(sink, "d/kept")
    await write(sink, "deleted")
    await sink.flush()
    await write(sink, "d/kept", b"newer")
    await write(sink, "d/lost")
    await sink.delete("deleted")
    await sink.write_own(".filerbackup/sink.json", b"{}")

    sink.crash()

    assert {key: found.data for key, found in sink.objects.items()} == {
        "d": b"",
        "d/kept": b"data",
        "deleted": b"data",
    }
    assert await sink.read_own(".filerbackup/sink.json") == b"{}"


async def test_a_flush_covers_what_had_returned_before_it_began(sink: MemorySink) -> None:
    await write(sink, "before")
    sink.hold("flush")
    flush = asyncio.create_task(sink.flush())
    await sink.reached("flush")
    await write(sink, "while")
    sink.release("flush")
    await flush
    sink.crash()

    assert list(sink.objects) == ["before"]


async def test_a_failed_flush_makes_nothing_durable(sink: MemorySink) -> None:
    await write(sink, "a")
    sink.fail("flush", SinkUnavailable("disk"))
    with pytest.raises(SinkUnavailable):
        await sink.flush()
    sink.crash()

    assert sink.objects == {}


async def test_after_a_crash_any_part_may_survive(sink: MemorySink) -> None:
    for number in range(40):
        await write(sink, f"d{number}/old")
    await sink.flush()
    for number in range(40):
        await write(sink, f"d{number}/new")
        await sink.delete(f"d{number}/old")
    sink.crash(random.Random(7))

    names = [key.rsplit("/", 1)[-1] for key in sink.objects if "/" in key]
    assert 0 < names.count("old") < 40
    assert 0 < names.count("new") < 40
    assert all(key.split("/")[0] in sink.objects for key in sink.objects)


async def test_a_plain_object_store_can_be_played_too() -> None:
    sink = MemorySink(capabilities=PLAIN)
    await sink.open()
    await write(sink, "a/b")
    await write(sink, "a")
    await sink.write("d", directory_entry("d"), NOTHING)
    with pytest.raises(ObjectRejected, match="symlink"):
        await sink.write("l", symlink_entry("l", "x"), NOTHING)

    assert not await sink.move("a", "c", file_entry("a", 4))
    assert set(sink.objects) == {"a", "a/b"}


async def test_it_has_to_be_open() -> None:
    sink = MemorySink()
    with pytest.raises(SinkUnavailable, match="not open"):
        await sink.flush()
