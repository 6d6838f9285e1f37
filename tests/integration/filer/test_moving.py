"""Moves and changes of attributes: the chunks stay where they are."""

from __future__ import annotations

import dataclasses
import hashlib

from filerbackup.content import InlineContent
from filerbackup.events import Entry
from filerbackup.sinks.filer import FilerSink
from tests.contract.contents import MTIME_NS, NOTHING, StreamedContent, directory_entry, file_entry
from tests.integration.filer.conftest import SMALL_CHUNKS, opened
from tests.support.daemon import wait_until
from tests.support.filer_looks import Looks
from tests.support.weed import WeedServer


def known(key: str, data: bytes) -> Entry:
    return dataclasses.replace(file_entry(key, len(data)), md5=hashlib.md5(data).digest())


def ids(looks: Looks, path: str) -> list[str]:
    entry = looks.entry(path)
    assert entry is not None
    return [chunk.file_id for chunk in entry.chunks]


async def write(sink: FilerSink, key: str, data: bytes) -> Entry:
    entry = known(key, data)
    await sink.write(key, entry, InlineContent(data, entry.md5))
    return entry


async def test_a_file_moves_with_its_chunks_and_gets_new_attributes(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    content = StreamedContent(120 * 64 << 10)
    entry = dataclasses.replace(file_entry("old", content.size), md5=content.md5)
    async with opened(weed, folder, sizes=SMALL_CHUNKS) as sink:
        await sink.write("old", entry, content)
        before = ids(looks, f"{folder}/old")
        newer = dataclasses.replace(entry, mode=0o100600, mtime_ns=MTIME_NS + 1, extended={"a": b"1"})

        assert await sink.move("old", "new/place", newer)
        assert ids(looks, f"{folder}/new/place") == before
        assert looks.entry(f"{folder}/old") is None
        assert looks.content(f"{folder}/new/place") == await content.read()
        shown = await sink.stat("new/place")
        assert shown is not None
        assert await sink.matches(shown, newer)

        # The answer was lost, and the same comes again.
        assert await sink.move("old", "new/place", newer)
        assert await sink.update("new/place", entry)
        assert ids(looks, f"{folder}/new/place") == before


async def test_a_replaced_file_s_chunks_go(weed: WeedServer, looks: Looks, folder: str) -> None:
    async with opened(weed, folder) as sink:
        entry = await write(sink, "old", b"stays")
        await write(sink, "new", b"goes")
        (gone,), (kept,) = ids(looks, f"{folder}/new"), ids(looks, f"{folder}/old")
        assert await sink.move("old", "new", entry)
        wait_until(lambda: looks.needle(gone) is None)
        assert looks.needle(kept) == b"stays"


async def test_a_large_tree_moves_in_one_step(weed: WeedServer, looks: Looks, folder: str) -> None:
    async with opened(weed, folder) as sink:
        keys = [f"old/{a}/{b}" for a in "abc" for b in range(40)]
        for key in keys:
            await write(sink, key, key.encode())
        await sink.write("old/empty", directory_entry("old/empty"), NOTHING)
        assert await sink.move("old", "far/new", directory_entry("old", mode=0o711))

        found = {path for path, _ in looks.below(f"{folder}/far/new")}
        assert found == {"a", "b", "c", "empty"} | {key.removeprefix("old/") for key in keys}
        assert looks.content(f"{folder}/far/new/b/7") == b"old/b/7"
        # What is known of directories has moved with them.
        await write(sink, "old/a/x", b"new tree")
        assert {path for path, _ in looks.below(f"{folder}/old")} == {"a", "a/x"}


async def test_a_file_below_a_directory_that_became_a_file(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    async with opened(weed, folder) as sink:
        entry = await write(sink, "x/y/z", b"1")
        await write(sink, "x", b"a file")
        assert not await sink.move("x/y/z", "elsewhere", entry)
        await write(sink, "x/y/z", b"2")
        assert {path for path, _ in looks.below(f"{folder}/x")} == {"y", "y/z"}


async def test_nothing_moves_from_bucket_to_bucket(weed: WeedServer, looks: Looks, folder: str) -> None:
    one, other = f"b1{folder[-8:]}", f"b2{folder[-8:]}"
    async with opened(weed, "/buckets") as sink:
        entry = await write(sink, f"{one}/file", b"data")
        await sink.write(other, directory_entry(other), NOTHING)
        assert not await sink.move(f"{one}/file", f"{other}/file", entry)
        assert not await sink.move(one, f"{one}-renamed", directory_entry(one))
        assert await sink.move(f"{one}/file", f"{one}/moved", entry)
        assert looks.content(f"/buckets/{one}/moved") == b"data"
        for bucket in (one, other):
            await sink.delete_tree(bucket)
        assert {path.split("/")[0] for path, _ in looks.below("/buckets")} & {one, other} == set()


async def test_other_content_is_neither_moved_nor_updated(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    async with opened(weed, folder) as sink:
        await write(sink, "file", b"first")
        for other in (known("file", b"other"), dataclasses.replace(known("file", b"first"), size=6)):
            assert not await sink.move("file", "new", other)
            assert not await sink.update("file", other)
        assert looks.content(f"{folder}/file") == b"first"
        assert looks.entry(f"{folder}/new") is None
