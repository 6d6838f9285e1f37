"""The bytes of files on a real SeaweedFS, compared with the filer's own reading."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from filerbackup.errors import ChunkGone, SourceRefused, Unreadable
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.settings.model import SecuritySettings
from filerbackup.settings.secret import Secret
from filerbackup.source.content import FileContent
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.volumes import Volumes
from tests.support.needles import at, create_entry, live_entry, put_needle
from tests.support.reading import check, check_with_filer, connected, reading, streamed
from tests.support.weed import WeedServer, running_weed

READ_KEY = "a key of the volume servers"


@pytest.fixture(scope="module")
def strict_weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """Encrypts what it stores, keeps small files inside their entries, wants a token for reads."""
    directory = tmp_path_factory.mktemp("strict")
    (directory / "security.toml").write_text(f'[jwt.signing.read]\nkey = "{READ_KEY}"\n')
    filer_args = ["-filer.encryptVolumeData", "-filer.saveToFilerLimit=1024"]
    with running_weed(directory, filer_args=filer_args) as server:
        yield server


@pytest.fixture
async def client(weed: WeedServer) -> AsyncIterator[FilerClient]:
    async with connected(weed) as client:
        yield client


@pytest.fixture
async def volumes(client: FilerClient) -> AsyncIterator[Volumes]:
    async with reading(client) as volumes:
        yield volumes


# -- files as the filer's HTTP API writes them ------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, (1 << 20) + 1, 5 << 20])
async def test_plain_files(weed: WeedServer, client: FilerClient, volumes: Volumes, size: int) -> None:
    data = random.Random(size).randbytes(size)
    weed.put(f"/content/plain-{size}", data, query="maxMB=1")
    entry = await live_entry(client, f"/content/plain-{size}")
    await check_with_filer(weed, volumes, entry, data)
    content = FileContent(entry, volumes)
    assert content.md5 == hashlib.md5(data).digest()
    assert len(entry.chunks) == -(-size // (1 << 20))


async def test_text_is_stored_compressed(weed: WeedServer, client: FilerClient, volumes: Volumes) -> None:
    data = b"the same line over and over\n" * 200_000
    weed.put("/content/log.txt", data, query="maxMB=2", headers={"Content-Type": "text/plain"})
    entry = await live_entry(client, "/content/log.txt")
    assert [chunk.is_compressed for chunk in entry.chunks] == [True] * 3
    await check_with_filer(weed, volumes, entry, data)
    await check(volumes, entry, data, prefetch=1, piece_bytes=100_000)


async def test_a_gzip_file_is_not_unpacked(weed: WeedServer, client: FilerClient, volumes: Volumes) -> None:
    packed = gzip.compress(os.urandom(9000))
    weed.put("/content/a.gz", packed)
    await check_with_filer(weed, volumes, await live_entry(client, "/content/a.gz"), packed)
    # A gzip file that was compressed once more on its way into the chunk.
    twice = chunk_from_pb(put_needle(weed, packed, kind="gzip"))
    entry = Entry("/x", EntryKind.FILE, len(packed), chunks=(twice,))
    await check(volumes, entry, packed)


async def test_appended_and_partly_overwritten(
    weed: WeedServer, client: FilerClient, volumes: Volumes
) -> None:
    first, second, patch = os.urandom(50_000), os.urandom(30_000), os.urandom(10_000)
    weed.put("/content/log", first)
    weed.put("/content/log", second, query="op=append")
    entry = await live_entry(client, "/content/log")
    assert entry.md5 == b""
    await check_with_filer(weed, volumes, entry, first + second)
    weed.put("/content/log", patch, query="offset=45000")
    expected = bytearray(first + second)
    expected[45_000:55_000] = patch
    await check_with_filer(weed, volumes, await live_entry(client, "/content/log"), bytes(expected))


async def test_read_through_the_filer(weed: WeedServer, client: FilerClient) -> None:
    data, text = os.urandom(3 << 20), b"words and words " * 60_000
    weed.put("/content/proxied", data, query="maxMB=1")
    weed.put("/content/proxied.txt", text, headers={"Content-Type": "text/plain"})
    dead = "127.0.0.1:9"
    volumes = Volumes(client.lookup_volumes, read_via="filer", filers=[dead, weed.filer])
    try:
        await check(volumes, await live_entry(client, "/content/proxied"), data, piece_bytes=400_000)
        await check(volumes, await live_entry(client, "/content/proxied.txt"), text)
        gone = Chunk("1,0123456789abcdef", 0, 10, 1)
        with pytest.raises(ChunkGone):
            await volumes.read(gone)
        with pytest.raises(ChunkGone, match="no volume server has volume 4000"):
            await volumes.read(replace(gone, file_id="4000,0123456789abcdef"))
    finally:
        await volumes.close()


# -- encryption, inline content, tokens -------------------------------------------------------------


async def test_encrypted_inline_and_guarded(strict_weed: WeedServer) -> None:
    small, large, text = os.urandom(1000), os.urandom(2_500_000), b"some text, again " * 100_000
    strict_weed.put("/small", small)
    strict_weed.put("/large", large, query="maxMB=1")
    strict_weed.put("/text", text, headers={"Content-Type": "text/plain"})
    client = FilerClient([strict_weed.filer])
    security = SecuritySettings(volume_read_key=Secret(READ_KEY))
    allowed = Volumes(client.lookup_volumes, security=security)
    via_filer = Volumes(client.lookup_volumes, read_via="filer", filers=[strict_weed.filer])
    try:
        entries = [await live_entry(client, path) for path in ("/small", "/large", "/text")]
        assert entries[0].content == small
        assert all(len(chunk.cipher_key) == 32 for entry in entries[1:] for chunk in entry.chunks)
        assert entries[2].chunks[0].is_compressed
        for entry, data in zip(entries, (small, large, text), strict=True):
            await check(allowed, entry, data)
            await check(via_filer, entry, data)
            assert FileContent(entry, allowed).md5 == hashlib.md5(data).digest()
        for key in (None, Secret("another key")):
            refused = Volumes(client.lookup_volumes, security=SecuritySettings(volume_read_key=key))
            try:
                with pytest.raises(SourceRefused) as caught:
                    await FileContent(entries[1], refused).read()
                assert "jwt.signing.read" in caught.value.hint
                assert "another key" not in str(caught.value)
            finally:
                await refused.close()
    finally:
        await allowed.close()
        await via_filer.close()
        await client.close()


@pytest.mark.parametrize("kind", ["cipher", "cipher gzip"])
async def test_a_changed_encrypted_chunk(weed: WeedServer, volumes: Volumes, kind: str) -> None:
    data = os.urandom(40_000)
    chunk = chunk_from_pb(put_needle(weed, data, kind=kind))
    entry = Entry("/x", EntryKind.FILE, len(data), chunks=(chunk,))
    await check(volumes, entry, data)
    await check(volumes, replace(entry, size=100, chunks=(replace(chunk, size=100),)), data[:100])
    for broken in (b"k" * 32, b"k" * 16):
        wrong = replace(entry, chunks=(replace(chunk, cipher_key=broken),))
        with pytest.raises(Unreadable):
            await FileContent(wrong, volumes).read()
        with pytest.raises(Unreadable):
            await streamed(FileContent(wrong, volumes))


def _inline(content: bytes) -> pb.Entry:
    message = pb.Entry(content=content)
    message.attributes.file_size = len(content)
    message.attributes.file_mode = 0o644
    return message


async def test_content_inside_the_entry_wins(client: FilerClient, weed: WeedServer, volumes: Volumes) -> None:
    entry = await create_entry(client, "/content/inline", _inline(b"inside"))
    await check_with_filer(weed, volumes, entry, b"inside")
    await check(volumes, replace(entry, chunks=(Chunk("9999,01ab", 0, 6, 1),)), b"inside")
    assert FileContent(replace(entry, md5=b"\1" * 16), volumes).md5 == b""
    with pytest.raises(Unreadable):
        await FileContent(replace(entry, size=1 << 40), volumes).read()


async def test_a_directory_with_a_body(client: FilerClient, weed: WeedServer, volumes: Volumes) -> None:
    message = pb.Entry(is_directory=True, chunks=[put_needle(weed, b"of a directory")])
    message.attributes.file_mode = (1 << 31) | 0o755
    message.attributes.mime = "text/plain"
    entry = await create_entry(client, "/content/a-directory", message)
    assert entry.kind is EntryKind.DIRECTORY
    await check(volumes, entry, b"of a directory")


# -- digests ----------------------------------------------------------------------------------------


async def test_an_md5_from_before_a_write_through_a_mount(
    weed: WeedServer, client: FilerClient, volumes: Volumes, caplog: pytest.LogCaptureFixture
) -> None:
    """A mount changes chunks and leaves `attributes.md5` as it was. None of this is unreadable."""
    before = os.urandom(3 << 20)
    weed.put("/content/mounted", before, query="maxMB=1")
    entry = await live_entry(client, "/content/mounted")
    assert entry.md5
    # The last megabyte overwritten: nothing in the list of chunks tells, only reading does.
    patch = chunk_from_pb(at(put_needle(weed, os.urandom(1 << 20)), 2 << 20))
    tail = await volumes.read(patch)
    changed = replace(entry, chunks=(*entry.chunks[:2], patch))
    content = FileContent(changed, volumes)
    assert content.md5 == entry.md5
    with caplog.at_level(logging.INFO):
        assert await streamed(content) == before[: 2 << 20] + tail
    assert content.md5 == b""
    assert "out of date" in caplog.text
    # Truncated: the stored chunk is longer than its size.
    last = entry.chunks[-1]
    for size in (100, 1 << 19):
        cut = replace(entry, size=(2 << 20) + size, chunks=(*entry.chunks[:2], replace(last, size=size)))
        await check(volumes, cut, before[: (2 << 20) + size])
    # One chunk only, of other bytes, or truncated, or none left.
    one = replace(entry, size=1 << 20, chunks=(replace(patch, offset=0),))
    await check(volumes, one, tail)
    short = replace(
        entry, size=77, md5=hashlib.md5(tail).digest(), chunks=(replace(patch, offset=0, size=77),)
    )
    await check(volumes, short, tail[:77])
    await check(volumes, replace(entry, size=0, chunks=()), b"")
    assert FileContent(replace(entry, size=0, chunks=()), volumes).md5 == b""


@pytest.mark.parametrize("with_md5", [True, False])
@pytest.mark.parametrize("read_via", ["volume", "filer"])
async def test_bytes_that_changed_on_the_disk(
    weed: WeedServer,
    client: FilerClient,
    monkeypatch: pytest.MonkeyPatch,
    read_via: str,
    with_md5: bool,
) -> None:
    """A range is sent as it is on the disk: digests find the damage. Whole, the server refuses it."""
    monkeypatch.setattr("filerbackup.source.volumes._PAUSE_S", 0.01)
    good = [os.urandom(9 << 20), os.urandom(1 << 20)]
    first = chunk_from_pb(put_needle(weed, good[0]))
    second = chunk_from_pb(at(put_needle(weed, good[1]), 9 << 20))
    md5 = hashlib.md5(b"".join(good)).digest() if with_md5 else b""
    entry = Entry("/x", EntryKind.FILE, 10 << 20, chunks=(first, second), md5=md5)
    small = Entry("/y", EntryKind.FILE, 1 << 20, chunks=(replace(second, offset=0),))
    volumes = Volumes(client.lookup_volumes, read_via=read_via, filers=[weed.filer])
    try:
        await check(volumes, entry, b"".join(good))
        await check(volumes, small, good[1])
        for data in good:
            _flip_a_bit_on_disk(weed, data)
        with pytest.raises(Unreadable, match="damaged"):
            await streamed(FileContent(replace(entry, size=9 << 20, chunks=(first,), md5=b""), volumes))
        for content in (FileContent(entry, volumes), FileContent(small, volumes)):
            with pytest.raises(Unreadable):
                await content.read()
            with pytest.raises(Unreadable):
                await streamed(content)
    finally:
        await volumes.close()


def _flip_a_bit_on_disk(weed: WeedServer, data: bytes) -> None:
    for file in weed.directory.glob("*.dat"):
        place = file.read_bytes().find(data)
        if place >= 0:
            with file.open("r+b") as volume:
                volume.seek(place + 12_345)
                volume.write(bytes([data[12_345] ^ 1]))
            return
    raise AssertionError("the needle is on no disk")
