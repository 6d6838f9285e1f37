"""Chunk manifests: chunks that list chunks, for files with more than ten thousand of them.

A manifest's offset and size span its children, whose offsets count from the beginning of the file.
They are fetched only where the file is being read, so that a huge file costs one manifest at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from google.protobuf.message import DecodeError

from filerbackup.errors import Unreadable
from filerbackup.events import Chunk
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.checks import md5_beside, stored_md5
from filerbackup.source.chunks import Interval, visible_intervals
from filerbackup.source.decode import chunk_from_pb

ReadStored = Callable[[Chunk, int], Awaitable[bytes]]
"""All clear bytes that are stored for a chunk, up to a limit."""

LARGEST_MANIFEST_BYTES = 4 << 20
"""The filer puts 10,000 chunks into one, which makes some 1.5 MB."""

_DEEPEST = 8
_MOST_MANIFESTS = 100_000
_MOST_CHILDREN = 50_000
_MOST_CHUNKS_AT_ONCE = 300_000
"""Half a kilobyte of memory each, beside `--memory`; docs/operations.md says so."""


class _Item(NamedTuple):
    """A chunk in the heap of what is to come. `order` is its place in the list as if flattened."""

    offset: int
    order: tuple[int, ...]
    chunk: Chunk


async def resolved_intervals(
    chunks: Sequence[Chunk], size: int, read_stored: ReadStored
) -> AsyncGenerator[Interval, None]:
    """As `visible_intervals` of the whole file, with manifests replaced by what they list.

    Raises what reading raises, and Unreadable for manifests that are damaged or refer to themselves.
    """
    if not any(chunk.is_manifest for chunk in chunks):
        for interval in visible_intervals(chunks, size):
            yield interval
        return
    pool = [_Item(chunk.offset, (index,), chunk) for index, chunk in enumerate(chunks) if chunk.size]
    heapq.heapify(pool)
    position = 0
    opened: set[str] = set()
    while pool and position < size:
        group, end = _next_group(pool)
        manifests = [item for item in group if item.chunk.is_manifest]
        if manifests:
            pool.extend(item for item in group if not item.chunk.is_manifest)
            for item in manifests:
                if item.offset + item.chunk.size > position:
                    _open(item, opened)
                    pool.extend(await _children(item, read_stored))
                    if len(pool) > _MOST_CHUNKS_AT_ONCE:
                        raise Unreadable(f"more than {_MOST_CHUNKS_AT_ONCE} chunks, one over the other")
            heapq.heapify(pool)
            continue
        end = min(end, size)
        if position < end:
            group.sort(key=lambda item: item.order)
            for interval in visible_intervals([item.chunk for item in group], end, position):
                yield interval
            position = end
    if position < size:
        yield Interval(position, size - position, None)


def _next_group(pool: list[_Item]) -> tuple[list[_Item], int]:
    """The first item and all that overlap it, directly or through each other; and where they end."""
    group = [heapq.heappop(pool)]
    end = group[0].offset + group[0].chunk.size
    while pool and pool[0].offset < end:
        item = heapq.heappop(pool)
        group.append(item)
        end = max(end, item.offset + item.chunk.size)
    return group, end


def _open(item: _Item, opened: set[str]) -> None:
    """Each manifest once: a list of ten thousand times the same would be read ten thousand times."""
    file_id = item.chunk.file_id
    if file_id in opened or len(item.order) > _DEEPEST:
        raise Unreadable(f"manifest {file_id} refers to itself, is listed twice or is too deep")
    if len(opened) >= _MOST_MANIFESTS:
        raise Unreadable(f"more than {_MOST_MANIFESTS} manifests")
    opened.add(file_id)


async def _children(item: _Item, read_stored: ReadStored) -> list[_Item]:
    manifest = item.chunk
    data = await read_stored(manifest, LARGEST_MANIFEST_BYTES)
    expected = stored_md5(manifest)
    if expected and await md5_beside(data) != expected:
        raise Unreadable(f"manifest {manifest.file_id} is not what was stored")
    try:
        listed = pb.FileChunkManifest.FromString(data).chunks
    except DecodeError:
        raise Unreadable(f"manifest {manifest.file_id} cannot be decoded") from None
    if len(listed) > _MOST_CHILDREN:
        raise Unreadable(f"manifest {manifest.file_id} lists {len(listed)} chunks")
    children = [chunk_from_pb(message) for message in listed]
    # An empty body is a valid message: without this a lost manifest would read as zeros.
    begin = min((chunk.offset for chunk in children), default=-1)
    end = max((chunk.offset + chunk.size for chunk in children), default=-1)
    if begin != manifest.offset or end < manifest.offset + manifest.size:
        raise Unreadable(f"manifest {manifest.file_id} does not list what it spans")
    return [
        _Item(chunk.offset, (*item.order, index), chunk) for index, chunk in enumerate(children) if chunk.size
    ]
