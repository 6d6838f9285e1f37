"""What every sink does with content: whole or absent, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import FilerBackupError, ObjectRejected, SourceUnreachable, Unreadable
from filerbackup.events import Entry, EntryKind
from filerbackup.sinks.base import Sink
from tests.contract.contents import (
    MTIME_NS,
    NOTHING,
    BreakingContent,
    ShortContent,
    StreamedContent,
    directory_entry,
    file_entry,
    some_bytes,
    symlink_entry,
)
from tests.contract.harness import harnesses
from tests.contract.place import Place

MIB = 1 << 20


async def write(sink: Sink, key: str, data: bytes, **attributes: int) -> Entry:
    entry = file_entry(key, len(data), **attributes)
    await sink.write(key, entry, InlineContent(data))
    return entry


@pytest.mark.parametrize("size", [0, 1, 4096, 5 * MIB + 3, 70 * MIB])
async def test_every_size_arrives_whole(sink: Sink, place: Place, size: int) -> None:
    content = StreamedContent(size)

    await sink.write("deep/er/file", file_entry("deep/er/file", size), content)

    assert await place.content("deep/er/file") == await content.read()
    assert await place.unfinished() == set()


@pytest.mark.parametrize(("before", "after"), [(10, 3), (3, 10), (10, 0), (10, 6 * MIB), (6 * MIB, 10)])
async def test_a_write_replaces_what_was_there(sink: Sink, place: Place, before: int, after: int) -> None:
    await write(sink, "file", some_bytes(before, seed=1))

    await write(sink, "file", some_bytes(after, seed=2), mtime_ns=MTIME_NS + 1)

    assert await place.content("file") == some_bytes(after, seed=2)


async def test_the_same_write_again_is_harmless(sink: Sink, place: Place) -> None:
    for _ in range(2):
        await write(sink, "a/file", b"same")

    assert await place.content("a/file") == b"same"
    assert len([listed async for listed in sink.list("a/")]) == 1


async def test_many_keys_at_once(sink: Sink, place: Place) -> None:
    wanted = {f"d{number % 5}/f{number}": some_bytes(number * 997, seed=number) for number in range(64)}

    async with asyncio.TaskGroup() as group:
        for key, data in wanted.items():
            group.create_task(write(sink, key, data))

    for key, data in wanted.items():
        assert await place.content(key) == data, key


@pytest.mark.parametrize(("size", "good"), [(1000, 0), (24 * MIB, 18 * MIB)])
@pytest.mark.parametrize("error", [Unreadable("wrong hash"), SourceUnreachable("the volume server is down")])
async def test_content_that_breaks_changes_nothing(
    sink: Sink, place: Place, size: int, good: int, error: FilerBackupError
) -> None:
    await write(sink, "old", b"the version before")
    for key in ("old", "new"):
        with pytest.raises(type(error)) as caught:
            await sink.write(key, file_entry(key, size), BreakingContent(size, good_bytes=good, error=error))
        assert caught.value is error

    assert await place.content("old") == b"the version before"
    assert await place.content("new") is None
    assert await place.unfinished() == set()


@pytest.mark.parametrize(("size", "comes"), [(1000, 999), (1000, 0), (12 * MIB, 12 * MIB - 1), (3, 4)])
async def test_content_of_another_length_changes_nothing(
    sink: Sink, place: Place, size: int, comes: int
) -> None:
    await write(sink, "old", b"the version before")
    for key in ("old", "new"):
        with pytest.raises(FilerBackupError):
            await sink.write(key, file_entry(key, size), ShortContent(size, comes=comes))

    assert await place.content("old") == b"the version before"
    assert await place.content("new") is None
    assert await place.unfinished() == set()


class _Endless:
    """Content that begins and then waits for ever."""

    md5 = b""
    memory_bytes = MIB

    def __init__(self, size: int) -> None:
        self.size = size
        self.started = asyncio.Event()

    async def read(self) -> bytes:
        self.started.set()
        await asyncio.Event().wait()
        return b""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        for _ in range(10):
            yield bytes(MIB)
        self.started.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("size", [1000, 24 * MIB])
async def test_a_cancelled_write_changes_nothing(sink: Sink, place: Place, size: int) -> None:
    await write(sink, "file", b"the version before")
    content = _Endless(size)
    task = asyncio.create_task(sink.write("file", file_entry("file", size), content))
    await asyncio.wait_for(content.started.wait(), 10)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await place.content("file") == b"the version before"
    assert await place.unfinished() == set()


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444, 0o755, 0o000])
async def test_mode_and_time_are_kept(sink: Sink, place: Place, mode: int) -> None:
    await write(sink, "file", b"data", mode=mode, mtime_ns=MTIME_NS)

    assert await place.mode("file") in (mode, None)
    assert await place.mtime_ns("file") in (MTIME_NS, None)


@pytest.mark.parametrize("mtime_ns", [0, 1, 999_999_999, 4_000_000_000_000_000_001])
async def test_odd_times_are_kept(sink: Sink, place: Place, mtime_ns: int) -> None:
    await write(sink, "file", b"data", mtime_ns=mtime_ns)

    assert await place.mtime_ns("file") in (mtime_ns, None)


async def test_a_read_only_file_is_overwritten(sink: Sink, place: Place) -> None:
    await write(sink, "d/file", b"one", mode=0o444)
    await write(sink, "d/file", b"two", mode=0o400)

    assert await place.content("d/file") == b"two"
    assert await place.mode("d/file") in (0o400, None)


async def test_an_empty_directory_is_kept_where_it_can_be(sink: Sink, place: Place) -> None:
    if not sink.capabilities.directories:
        pytest.skip("keeps no directories")
    await sink.write("a/empty", directory_entry("a/empty", mode=0o750), NOTHING)

    assert await place.keys() == {"a/", "a/empty/"}
    assert await place.mode("a/empty") in (0o750, None)


async def test_writing_a_directory_again_keeps_what_is_in_it(sink: Sink, place: Place) -> None:
    if not sink.capabilities.directories:
        pytest.skip("keeps no directories")
    await write(sink, "d/file", b"data")
    await sink.write("d", directory_entry("d", mode=0o711), NOTHING)

    assert await place.content("d/file") == b"data"
    assert await place.mode("d") in (0o711, None)


async def test_a_file_becomes_a_directory_and_back(sink: Sink, place: Place) -> None:
    if not sink.capabilities.directories:
        pytest.skip("keeps no directories: nothing is in the way")
    await write(sink, "x", b"file")
    await write(sink, "x/below/file", b"below")
    assert await place.keys() == {"x/", "x/below/", "x/below/file"}

    await write(sink, "x", b"file again")
    assert await place.keys() == {"x"}

    await sink.write("x", directory_entry("x"), NOTHING)
    assert await place.keys() == {"x/"}


TARGETS = ["../elsewhere", "/etc/passwd", "a b", "ümläut/\U0001f600", "x" * 900]


@pytest.mark.parametrize("target", TARGETS, ids=range(len(TARGETS)))
async def test_a_symlink_keeps_its_target_as_it_is(sink: Sink, place: Place, target: str) -> None:
    if not sink.capabilities.symlinks:
        pytest.skip("keeps no symlinks")
    await sink.write("d/link", symlink_entry("d/link", target), NOTHING)

    assert await place.symlink_target("d/link") == target
    assert await place.mtime_ns("d/link") in (MTIME_NS, None)


async def test_a_symlink_becomes_a_file_and_back(sink: Sink, place: Place) -> None:
    if not sink.capabilities.symlinks:
        pytest.skip("keeps no symlinks")
    link = symlink_entry("x", "target")
    for _ in range(2):
        await sink.write("x", link, NOTHING)
        assert [(found.key, found.kind) async for found in sink.list()] == [("x", EntryKind.SYMLINK)]

        await write(sink, "x", b"file")
        assert [(found.key, found.kind) async for found in sink.list()] == [("x", EntryKind.FILE)]
        assert await place.symlink_target("x") is None
        assert await place.content("x") == b"file"


async def test_a_symlink_is_replaced_and_not_followed(sink: Sink, place: Place) -> None:
    if not sink.capabilities.symlinks:
        pytest.skip("keeps no symlinks")
    await write(sink, "victim", b"victim")
    await sink.write("link", symlink_entry("link", "victim"), NOTHING)
    await sink.write("link", symlink_entry("link", "other"), NOTHING)
    assert await place.symlink_target("link") == "other"

    await sink.write("link", symlink_entry("link", "victim"), NOTHING)
    await write(sink, "link", b"file")
    assert await place.content("victim") == b"victim"


async def test_devices_are_rejected(sink: Sink, place: Place) -> None:
    device = Entry("/device", EntryKind.SPECIAL)
    with pytest.raises(ObjectRejected, match="device"):
        await sink.write("device", device, NOTHING)

    assert await place.keys() == set()


async def test_a_sink_that_was_opened_again_goes_on(place: Place) -> None:
    sink = place.sink()
    await sink.open()
    await write(sink, "one", b"1")
    await sink.open()
    await write(sink, "two", b"2")
    await sink.close()
    await sink.close()

    another = place.sink()
    await another.open()
    await write(another, "three", b"3")
    assert [listed.key async for listed in another.list()] == ["one", "three", "two"]
    await another.close()


async def test_flush_after_changes_and_without_any(sink: Sink, place: Place) -> None:
    await sink.flush()
    await write(sink, "file", b"data")
    await sink.flush()
    await sink.flush()

    assert await place.content("file") == b"data"


def test_the_suite_runs_on_the_local_sink_and_the_reference() -> None:
    assert {"local", "memory"} <= {each.name for each in harnesses}
