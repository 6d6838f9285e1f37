"""What is refused, and how reading behaves: memory, leaving early, chunks that are gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from filerbackup.errors import ChunkGone, Unreadable
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.filer.client import FilerClient
from filerbackup.source.content import FileContent
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.volumes import Volumes
from tests.support.needles import live_entry, put_needle
from tests.support.reading import connected, reading, streamed
from tests.support.weed import WeedServer


@pytest.fixture
async def client(weed: WeedServer) -> AsyncIterator[FilerClient]:
    async with connected(weed) as client:
        yield client


@pytest.fixture
async def volumes(client: FilerClient) -> AsyncIterator[Volumes]:
    async with reading(client) as volumes:
        yield volumes


# -- what cannot be read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        (Entry("/x", EntryKind.FILE, 5, remote_size=5), "remote storage"),
        (Entry("/x", EntryKind.FILE, 9, remote_size=9, chunks=(Chunk("1,0011223344", 0, 5, 1),)), "remote"),
        (Entry("/x", EntryKind.FILE, 5, chunks=(Chunk("1,0011223344", 0, 5, 1, sse_type=3),)), "encrypted"),
        (Entry("/x", EntryKind.FILE, 5, extended={"x-seaweedfs-sse-s3-key": b"k"}), "encrypted"),
        (
            Entry("/x", EntryKind.FILE, 4, content=b"abcd", extended={"x-seaweedfs-sse-c-iv": b"k"}),
            "encrypted",
        ),
        (Entry("/x", EntryKind.FILE, 2**64 - 1), "size"),
        (Entry("/x", EntryKind.FILE, 5, chunks=(Chunk("1,0011223344", -3, 8, 1),)), "claims"),
        (Entry("/x", EntryKind.FILE, 5, chunks=(Chunk("1,0011223344", 0, 2**64 - 1, 1),)), "claims"),
        (Entry("/x", EntryKind.FILE, 5, chunks=(Chunk("../../etc/passwd", 0, 5, 1),)), "file id"),
        (Entry("/x", EntryKind.FILE, 5, chunks=(Chunk("", 0, 5, 1),)), "file id"),
    ],
)
async def test_refused(volumes: Volumes, entry: Entry, word: str) -> None:
    content = FileContent(entry, volumes)
    assert content.memory_bytes >= 0
    with pytest.raises(Unreadable, match=word):
        await content.read()
    with pytest.raises(Unreadable, match=word):
        await streamed(content)


async def test_a_chunk_that_is_gone(weed: WeedServer, volumes: Volumes) -> None:
    chunk = chunk_from_pb(put_needle(weed, b"y" * 50))
    other = chunk.file_id[:-1] + ("0" if chunk.file_id[-1] != "0" else "1")
    for file_id in (other, "4000,0123456789abcdef"):
        entry = Entry("/x", EntryKind.FILE, 50, chunks=(replace(chunk, file_id=file_id),))
        with pytest.raises(ChunkGone, match=file_id):
            await FileContent(entry, volumes).read()


# -- streaming --------------------------------------------------------------------------------------


class Counting:
    """Stands in for volumes: counts what is under way or not yet taken."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0

    async def read(self, chunk: Chunk, offset: int = 0, size: int | None = None) -> bytes:
        length = chunk.size if size is None else size
        self.open += length
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        return bytes(length)

    async def read_stored(self, chunk: Chunk, limit: int) -> bytes:
        raise AssertionError


@pytest.mark.parametrize("chunk_size", [1_000, 10_000, 100_000])
async def test_memory_is_what_it_says(chunk_size: int) -> None:
    counting = Counting()
    chunks = tuple(Chunk("1,0011223344", chunk_size * at, chunk_size, at) for at in range(50))
    entry = Entry("/x", EntryKind.FILE, 50 * chunk_size, chunks=chunks)
    content = FileContent(entry, counting, prefetch=3, piece_bytes=20_000)  # type: ignore[arg-type]
    async for block in content.stream():
        await asyncio.sleep(0)
        counting.open -= len(block)
    assert counting.open == 0
    held = min(60_000, entry.size)
    assert 2 * min(chunk_size, 20_000) <= counting.most <= held
    assert content.memory_bytes == held + min(chunk_size, 20_000)


async def test_a_hole_costs_nothing() -> None:
    entry = Entry("/x", EntryKind.FILE, 2 << 30)
    content = FileContent(entry, Counting())  # type: ignore[arg-type]
    seen = 0
    async with aclosing(content.stream()) as blocks:
        async for block in blocks:
            seen += len(block)
            if seen >= 64 << 20:
                break
    assert content.memory_bytes <= 1 << 20


async def test_leaving_early_leaves_nothing_behind(
    weed: WeedServer, client: FilerClient, volumes: Volumes
) -> None:
    weed.put("/content/left", os.urandom(8 << 20), query="maxMB=1")
    entry = await live_entry(client, "/content/left")
    running = asyncio.all_tasks()
    async with aclosing(FileContent(entry, volumes).stream()) as blocks:
        async for _ in blocks:
            break
    assert asyncio.all_tasks() <= running
    # Cancelled while it waits for bytes: the same.
    task = asyncio.create_task(FileContent(entry, volumes).read())
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() <= running
    assert len(await FileContent(entry, volumes).read()) == 8 << 20
