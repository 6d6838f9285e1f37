"""Bytes: whole or absent, checked, in one request or in parts."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from filerbackup.errors import (
    SinkRefused,
    SinkUnavailable,
    Unreadable,
)
from filerbackup.sinks.metadata import ObjectMetadata, object_metadata
from filerbackup.sinks.s3 import S3Sink
from filerbackup.sinks.s3.dialect import S3_DIALECT
from tests.contract.contents import (
    BreakingContent,
    StreamedContent,
    file_entry,
)
from tests.integration.s3.conftest import BUCKET, MIB, opened, settings
from tests.support.proxy import Proxy
from tests.support.s3 import (
    Peer,
    s3_error,
)
from tests.support.sinks import write
from tests.support.weed import WeedServer


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, 5 * MIB, 5 * MIB + 1, 23 * MIB + 17])
async def test_sizes_around_the_edges(sink: S3Sink, peer: Peer, folder: str, size: int) -> None:
    content = StreamedContent(size, block_bytes=700_001)
    await sink.write("file", file_entry("file", size), content)

    assert await peer.get(f"{folder}/file") == await content.read()
    head = await peer.head(f"{folder}/file")
    assert head is not None
    assert ("-" in head["ETag"]) is (size > 5 * MIB)
    assert await peer.uploads(folder) == set()


async def test_parts_grow_with_the_file_and_may_be_larger_than_the_buffer(
    sink: S3Sink, peer: Peer, folder: str
) -> None:
    content = StreamedContent(45 * MIB + 5)
    parts = sink._opened.parts  # type: ignore[union-attr]
    entry = file_entry("file", content.size)
    await parts.write(f"{folder}/file", content, object_metadata(entry, S3_DIALECT), most_parts=2)

    head = await peer.head(f"{folder}/file")
    assert head is not None
    assert head["ETag"].strip('"').endswith("-2")
    assert await peer.get(f"{folder}/file") == await content.read()


async def test_content_that_breaks_in_a_part_that_passes_through(
    sink: S3Sink, peer: Peer, folder: str
) -> None:
    parts = sink._opened.parts  # type: ignore[union-attr]
    content = BreakingContent(45 * MIB, good_bytes=30 * MIB)
    with pytest.raises(Unreadable, match="second half"):
        await parts.write(f"{folder}/f", content, ObjectMetadata(), most_parts=2)

    assert await peer.get(f"{folder}/f") is None
    assert await peer.uploads(folder) == set()


async def test_memory_is_bounded_by_what_is_promised(sink: S3Sink) -> None:
    assert sink.capabilities.write_buffer_bytes == 4 * 5 * MIB


class _Endless:
    """Content that stops in the middle of the n-th part and waits for ever."""

    md5 = b""
    memory_bytes = MIB

    def __init__(self, size: int, comes: int) -> None:
        self.size, self.comes = size, comes
        self.reached = asyncio.Event()

    async def read(self) -> bytes:
        raise AssertionError

    async def stream(self) -> AsyncIterator[bytes]:
        for _ in range(self.comes // MIB):
            yield bytes(MIB)
        self.reached.set()
        await asyncio.Event().wait()


async def test_a_cancelled_upload_leaves_no_parts(sink: S3Sink, peer: Peer, folder: str) -> None:
    await write(sink, "file", b"before")
    for comes in (0, 7 * MIB, 22 * MIB):
        content = _Endless(40 * MIB, comes)
        task = asyncio.create_task(sink.write("file", file_entry("file", content.size), content))
        await asyncio.wait_for(content.reached.wait(), 20)
        assert await peer.uploads(folder) == {f"{folder}/file"}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await peer.uploads(folder) == set()
    assert await peer.get(f"{folder}/file") == b"before"


async def test_a_write_that_is_cancelled_while_it_begins(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    begun = asyncio.Event()

    async def slow_answer(request: web.Request, _body: bytes) -> None:
        if request.method == "POST" and "uploads" in request.query:
            begun.set()
            await asyncio.sleep(0.2)

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = slow_answer
        task = asyncio.create_task(sink.write("f", file_entry("f", 9 * MIB), StreamedContent(9 * MIB)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await peer.uploads(folder) == set()
    assert ("POST", "uploads") in {(method, query) for method, _, query in proxy.requests}


async def test_what_a_killed_process_left_is_removed_at_the_next_start(
    server: WeedServer, peer: Peer, folder: str
) -> None:
    of = settings(server, folder)
    killed = S3Sink(of)
    await killed.open()
    tasks = []
    for key in ("file", "a+b %20ü"):
        content = _Endless(40 * MIB, 22 * MIB)
        tasks.append(asyncio.create_task(killed.write(key, file_entry(key, content.size), content)))
        await asyncio.wait_for(content.reached.wait(), 20)
    # Somebody else's, below the same folder: none of ours to abort.
    await peer.client.create_multipart_upload(Bucket=BUCKET, Key=f"{folder}/foreign")
    assert len(await peer.uploads(folder)) == 3

    async with opened(of) as again:
        # Only with the first write is it sure that the place is ours.
        assert len(await peer.uploads(folder)) == 3
        await write(again, "small")
        assert await peer.uploads(folder) == {f"{folder}/foreign"}
        assert await peer.get(f"{folder}/.filerbackup/uploads.json") is None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await killed.close()


async def test_the_note_of_uploads_goes_when_they_end(server: WeedServer, peer: Peer, folder: str) -> None:
    note = f"{folder}/.filerbackup/uploads.json"
    async with opened(settings(server, folder)) as sink:
        await sink.write("file", file_entry("file", 12 * MIB), StreamedContent(12 * MIB))
        assert json.loads(await peer.get(note) or b"{}")["names"] == [f"{folder}/file"]
        await sink.write("file", file_entry("file", 12 * MIB), StreamedContent(12 * MIB))
    assert await peer.get(note) is None


async def test_a_part_that_fails_is_sent_again(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    failures = 0

    async def fail_twice(request: web.Request, _body: bytes) -> web.Response | None:
        nonlocal failures
        if request.query.get("partNumber") == "2" and failures < 2:
            failures += 1
            return s3_error(503, "SlowDown") if failures == 1 else s3_error(500, "InternalError")
        return None

    content = StreamedContent(17 * MIB)
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = fail_twice
        await sink.write("file", file_entry("file", content.size), content)
    assert failures == 2
    assert await peer.get(f"{folder}/file") == await content.read()


async def test_a_part_that_keeps_failing_ends_the_write(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async def refuse(request: web.Request, _body: bytes) -> web.Response | None:
        return s3_error(403, "AccessDenied") if request.query.get("partNumber") == "2" else None

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = refuse
        with pytest.raises(SinkRefused, match="part 2"):
            await sink.write("file", file_entry("file", 17 * MIB), StreamedContent(17 * MIB))
    assert await peer.names(folder) == set()
    assert await peer.uploads(folder) == set()


@pytest.mark.parametrize("size", [1000, 12 * MIB])
async def test_bytes_that_change_on_the_way_never_stay(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, size: int
) -> None:
    """The service answers with the ETag of other bytes: as if a body was damaged."""

    def damage(request: web.Request, headers: CIMultiDict[str]) -> None:
        if request.method in ("PUT", "HEAD"):
            headers["ETag"] = f'"{hashlib.md5(b"other").hexdigest()}"'

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "file", b"before")
        proxy.change = damage
        with pytest.raises(SinkUnavailable, match="another checksum"):
            await sink.write("file", file_entry("file", size), StreamedContent(size))
        proxy.change = None
        assert await peer.get(f"{folder}/file") == (None if size == 1000 else b"before")
        assert await peer.uploads(folder) == set()
        await write(sink, "file", b"again")
    assert await peer.get(f"{folder}/file") == b"again"


async def test_a_body_that_is_damaged_on_the_way(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    """The signature covers the bytes: where the service checks that, the version before stays.

    (The gateway of SeaweedFS 4.48 does not.)
    """
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "file", b"before")

        async def damage(request: web.Request, body: bytes) -> web.Response | None:
            if request.method != "PUT":
                return None
            async with aiohttp.ClientSession() as session:
                url = server.s3_endpoint + request.raw_path
                async with session.put(url, data=b"X" + body[1:], headers=request.headers) as answer:
                    headers = {"ETag": answer.headers["ETag"]} if answer.ok else {}
                    return web.Response(status=answer.status, headers=headers, body=await answer.read())

        proxy.fault = damage
        with pytest.raises(SinkUnavailable):
            await write(sink, "file", b"after")
    assert await peer.get(f"{folder}/file") in (b"before", None)


async def test_an_md5_of_the_source_that_is_wrong_is_the_sources_fault(
    sink: S3Sink, peer: Peer, folder: str
) -> None:
    with pytest.raises(Unreadable):
        await write(sink, "file", b"data", md5=hashlib.md5(b"other").digest())
    assert await peer.get(f"{folder}/file") is None


@pytest.mark.parametrize("size", [1000, 12 * MIB])
async def test_etags_that_are_no_md5(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, size: int
) -> None:
    """As with encryption by KMS: sizes are compared, and the proof of content is in the metadata."""

    def encrypt(request: web.Request, headers: CIMultiDict[str]) -> None:
        if "ETag" in headers and "partNumber" not in request.query:
            headers["ETag"] = '"0123456789abcdef0123456789abcdef"'
        if request.method in ("PUT", "HEAD"):
            headers["x-amz-server-side-encryption"] = "aws:kms"

    proxy.change = encrypt
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        content = StreamedContent(size)
        entry = dataclasses.replace(file_entry("file", size), md5=content.md5)
        await sink.write("file", entry, content)
        assert await peer.get(f"{folder}/file") == await content.read()

        listed = await sink.stat("file")
        assert listed is not None
        assert await sink.matches(listed, entry)
        assert not await sink.matches(listed, dataclasses.replace(entry, md5=bytes(16)))


async def test_encryption_that_is_switched_on_later(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "clear")

        def encrypt(request: web.Request, headers: CIMultiDict[str]) -> None:
            if request.method in ("PUT", "HEAD") and "partNumber" not in request.query:
                headers["ETag"] = '"0123456789abcdef0123456789abcdef"'
                headers["x-amz-server-side-encryption"] = "aws:kms"

        proxy.change = encrypt
        await write(sink, "encrypted")
        await sink.write("large", file_entry("large", 6 * MIB), StreamedContent(6 * MIB))
    assert await peer.get(f"{folder}/encrypted") == b"data"


async def test_a_publication_whose_answer_is_an_error(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    """S3 may answer 200 to the completion of an upload and say in the body that it failed."""

    async def fail(request: web.Request, _body: bytes) -> web.Response | None:
        if request.method == "POST" and "uploadId" in request.query:
            return s3_error(200, "InternalError")
        return None

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = fail
        with pytest.raises(SinkUnavailable, match="InternalError"):
            await sink.write("file", file_entry("file", 6 * MIB), StreamedContent(6 * MIB))
    assert await peer.uploads(folder) == set()
    assert await peer.names(folder) == set()
