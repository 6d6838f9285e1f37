"""Chunk lists, manifests, events and listings that want to cost more than they are worth."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from filerbackup.errors import ObjectRejected, SinkUnavailable, Unreadable
from filerbackup.events import Chunk, Entry, EntryKind, Upsert
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.settings.model import LocalSettings
from filerbackup.sinks.azure.answers import NotAzure
from filerbackup.sinks.azure.answers import parse_page as azure_page
from filerbackup.sinks.local.sink import LocalSink
from filerbackup.sinks.metadata import Dialect
from filerbackup.sinks.objects.listing import Lister
from filerbackup.sinks.objects.names import Names
from filerbackup.sinks.objects.store import Found, Page
from filerbackup.sinks.s3.answers import NotS3, parse_error
from filerbackup.sinks.s3.answers import parse_page as s3_page
from filerbackup.sinks.s3.dialect import S3_DIALECT
from filerbackup.source.chunks import Interval
from filerbackup.source.content import FileContent
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.manifests import LARGEST_MANIFEST_BYTES, resolved_intervals
from filerbackup.source.subscribe import _events
from filerbackup.source.volumes import Volumes
from tests.fuzz.peak import Peak
from tests.fuzz.targets import _nowhere

MIB = 1 << 20


def chunk(number: int, offset: int, size: int, **more: object) -> pb.FileChunk:
    return pb.FileChunk(file_id=f"3,{number:08x}637037d6", offset=offset, size=size, **more)  # type: ignore[arg-type]


def manifest(number: int, size: int) -> pb.FileChunk:
    return chunk(number, 0, size, is_chunk_manifest=True)


class Stored:
    """Manifests by their number, made when they are read."""

    def __init__(self, make: Callable[[int], list[pb.FileChunk]]) -> None:
        self._make = make
        self.reads = 0

    async def read(self, wanted: Chunk, limit: int) -> bytes:
        self.reads += 1
        number = int(wanted.file_id.partition(",")[2][:8], 16)
        data = pb.FileChunkManifest(chunks=self._make(number)).SerializeToString()
        assert len(data) <= limit
        return data


async def resolve(stored: Stored, *top: pb.FileChunk, size: int) -> list[Interval]:
    chunks = entry_from_pb("/", pb.Entry(name="f", chunks=top)).chunks
    return [each async for each in resolved_intervals(chunks, size, stored.read)]


@pytest.mark.parametrize(
    ("make", "most_reads"),
    [
        (lambda _: [manifest(1, 9), chunk(0, 0, 9)], 1),
        (lambda number: [manifest(3 - number, 9)], 2),
        (lambda number: [manifest(number + 1, 9)], 8),
        (lambda number: [manifest(number + 1, 9)] * 10_000, 8),
        (lambda number: [manifest(2, 9)] * 1000 if number == 1 else [chunk(0, 0, 9)], 2),
    ],
    ids=["itself", "each other", "1,000 deep", "10,000 wide and deep", "the same many times"],
)
async def test_manifests_that_do_not_end(make: Callable[[int], list[pb.FileChunk]], most_reads: int) -> None:
    stored = Stored(make)
    began = time.perf_counter()
    with pytest.raises(Unreadable):
        await resolve(stored, manifest(1, 9), size=9)
    assert stored.reads <= most_reads
    assert time.perf_counter() - began < 10


async def test_a_manifest_of_as_many_chunks_as_fit() -> None:
    """Each takes six bytes there and half a kilobyte here."""
    tiny = pb.FileChunkManifest(chunks=[pb.FileChunk(offset=0, size=9)]).SerializeToString()
    data = tiny * (LARGEST_MANIFEST_BYTES // len(tiny))

    async def read(_wanted: Chunk, _limit: int) -> bytes:
        return data

    chunks = entry_from_pb("/", pb.Entry(name="f", chunks=[manifest(1, 9)])).chunks
    peak = Peak()
    with pytest.raises(Unreadable, match="lists"):
        async for _ in resolved_intervals(chunks, 9, read):
            pass
    assert peak.grown_mb() < 200


async def test_an_event_with_a_list_of_a_million_chunks() -> None:
    listed = [pb.FileChunk(offset=number, size=1, modified_ts_ns=5) for number in range(1000)]
    some = pb.Entry(chunks=listed).SerializeToString()
    entry = pb.Entry.FromString(pb.Entry(name="f").SerializeToString() + some * 1000)
    response = pb.SubscribeMetadataResponse(directory="/d", ts_ns=5)
    response.event_notification.new_entry.CopyFrom(entry)
    peak = Peak()
    [event] = _events(response)
    assert isinstance(event, Upsert)
    content = FileContent(event.entry, Volumes(_nowhere))
    assert content.size == 1000
    with pytest.raises(Unreadable, match="1000000 chunks"):
        await content.read()
    assert peak.grown_mb() < 60


async def test_a_large_event_is_not_held_many_times() -> None:
    """The filer takes entries with their content inside up to a gigabyte, with a message of that size."""
    size = 64 * MIB
    entry = pb.Entry(name="f", content=bytes(size), attributes=pb.FuseAttributes(file_size=size))
    note = pb.EventNotification(old_entry=entry, new_entry=entry)
    raw = pb.SubscribeMetadataResponse(directory="/d", ts_ns=5, event_notification=note).SerializeToString()
    del entry, note
    peak = Peak()
    [event] = _events(pb.SubscribeMetadataResponse.FromString(raw))
    assert isinstance(event, Upsert)
    assert event.same_content
    assert len(event.entry.content) == size
    # The message as it is decoded (both entries), the copies that are compared, the one that is kept.
    assert peak.grown_mb() <= 6 * size // MIB


# -- answers of a sink -------------------------------------------------------------------------------

_LEVELS = [b'<!ENTITY b%d "%s">' % (level + 1, b"&b%d;" % level * 20) for level in range(7)]
BOMB = (
    b'<!DOCTYPE a [<!ENTITY b0 "' + b"c" * 1000 + b'">' + b"".join(_LEVELS) + b"]>"
    b"<ListBucketResult>&b7;</ListBucketResult>"
)


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        BOMB.decode().encode("utf-16"),
        b"<ListBucketResult>" + b"<a/>" * 5_000_000 + b"</ListBucketResult>",
        b"<ListBucketResult " + b"".join(b"a%d='' " % number for number in range(1_000_000)) + b"/>",
        b"<ListBucketResult>" * 190_000,
    ],
    ids=["entities", "entities in UTF-16", "elements", "attributes", "depth"],
)
def test_xml_bombs(body: bytes) -> None:
    peak = Peak()
    with pytest.raises(NotS3):
        s3_page(body)
    with pytest.raises(NotAzure):
        azure_page(body.replace(b"ListBucketResult", b"EnumerationResults"), "")
    assert parse_error(body) == ("", "", "")
    assert peak.grown_mb() < 150


@pytest.mark.parametrize("encoding", ["unknown", "utf-16-le", "zlib"])
def test_a_declared_encoding_has_no_say(encoding: str) -> None:
    body = f"<?xml version='1.0' encoding='{encoding}'?><ListBucketResult/>".encode()
    assert s3_page(body).objects == []


@pytest.mark.parametrize("size", ["9" * 5000, "\u00b2", "\u0665", "-1", ""])
def test_a_size_that_is_none(size: str) -> None:
    listed = f"<Contents><Key>a</Key><Size>{size}</Size></Contents>"
    with pytest.raises(NotS3):
        s3_page(f"<ListBucketResult>{listed}</ListBucketResult>".encode())
    listed = f"<Blob><Name>a</Name><Properties><Content-Length>{size}</Content-Length></Properties></Blob>"
    with pytest.raises(NotAzure):
        azure_page(f"<EnumerationResults><Blobs>{listed}</Blobs></EnumerationResults>".encode(), "")


class Endless:
    """A service that always has another page, of nothing or of the same."""

    def __init__(self, dialect: Dialect, found: list[Found], token: str) -> None:
        self._found, self._token = found, token
        self.names = Names("", dialect, most_bytes=1024, markers=False)
        self.pages = 0

    async def page(self, *_: object, **__: object) -> Page:
        self.pages += 1
        return Page(self._found, [], True, self._token and f"{self._token}{self.pages}")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("token", ["", "t"])
@pytest.mark.parametrize("found", [[], [Found("a", 1)]])
async def test_a_listing_that_never_ends(links: bool, token: str, found: list[Found]) -> None:
    service = Endless(S3_DIALECT, found, token)
    lister = Lister(service.page, service.names, in_order=True, links=links)
    with pytest.raises(SinkUnavailable):
        async for _ in lister.list("", ""):
            pass
    assert service.pages < 2000


# -- what a sparse file wants of a disk ----------------------------------------------------------------


class Sparse:
    """Content of which not a byte is to be read."""

    size = 1 << 49
    md5 = b""
    memory_bytes = 0

    async def read(self) -> bytes:
        raise AssertionError("read")

    async def stream(self) -> AsyncGenerator[bytes, None]:
        yield await self.read()


async def test_a_file_larger_than_the_file_system_is_not_begun(tmp_path: Path) -> None:
    """A hole costs nothing at the source, and its zeros would fill the disk."""
    sink = LocalSink(LocalSettings("local", directory=str(tmp_path)))
    await sink.open()
    try:
        with pytest.raises(ObjectRejected, match="whole file system"):
            await sink.write("sparse", Entry("/sparse", EntryKind.FILE, Sparse.size), Sparse())
    finally:
        await sink.close()
