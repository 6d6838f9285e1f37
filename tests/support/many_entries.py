"""Great numbers of entries, made at the filer directly: content inside the entry, or shared chunks."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator

import grpc
import grpc.aio

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.needles import at, put_needle
from tests.support.weed import WeedServer

_AT_ONCE = 64


def inline_entry(name: str, data: bytes) -> pb.Entry:
    """A file whose content is inside its entry."""
    attributes = pb.FuseAttributes(
        file_size=len(data),
        mtime=1_700_000_000,
        crtime=1_700_000_000,
        file_mode=0o644,
        md5=hashlib.md5(data).digest(),
    )
    return pb.Entry(name=name, content=data, attributes=attributes)


def chunked_entry(name: str, chunk: pb.FileChunk, count: int) -> pb.Entry:
    """A file of `count` chunks that all are the same needle."""
    now_ns = time.time_ns()
    chunks = [at(chunk, number * chunk.size, now_ns + number) for number in range(count)]
    attributes = pb.FuseAttributes(
        file_size=count * chunk.size, mtime=1_700_000_000, crtime=1_700_000_000, file_mode=0o644
    )
    return pb.Entry(name=name, chunks=chunks, attributes=attributes)


def needle(weed: WeedServer, size: int) -> pb.FileChunk:
    """A chunk to share."""
    return put_needle(weed, hashlib.shake_128(b"shared").digest(size))


def make_many(weed: WeedServer, entries: Iterable[tuple[str, pb.Entry]]) -> None:
    """Create or replace all, as (directory, entry), many at once and in no certain order."""
    asyncio.run(_make_many(weed, iter(entries)))


async def _make_many(weed: WeedServer, entries: Iterator[tuple[str, pb.Entry]]) -> None:
    async with grpc.aio.insecure_channel(weed.filer_grpc) as channel, asyncio.TaskGroup() as group:
        create = SeaweedFilerStub(channel).CreateEntry

        async def work() -> None:
            for directory, entry in entries:
                answer = await create(pb.CreateEntryRequest(directory=directory, entry=entry), timeout=60)
                assert not answer.error, answer.error

        for _ in range(_AT_ONCE):
            group.create_task(work())
