"""Reading entries of a real SeaweedFS in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from filerbackup.events import Entry
from filerbackup.filer.client import FilerClient
from filerbackup.source.content import FileContent
from filerbackup.source.volumes import Volumes
from tests.support.weed import WeedServer


@asynccontextmanager
async def connected(weed: WeedServer) -> AsyncIterator[FilerClient]:
    """A client of the filer."""
    client = FilerClient([weed.filer])
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def reading(client: FilerClient, **options: object) -> AsyncIterator[Volumes]:
    """The volume servers that the filer knows."""
    volumes = Volumes(client.lookup_volumes, **options)  # type: ignore[arg-type]
    try:
        yield volumes
    finally:
        await volumes.close()


async def streamed(content: FileContent) -> bytes:
    """Everything, block by block."""
    blocks = [block async for block in content.stream()]
    assert all(blocks), "no block is empty"
    return b"".join(blocks)


async def check(volumes: Volumes, entry: Entry, expected: bytes, **options: int) -> None:
    """Both ways of reading give the expected bytes."""
    content = FileContent(entry, volumes, **options)
    assert content.size == len(expected)
    assert await content.read() == expected
    assert await streamed(content) == expected


async def check_with_filer(
    weed: WeedServer, volumes: Volumes, entry: Entry, expected: bytes, **options: int
) -> None:
    """And the filer reads the same, so that the expectation is no invention."""
    assert weed.get(entry.path) == expected
    await check(volumes, entry, expected, **options)
