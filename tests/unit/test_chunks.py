"""Visible intervals against the obvious model: an array of bytes that every write paints over."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.events import Chunk
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.chunks import Interval, visible_intervals
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.manifests import resolved_intervals


def chunk(offset: int, size: int, at: int = 1, name: str = "1,01") -> Chunk:
    return Chunk(name, offset, size, at)


def painted(chunks: list[Chunk], size: int) -> list[tuple[int, int] | None]:
    """For each byte of the file, which chunk (by index) and which of its bytes."""
    canvas: list[tuple[int, int] | None] = [None] * size
    in_order = sorted(enumerate(chunks), key=lambda pair: (pair[1].modified_ts_ns, pair[0]))
    for index, one in in_order:
        for position in range(max(one.offset, 0), min(one.offset + one.size, size)):
            canvas[position] = (index, position - one.offset)
    return canvas


def unrolled(intervals: list[Interval], chunks: list[Chunk]) -> list[tuple[int, int] | None]:
    index_of = {id(one): index for index, one in enumerate(chunks)}
    bytes_shown: list[tuple[int, int] | None] = []
    for interval in intervals:
        assert interval.offset == len(bytes_shown)
        assert interval.size > 0
        for step in range(interval.size):
            if interval.chunk is None:
                bytes_shown.append(None)
            else:
                bytes_shown.append((index_of[id(interval.chunk)], interval.chunk_offset + step))
    return bytes_shown


@st.composite
def chunk_lists(draw: st.DrawFn) -> list[Chunk]:
    count = draw(st.integers(0, 12))
    return [
        chunk(draw(st.integers(-5, 60)), draw(st.integers(0, 30)), draw(st.integers(-1, 4)), f"1,{index:02x}")
        for index in range(count)
    ]


@given(chunks=chunk_lists(), size=st.integers(0, 80))
def test_the_newest_write_wins_and_holes_are_zeros(chunks: list[Chunk], size: int) -> None:
    assert unrolled(visible_intervals(chunks, size), chunks) == painted(chunks, size)


@given(chunks=chunk_lists(), size=st.integers(1, 80), data=st.data())
def test_a_window_is_the_same_as_that_part_of_the_whole(
    chunks: list[Chunk], size: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, size - 1))
    window = visible_intervals(chunks, size, start)
    moved = [interval._replace(offset=interval.offset - start) for interval in window]
    assert unrolled(moved, chunks) == painted(chunks, size)[start:]


@given(chunks=chunk_lists(), size=st.integers(0, 80))
def test_neighbours_come_from_different_places(chunks: list[Chunk], size: int) -> None:
    found = visible_intervals(chunks, size)
    for one, other in pairwise(found):
        assert one.chunk is not other.chunk


@pytest.mark.parametrize(
    ("chunks", "size", "expected"),
    [
        ([], 0, []),
        ([], 7, [(0, 7, None, 0)]),
        ([chunk(0, 10)], 10, [(0, 10, 0, 0)]),
        ([chunk(0, 10)], 4, [(0, 4, 0, 0)]),
        ([chunk(3, 4)], 10, [(0, 3, None, 0), (3, 4, 0, 0), (7, 3, None, 0)]),
        ([chunk(0, 10, 1), chunk(4, 2, 2)], 10, [(0, 4, 0, 0), (4, 2, 1, 0), (6, 4, 0, 6)]),
        ([chunk(4, 2, 2), chunk(0, 10, 1)], 10, [(0, 4, 1, 0), (4, 2, 0, 0), (6, 4, 1, 6)]),
        ([chunk(0, 6, 5), chunk(0, 6, 5)], 6, [(0, 6, 1, 0)]),
        ([chunk(2**63, 2**64 - 1), chunk(0, 3)], 3, [(0, 3, 1, 0)]),
        ([chunk(0, 2**64 - 1), chunk(1, 1, 9)], 3, [(0, 1, 0, 0), (1, 1, 1, 0), (2, 1, 0, 2)]),
    ],
)
def test_examples(chunks: list[Chunk], size: int, expected: list[tuple[int, int, int | None, int]]) -> None:
    wanted = [
        Interval(offset, length, None if index is None else chunks[index], inside)
        for offset, length, index, inside in expected
    ]
    assert visible_intervals(chunks, size) == wanted


@st.composite
def nested_lists(draw: st.DrawFn) -> tuple[list[pb.FileChunk], list[Chunk], dict[str, bytes]]:
    """Chunks, some of them gathered in manifests (of manifests); the same flattened; what is stored."""
    flat = [one for one in draw(chunk_lists()) if one.size and one.offset >= 0]
    stored: dict[str, bytes] = {}

    def gather(messages: list[pb.FileChunk]) -> list[pb.FileChunk]:
        # Eight levels are the most that are read.
        if len(messages) < 2 or len(stored) == 8 or not draw(st.booleans()):
            return messages
        begin = draw(st.integers(0, len(messages) - 1))
        end = draw(st.integers(begin + 1, len(messages)))
        inside = gather(messages[begin:end])
        first = min(one.offset for one in inside)
        size = max(one.offset + one.size for one in inside) - first
        name = f"2,{len(stored):010x}"
        stored[name] = pb.FileChunkManifest(chunks=inside).SerializeToString()
        manifest = pb.FileChunk(file_id=name, offset=first, size=size, is_chunk_manifest=True)
        return gather([*messages[:begin], manifest, *messages[end:]])

    messages = [
        pb.FileChunk(file_id=one.file_id, offset=one.offset, size=one.size, modified_ts_ns=one.modified_ts_ns)
        for one in flat
    ]
    return gather(messages), flat, stored


@given(lists=nested_lists(), size=st.integers(0, 80))
def test_manifests_read_as_the_list_that_they_stand_for(
    lists: tuple[list[pb.FileChunk], list[Chunk], dict[str, bytes]], size: int
) -> None:
    messages, flat, stored = lists

    async def read_stored(manifest: Chunk, limit: int) -> bytes:
        return stored[manifest.file_id]

    async def resolve() -> list[Interval]:
        chunks = [chunk_from_pb(message) for message in messages]
        return [interval async for interval in resolved_intervals(chunks, size, read_stored)]

    by_name = {one.file_id: one for one in flat}
    found = [
        interval._replace(chunk=by_name[interval.chunk.file_id]) if interval.chunk else interval
        for interval in asyncio.run(resolve())
    ]
    assert unrolled(found, flat) == painted(flat, size)


def test_a_whole_chunk_is_known_as_such() -> None:
    one = chunk(5, 10)
    assert visible_intervals([one], 15)[1].is_whole_chunk
    assert not visible_intervals([one], 14)[1].is_whole_chunk
    assert not visible_intervals([one], 15, start=6)[0].is_whole_chunk


@pytest.mark.parametrize("shape", ["in order", "all over each other", "nested", "one old below many"])
def test_many_chunks_take_no_time(shape: str) -> None:
    count = 20_000
    match shape:
        case "in order":
            chunks = [chunk(index * 10, 10, index) for index in range(count)]
        case "all over each other":
            chunks = [chunk(0, 10 * count, index % 7) for index in range(count)]
        case "nested":
            chunks = [chunk(index, 4 * count - 2 * index, index) for index in range(count)]
        case _:
            chunks = [chunk(0, 10 * count, -1), *(chunk(index * 10, 5, index) for index in range(count))]
    begun = time.perf_counter()
    found = visible_intervals(chunks, 10 * count)
    assert time.perf_counter() - begun < 5
    assert sum(interval.size for interval in found) == 10 * count
