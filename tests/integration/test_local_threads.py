"""The local sink's threads: order, cancellation, slow disks, and nothing left open."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.events import Entry
from filerbackup.sinks.local import threads
from filerbackup.sinks.local.threads import Workers
from filerbackup.sinks.local.tree import Tree
from tests.contract.contents import (
    NOTHING,
    StreamedContent,
    directory_entry,
    file_entry,
    symlink_entry,
)
from tests.integration.local_support import (
    keys,
    opened,
    write,
)

MIB = 1 << 20


async def test_a_cancelled_call_ends_only_when_its_step_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Tree.write_small
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(tree: Tree, path: bytes, entry: Entry, data: bytes) -> None:
        loop.call_soon_threadsafe(started.set)
        time.sleep(0.2)
        original(tree, path, entry, data)

    monkeypatch.setattr(Tree, "write_small", slow)
    async with opened(tmp_path / "copies") as sink:
        task = asyncio.create_task(write(sink, "file"))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (tmp_path / "copies" / "file").exists()


async def test_closing_waits_for_what_runs_and_refuses_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        size = 64 * MIB
        streaming = asyncio.create_task(sink.write("big", file_entry("big", size), StreamedContent(size)))
        small = [asyncio.create_task(write(sink, f"f{number}")) for number in range(300)]
        await asyncio.sleep(0.01)
        await sink.close()
        results = await asyncio.gather(streaming, *small, return_exceptions=True)

        assert all(result is None or isinstance(result, Entry | SinkUnavailable) for result in results)
        await sink.open()
        written = sum(isinstance(result, Entry) for result in results)
        assert len(await keys(sink, "f")) == written
        assert "big" not in await keys(sink)


class Gated:
    """Content whose end waits for the gate."""

    md5 = b""
    memory_bytes = MIB
    size = 2 * MIB

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.gate = asyncio.Event()

    async def read(self) -> bytes:
        raise NotImplementedError

    async def stream(self) -> AsyncGenerator[bytes, None]:
        yield bytes(MIB)
        self.started.set()
        await self.gate.wait()
        yield bytes(MIB)


async def test_a_write_that_began_before_the_sink_was_opened_again_ends_there(tmp_path: Path) -> None:
    """The descriptors that it holds may have become others' meanwhile."""
    async with opened(tmp_path / "copies") as sink:
        content = Gated()
        task = asyncio.create_task(sink.write("file", file_entry("file", content.size), content))
        await content.started.wait()
        await sink.open()
        content.gate.set()
        with pytest.raises(SinkUnavailable, match="closed meanwhile"):
            await task
        await write(sink, "other")
        assert await keys(sink) == ["other"]
        assert len(os.listdir(tmp_path / "copies" / ".filerbackup" / "tmp")) == 1


async def test_slow_disks_are_used_by_many_threads() -> None:
    workers = Workers(64)
    steps = 640

    began = time.monotonic()
    await asyncio.gather(*(workers.short(lambda: time.sleep(0.01)) for _ in range(steps)))
    took = time.monotonic() - began
    await workers.close()

    assert took < steps * 0.01 / 8


async def test_a_step_that_hangs_does_not_hold_up_the_others() -> None:
    workers = Workers(8)
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result(timeout=30)

    hanging = asyncio.create_task(workers.short(hang))
    await asyncio.sleep(0.005)
    assert await asyncio.wait_for(workers.short(lambda: 7), 10) == 7
    let_go.set()
    await hanging
    await workers.close()


@pytest.mark.parametrize("kind", ["short", "long"])
async def test_a_file_system_that_does_not_answer_is_said(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STUCK_S", 0.1)
    workers = Workers(8)
    let_go = threading.Event()
    hanging = asyncio.create_task(getattr(workers, kind)(lambda: let_go.wait(30)))
    try:
        async with asyncio.timeout(10):
            while "has not answered" not in caplog.text:
                await asyncio.sleep(0.01)
    finally:
        let_go.set()
    await hanging
    assert "answers again" in caplog.text
    caplog.clear()
    await workers.close()
    await asyncio.sleep(0.15)
    assert not caplog.text


async def test_a_file_system_that_hangs_for_long_is_said_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STUCK_S", 0.05)
    monkeypatch.setattr(threads, "REMIND_EVERY_S", 0.4)
    workers = Workers(8)
    let_go = threading.Event()
    hanging = [asyncio.create_task(workers.long(lambda: let_go.wait(30))) for _ in range(3)]
    try:
        async with asyncio.timeout(10):
            while caplog.text.count("has not answered") < 2:
                await asyncio.sleep(0.01)
        first, second = (record.created for record in caplog.records if "has not" in record.message)
        assert second - first > 0.35
    finally:
        let_go.set()
        await asyncio.gather(*hanging)
    await workers.close()
    assert caplog.text.count("answers again") == 1


async def test_a_step_that_fails_fails_alone() -> None:
    workers = Workers(2)
    results = await asyncio.gather(
        *(workers.short(lambda number=number: 1 // number) for number in (1, 0, 1)), return_exceptions=True
    )
    await workers.close()

    assert results[0] == results[2] == 1
    assert isinstance(results[1], ZeroDivisionError)


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def everything(directory: Path) -> None:
        async with opened(directory) as sink:
            entry = await write(sink, "a/b/file")
            await sink.write("big", file_entry("big", MIB), StreamedContent(MIB))
            await sink.write("d", directory_entry("d"), NOTHING)
            await sink.write("l", symlink_entry("l", "x"), NOTHING)
            assert await sink.move("a/b/file", "c/file", entry)
            assert not await sink.move("a/b/file", "c/file", entry)
            for key in ("", "/", "x" * 256, "l/below"):
                with pytest.raises((SinkError, FileNotFoundError)):
                    await anext(sink.read(key))
            reader = sink.read("big")
            await anext(reader)
            await reader.aclose()
            listing = sink.list()
            await anext(listing)
            await listing.aclose()
            await sink.write_own(".filerbackup/sink.json", b"{}")
            await sink.flush()
            await sink.delete_tree("a")

    await everything(tmp_path / "warm")
    before = open_files()
    for number in range(3):
        await everything(tmp_path / f"copies{number}")
    assert open_files() == before
