"""What a file is beside its bytes: kept, carried along by a move, changed without a new upload."""

from __future__ import annotations

import dataclasses
import hashlib
import stat
from collections.abc import Mapping

import pytest

from filerbackup.content import InlineContent
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.sinks.base import Sink
from tests.contract.contents import MTIME_NS, file_entry, some_bytes
from tests.contract.place import Harness, Place

MIB = 1 << 20
EXTENDED = {
    "X-Amz-Meta-Owner": b"anna",
    "X-Amz-Meta-Project-Name": b"the big one, part 2",
    "X-Amz-Tagging-team": b"storage",
    "X-Amz-Tagging-cost-centre": b"4711",
    "Cache-Control": b"max-age=3600",
    "Content-Disposition": b'attachment; filename="x.txt"',
    "Content-Encoding": b"identity",
    "Content-Language": b"de",
    "Expires": b"Wed, 21 Oct 2026 07:28:00 GMT",
    "Seaweed-X-Amz-Owner": b"private",
    "X-Seaweedfs-Sse-S3-Key": b"private",
}
KEPT = {
    "content-type": "text/plain",
    "meta:owner": "anna",
    "meta:project-name": "the big one, part 2",
    "tag:team": "storage",
    "tag:cost-centre": "4711",
    "cache-control": "max-age=3600",
    "content-disposition": 'attachment; filename="x.txt"',
    "content-encoding": "identity",
    "content-language": "de",
    "expires": "Wed, 21 Oct 2026 07:28:00 GMT",
}
NOTHING_KEPT = {"content-type": "application/octet-stream"}
SIZES = [5, 6 * MIB]
"""In one request, and in parts."""


def known(key: str, data: bytes, *, by: str = "md5", extended: Mapping[str, bytes] | None = None) -> Entry:
    """An entry whose content can be told by its MD5, by its chunks, by both, or not at all."""
    chunk = Chunk(f"3,{hashlib.md5(data).hexdigest()[:10]}", 0, len(data), MTIME_NS)
    return dataclasses.replace(
        file_entry(key, len(data)),
        md5=hashlib.md5(data).digest() if by in ("md5", "both") else b"",
        chunks=(chunk,) if by in ("chunks", "both") else (),
        mime="text/plain" if extended else "",
        extended=extended or {},
    )


async def write(sink: Sink, key: str, entry: Entry, data: bytes) -> None:
    await sink.write(key, entry, InlineContent(data, entry.md5))


def kept(harness: Harness, wanted: Mapping[str, str]) -> dict[str, str]:
    """What of it the service has room for."""
    return {name: text for name, text in wanted.items() if name.split(":")[0] not in harness.loses}


async def assert_kept(place: Place, harness: Harness, key: str, wanted: Mapping[str, str]) -> None:
    found = await place.metadata(key)
    if found is not None:
        left = harness.sticks - (wanted.keys() if wanted is not NOTHING_KEPT else set())
        assert without(found, left) == without(kept(harness, wanted), left)


def without(metadata: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: text for name, text in metadata.items() if name not in names}


@pytest.mark.parametrize("size", SIZES)
async def test_metadata_is_kept_and_replaced(sink: Sink, place: Place, harness: Harness, size: int) -> None:
    data = some_bytes(size)
    await write(sink, "file", known("file", data, extended=EXTENDED), data)
    await assert_kept(place, harness, "file", KEPT)

    await write(sink, "file", known("file", data), data)
    await assert_kept(place, harness, "file", NOTHING_KEPT)


async def test_metadata_that_no_header_can_hold_costs_no_file(sink: Sink, place: Place) -> None:
    odd = {
        "X-Amz-Meta-Two Words": b"x",
        "X-Amz-Meta-Ünïcode": b"x",
        "X-Amz-Meta-Broken": b"a\r\nInjected: yes",
        "X-Amz-Meta-Raw": b"\xff\xfe\x00",
        "X-Amz-Meta-Huge": b"h" * 100_000,
        "X-Amz-Meta-": b"no name",
        "X-Amz-Meta-Mtime": b"1",
        "X-Amz-Meta-Mode": b"nonsense",
        "X-Amz-Meta-Src_last_modified_millis": b"1",
        "X-Amz-Tagging-" + "t" * 300: b"x",
        "Cache-Control": b"no\r\n-store",
        "Content-Encoding": b"",
        **{f"X-Amz-Meta-Many-{number}": b"x" * 50 for number in range(200)},
    }
    entry = dataclasses.replace(known("file", b"data"), extended=odd, mime="broken\r\nx: y")
    await write(sink, "file", entry, b"data")

    assert await place.content("file") == b"data"
    assert await place.mtime_ns("file") in (MTIME_NS, None)
    assert await place.mode("file") in (0o644, None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("by", ["md5", "chunks", "both"])
async def test_attributes_change_without_an_upload(
    sink: Sink, place: Place, harness: Harness, by: str, size: int
) -> None:
    data = some_bytes(size)
    entry = known("d/file", data, by=by, extended={"X-Amz-Meta-Owner": b"otto", "X-Amz-Tagging-old": b"1"})
    await write(sink, "d/file", entry, data)
    for number, extended in ((1, EXTENDED), (2, {})):
        newer = dataclasses.replace(
            entry,
            mode=stat.S_IFREG | 0o600 + number,
            mtime_ns=MTIME_NS + number * 1_111_111_111,
            extended=extended,
            mime="text/plain" if extended else "",
        )
        updated = await sink.update("d/file", newer)

        assert updated is sink.capabilities.update
        if updated:
            assert await place.content("d/file") == data
            assert await place.mode("d/file") in (0o600 + number, None)
            assert await place.mtime_ns("d/file") in (newer.mtime_ns, None)
            await assert_kept(place, harness, "d/file", KEPT if extended else NOTHING_KEPT)
            shown = await sink.stat("d/file")
            assert shown is not None
            assert await sink.matches(shown, newer)
            assert not await sink.matches(shown, entry)
    assert await place.unfinished() == set()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("by", ["md5", "chunks", "both"])
async def test_a_thorough_comparison_finds_other_attributes(
    sink: Sink, place: Place, harness: Harness, by: str, size: int
) -> None:
    """A listing of most services shows none of them."""
    data = some_bytes(size)
    entry = known("d/file", data, by=by, extended=EXTENDED)
    await write(sink, "d/file", entry, data)
    (listed,) = [found async for found in sink.list("d/") if found.kind is EntryKind.FILE]

    assert await sink.matches(listed, entry, thorough=True)
    others: dict[str, object] = {"mtime_ns": MTIME_NS + 5_000_000_000}
    if await place.mode("d/file") is not None:
        others["mode"] = stat.S_IFREG | 0o601
    if await place.metadata("d/file") is not None and "meta" not in harness.loses:
        others["extended"] = {**EXTENDED, "X-Amz-Meta-Owner": b"someone else"}
    for name, value in others.items():
        changed = dataclasses.replace(entry, **{name: value})  # type: ignore[arg-type]
        assert not await sink.matches(listed, changed, thorough=True), name


@pytest.mark.parametrize("by", ["md5", "chunks", "nothing"])
async def test_other_content_is_not_updated(sink: Sink, place: Place, by: str) -> None:
    entry = known("file", b"first", by=by)
    await write(sink, "file", entry, b"first")
    newer = {"mode": stat.S_IFREG | 0o600, "mtime_ns": MTIME_NS + 5}

    for other in (b"newer", b"longer", b""):
        assert not await sink.update("file", dataclasses.replace(known("file", other, by=by), **newer))
    if by == "nothing":
        assert not await sink.update("file", dataclasses.replace(entry, **newer))
    for key in ("absent", "d/absent", "file/below"):
        assert not await sink.update(key, dataclasses.replace(entry, **newer))

    assert await place.content("file") == b"first"
    assert await place.mode("file") in (0o644, None)
    assert await place.mtime_ns("file") in (MTIME_NS, None)
    assert await place.keys() == {"file"}


@pytest.mark.parametrize("size", SIZES)
async def test_a_move_takes_everything_along(sink: Sink, place: Place, harness: Harness, size: int) -> None:
    if not sink.capabilities.move:
        pytest.skip("cannot move")
    data = some_bytes(size)
    entry = known("old/file", data, by="both", extended=EXTENDED)
    await write(sink, "old/file", entry, data)
    await write(sink, "new", known("new", b"in the way"), b"in the way")

    for old, new in (("old/file", "new"), ("new", "deep/er/ö ?#%20+"), ("deep/er/ö ?#%20+", "old/file")):
        assert await sink.move(old, new, entry)
        assert await place.content(new) == data
        assert await place.content(old) is None
        assert await place.mode(new) in (0o644, None)
        assert await place.mtime_ns(new) in (MTIME_NS, None)
        await assert_kept(place, harness, new, KEPT)
        shown = await sink.stat(new)
        assert shown is not None
        assert await sink.matches(shown, entry)
    assert {key for key in await place.keys() if not key.endswith("/")} == {"old/file"}
    assert await place.unfinished() == set()


async def test_a_move_of_other_content_changes_nothing(sink: Sink, place: Place) -> None:
    await write(sink, "old", known("old", b"first"), b"first")
    await write(sink, "new", known("new", b"there"), b"there")

    assert not await sink.move("old", "new", known("old", b"newer"))
    assert not await sink.move("old", "new", known("old", b"longer"))

    assert await place.content("old") == b"first"
    assert await place.content("new") == b"there"
