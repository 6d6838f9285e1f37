"""Listing and looking: in order, lazily, from anywhere; reading whole and in part."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib

import pytest

from filerbackup.content import InlineContent
from filerbackup.events import Chunk, EntryKind
from filerbackup.sinks.base import Listed, Sink
from filerbackup.sinks.keys import sort_key
from tests.contract.contents import (
    MTIME_NS,
    NOTHING,
    StreamedContent,
    directory_entry,
    file_entry,
    symlink_entry,
)
from tests.contract.place import Harness, Place

KEYS = ["a/b", "a-b", "a.b", "ab", "a/b.c/d", "a/b-c", "B", "é", "z/\U0001f600", "z/\uffff", "a/b.c/é/ü"]


@pytest.fixture
def keys(harness: Harness) -> list[str]:
    """Keys in which byte order, path order and the order of UTF-16 differ."""
    return [key for key in KEYS if not set(key) & set(harness.garbles)]


async def fill(sink: Sink, keys: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for key in keys:
            data = key.encode()
            group.create_task(sink.write(key, file_entry(key, len(data)), InlineContent(data)))


async def listed(sink: Sink, prefix: str = "", start_after: str = "") -> list[str]:
    """The keys, a directory's with a slash behind: as they sort."""
    return [as_sorted(found) async for found in sink.list(prefix, start_after)]


async def only(sink: Sink, prefix: str) -> Listed:
    (found,) = [found async for found in sink.list(prefix)]
    return found


def as_sorted(found: Listed) -> str:
    return found.key + "/" if found.kind is EntryKind.DIRECTORY else found.key


def expected(sink: Sink, keys: list[str]) -> list[str]:
    names = set(keys)
    if sink.capabilities.directories:
        for key in keys:
            parts = key.split("/")
            names.update("/".join(parts[:depth]) + "/" for depth in range(1, len(parts)))
    return sorted(names, key=str.encode)


async def test_the_order_is_that_of_the_bytes(sink: Sink, keys: list[str]) -> None:
    await fill(sink, keys)

    assert await listed(sink) == expected(sink, keys)
    files = [name for name in await listed(sink) if not name.endswith("/")]
    assert files[:6] == ["B", "a-b", "a.b", "a/b", "a/b-c", "a/b.c/d"]
    assert files == sorted(files, key=lambda key: sort_key(key, is_directory=False))


async def test_a_listing_starts_anywhere(sink: Sink, keys: list[str]) -> None:
    await fill(sink, keys)
    everything = expected(sink, keys)
    for start in [*everything, "", "a", "a/", "a/b.", "a/b.c", "a/b.c/", "a/zzz", "b", "zz", "\U0010ffff"]:
        wanted = [name for name in everything if name.encode() > start.encode()]
        assert await listed(sink, start_after=start) == wanted, start


async def test_a_listing_keeps_to_its_prefix(sink: Sink, keys: list[str]) -> None:
    await fill(sink, keys)
    everything = expected(sink, keys)
    for prefix in ["a", "a/", "a/b", "a/b.c", "a/b.c/", "a/b.c/d", "z/", "none", "none/", "B", "é"]:
        wanted = [name for name in everything if name.removesuffix("/").startswith(prefix)]
        assert await listed(sink, prefix) == wanted, prefix
        after = [name for name in wanted if name.encode() > b"a/b"]
        assert await listed(sink, prefix, "a/b") == after, prefix


async def test_an_empty_sink_lists_nothing(sink: Sink) -> None:
    assert await listed(sink) == []


async def test_more_than_a_page_and_then_none(sink: Sink, place: Place) -> None:
    keys = [f"many/d{number % 3}/{number:05d}" for number in range(1100)]
    beside = ["many-more", "many.txt", "manyfold/x", "man"]
    await fill(sink, keys + beside)

    assert await listed(sink) == expected(sink, keys + beside)
    middle = keys[500]
    behind = [name for name in expected(sink, keys + beside) if name.encode() > middle.encode()]
    assert await listed(sink, start_after=middle) == behind

    listing = sink.list()
    first = await anext(listing)
    assert as_sorted(first) == expected(sink, keys + beside)[0]
    await listing.aclose()

    await sink.delete_tree("many")
    assert sorted(name for name in await place.keys() if not name.endswith("/")) == sorted(beside)
    assert await listed(sink) == expected(sink, beside)


async def test_an_object_deleted_while_listing_is_no_error(sink: Sink) -> None:
    await fill(sink, [f"d/{number:04d}" for number in range(50)])
    seen = []
    async for found in sink.list("d/"):
        seen.append(found.key)
        await sink.delete(f"d/{49:04d}")

    assert seen[:49] == [f"d/{number:04d}" for number in range(49)]


async def test_what_is_listed_says_what_it_is(sink: Sink) -> None:
    await fill(sink, ["d/file"])
    if sink.capabilities.symlinks:
        await sink.write("d/link", symlink_entry("d/link", "target"), NOTHING)
    found = {entry.key: entry async for entry in sink.list()}

    assert (found["d/file"].kind, found["d/file"].size) == (EntryKind.FILE, 6)
    assert found["d/file"].mtime_ns in (MTIME_NS, None)
    if sink.capabilities.directories:
        assert found["d"].kind is EntryKind.DIRECTORY
    if sink.capabilities.symlinks:
        assert found["d/link"].kind is EntryKind.SYMLINK


async def test_stat_shows_what_a_listing_shows(sink: Sink) -> None:
    await fill(sink, ["d/file"])
    async for found in sink.list():
        shown = await sink.stat(found.key)
        assert shown is not None
        assert (shown.key, shown.kind, shown.size) == (found.key, found.kind, found.size)

    assert await sink.stat("d/other") is None
    assert await sink.stat("other/file") is None
    assert await sink.stat("d/file/below") is None


async def test_matches_only_what_is_equal(sink: Sink) -> None:
    data = b"x" * 1000
    entry = file_entry("d/file", 1000)
    await sink.write("d/file", entry, InlineContent(data))
    found = await only(sink, "d/file")
    looked_up = await sink.stat("d/file")
    assert looked_up is not None

    for shown in (found, looked_up):
        assert await sink.matches(shown, entry)
        assert not await sink.matches(shown, dataclasses.replace(entry, size=1001))
        assert not await sink.matches(shown, dataclasses.replace(entry, mtime_ns=MTIME_NS + 1))
        assert not await sink.matches(shown, dataclasses.replace(entry, mtime_ns=MTIME_NS - 10**9))
        assert not await sink.matches(shown, directory_entry("d/file"))
        assert not await sink.matches(shown, symlink_entry("d/file", "target"))

    await sink.write("d/file", dataclasses.replace(entry, mtime_ns=MTIME_NS + 1), InlineContent(data))
    found = await only(sink, "d/file")
    assert not await sink.matches(found, entry)


@pytest.mark.parametrize("has_md5", [True, False])
async def test_two_versions_of_one_second_do_not_match(sink: Sink, has_md5: bool) -> None:
    """The S3 gateway keeps whole seconds: size and time alone cannot tell these apart."""
    second = MTIME_NS - MTIME_NS % 10**9
    first, newer = (
        dataclasses.replace(
            file_entry("o", 5, mtime_ns=second),
            chunks=(Chunk(f"3,0{number}deadbeef", 0, 5, second + number),),
            md5=hashlib.md5(data).digest() if has_md5 else b"",
        )
        for number, data in ((1, b"first"), (2, b"newer"))
    )
    await sink.write("o", first, InlineContent(b"first", first.md5))
    found = await only(sink, "o")

    assert await sink.matches(found, first) or not has_md5
    assert not await sink.matches(found, newer)


async def test_a_directory_and_a_symlink_match_their_entries(sink: Sink) -> None:
    if sink.capabilities.directories:
        await sink.write("d", directory_entry("d", mode=0o750), NOTHING)
        found = await sink.stat("d")
        assert found is not None
        assert await sink.matches(found, directory_entry("d", mode=0o750))
        assert not await sink.matches(found, directory_entry("d", mode=0o700))
        assert not await sink.matches(found, file_entry("d"))
    if sink.capabilities.symlinks:
        await sink.write("link", symlink_entry("link", "one"), NOTHING)
        found = await only(sink, "link")
        assert await sink.matches(found, symlink_entry("link", "one"))
        assert not await sink.matches(found, symlink_entry("link", "two"))


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (1, None), (0, 1), (5, 10), (2_999_990, None), (2_999_990, 100), (10, 0)],
)
async def test_reading_a_part(sink: Sink, offset: int, length: int | None) -> None:
    content = StreamedContent(3_000_000)
    await sink.write("file", file_entry("file", content.size), content)

    blocks = [block async for block in sink.read("file", offset, length)]

    end = None if length is None else offset + length
    assert b"".join(blocks) == (await content.read())[offset:end]


async def test_reading_what_is_empty_or_absent(sink: Sink) -> None:
    await sink.write("d/empty", file_entry("d/empty"), NOTHING)

    assert b"".join([block async for block in sink.read("d/empty")]) == b""
    for key in ("absent", "d/absent", "d/empty/absent"):
        with pytest.raises(FileNotFoundError):
            await anext(sink.read(key))


async def test_a_reader_may_leave_early(sink: Sink) -> None:
    content = StreamedContent(6 << 20)
    await sink.write("file", file_entry("file", content.size), content)
    reader = sink.read("file")
    await anext(reader)
    await reader.aclose()

    await sink.delete("file")
