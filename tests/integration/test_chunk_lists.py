"""Chunk lists of every shape on real volume servers, compared with a model and with the filer."""

from __future__ import annotations

import http.client
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filerbackup.errors import Unreadable
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.content import FileContent
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.volumes import Volumes
from tests.support.needles import at, create_entry, put_manifest, put_needle
from tests.support.reading import check, check_with_filer, connected, reading, streamed
from tests.support.weed import WeedServer


@pytest.fixture
async def client(weed: WeedServer) -> AsyncIterator[FilerClient]:
    async with connected(weed) as client:
        yield client


@pytest.fixture
async def volumes(client: FilerClient) -> AsyncIterator[Volumes]:
    async with reading(client) as volumes:
        yield volumes


# -- chunk lists that only other clients make -------------------------------------------------------


async def test_overlaps_and_holes(client: FilerClient, weed: WeedServer, volumes: Volumes) -> None:
    old, new, far = os.urandom(10_000), os.urandom(2_000), os.urandom(500)
    chunks = [
        at(put_needle(weed, new), 4_000, 20),
        at(put_needle(weed, old), 0, 10),
        at(put_needle(weed, far), 25_000, 5),
    ]
    message = pb.Entry(chunks=chunks)
    message.attributes.file_size = 40_000
    message.attributes.file_mode = 0o644
    entry = await create_entry(client, "/content/sparse", message)
    expected = old[:4_000] + new + old[6_000:] + bytes(15_000) + far + bytes(14_500)
    await check_with_filer(weed, volumes, entry, expected)
    await check(volumes, entry, expected, prefetch=2, piece_bytes=700)


async def test_all_zeros(client: FilerClient, weed: WeedServer, volumes: Volumes) -> None:
    message = pb.Entry()
    message.attributes.file_size = 3_000_001
    message.attributes.file_mode = 0o644
    entry = await create_entry(client, "/content/zeros", message)
    await check_with_filer(weed, volumes, entry, bytes(3_000_001))


async def test_manifests_nested_and_overwritten(
    client: FilerClient, weed: WeedServer, volumes: Volumes
) -> None:
    parts = [os.urandom(1_000) for _ in range(12)]
    chunks = [at(put_needle(weed, part), 1_000 * index, 10) for index, part in enumerate(parts)]
    inner = put_manifest(weed, chunks[2:6])
    outer = put_manifest(weed, [*chunks[:2], inner, *chunks[6:9]], kind="cipher gzip")
    patch = at(put_needle(weed, b"P" * 700), 2_800, 99)
    message = pb.Entry(chunks=[outer, *chunks[9:], patch])
    entry = await create_entry(client, "/content/manifests", message)
    assert any(chunk.is_manifest for chunk in entry.chunks)
    expected = bytearray(b"".join(parts))
    expected[2_800:3_500] = b"P" * 700
    await check_with_filer(weed, volumes, entry, bytes(expected))
    await check(volumes, entry, bytes(expected), prefetch=1, piece_bytes=333)


async def test_manifests_of_the_filer(client: FilerClient, weed: WeedServer, volumes: Volumes) -> None:
    """With 10,000 chunks and more the filer makes manifests by itself: 10,001 parts of one needle."""
    needle = put_needle(weed, b"0123456789")
    message = pb.Entry(chunks=[at(needle, 10 * index, index + 1) for index in range(10_001)])
    entry = await create_entry(client, "/content/ten-thousand", message)
    assert [chunk.is_manifest for chunk in entry.chunks].count(True) == 1
    content = FileContent(entry, volumes, prefetch=16)
    assert await content.read() == b"0123456789" * 10_001


@pytest.mark.parametrize("damage", ["empty", "no manifest", "other span", "itself", "too deep"])
async def test_damaged_manifests(weed: WeedServer, volumes: Volumes, damage: str) -> None:
    part = put_needle(weed, b"x" * 100)
    manifest = put_manifest(weed, [part])
    match damage:
        case "empty":
            manifest.file_id = put_needle(weed, pb.FileChunkManifest().SerializeToString() or b"\n\0").file_id
        case "no manifest":
            manifest.file_id = put_needle(weed, b"\xff" * 50).file_id
        case "other span":
            manifest.size = 200
        case "itself":
            chunk = pb.FileChunk()
            chunk.CopyFrom(manifest)
            manifest = put_manifest(weed, [chunk])
            # The needle that the manifest names is replaced by the manifest's own text.
            chunk.file_id = manifest.file_id
            _overwrite(weed, manifest.file_id, pb.FileChunkManifest(chunks=[chunk]).SerializeToString())
        case "too deep":
            for _ in range(9):
                manifest = put_manifest(weed, [manifest])
    manifest.e_tag = ""
    entry = Entry("/x", EntryKind.FILE, 100, chunks=(chunk_from_pb(manifest),))
    with pytest.raises(Unreadable, match="manifest"):
        await streamed(FileContent(entry, volumes))


def _overwrite(weed: WeedServer, file_id: str, data: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", weed.volume_port, timeout=10)
    connection.request("PUT", "/" + file_id, body=data, headers={"Content-Type": "application/octet-stream"})
    assert connection.getresponse().status < 300
    connection.close()


_SIZES = (1, 7, 64, 300, 1200)
_KINDS = ("plain", "gzip", "cipher", "cipher gzip")


@pytest.fixture(scope="module")
def needles(weed: WeedServer) -> list[tuple[Chunk, bytes]]:
    made = []
    for size in _SIZES:
        for kind in _KINDS:
            data = random.Random(f"{size}{kind}").randbytes(size)
            made.append((chunk_from_pb(put_needle(weed, data, kind=kind)), data))
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_random_chunk_lists(
    needles: list[tuple[Chunk, bytes]], volumes: Volumes, data: st.DataObject
) -> None:
    drawn = data.draw(
        st.lists(st.tuples(st.sampled_from(needles), st.integers(0, 2_000), st.integers(0, 5)), max_size=8),
        "chunks",
    )
    size = data.draw(st.integers(0, 4_000), "size")
    chunks = []
    for (chunk, clear), offset, ts_ns in drawn:
        shown = (
            data.draw(st.integers(1, chunk.size), "bytes of it that are left") if chunk.e_tag else chunk.size
        )
        chunks.append((replace(chunk, offset=offset, modified_ts_ns=ts_ns, size=shown), clear[:shown]))
    size = max([size, *(chunk.offset + chunk.size for chunk, _ in chunks)])
    expected = bytearray(size)
    for chunk, clear in sorted(chunks, key=lambda pair: pair[0].modified_ts_ns):
        expected[chunk.offset : chunk.offset + chunk.size] = clear
    entry = Entry("/x", EntryKind.FILE, size, chunks=tuple(chunk for chunk, _ in chunks))
    prefetch = data.draw(st.integers(1, 4), "prefetch")
    piece_bytes = data.draw(st.sampled_from([50, 333, 4096]), "piece_bytes")
    content = FileContent(entry, volumes, prefetch=prefetch, piece_bytes=piece_bytes)
    assert await streamed(content) == bytes(expected)
