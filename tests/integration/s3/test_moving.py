"""Moves and changes of attributes inside the service: no byte is sent again."""

from __future__ import annotations

import dataclasses
import hashlib
import stat

import pytest
from aiohttp import web

from filerbackup.content import InlineContent
from filerbackup.events import Chunk, Entry
from filerbackup.sinks.base import SinkIdentity
from filerbackup.sinks.objects.sink import ObjectSink
from filerbackup.sinks.s3 import S3Sink
from filerbackup.sinks.s3.store import S3Store
from tests.contract.contents import MTIME_NS, StreamedContent, file_entry
from tests.integration.s3.conftest import MIB, opened, settings
from tests.support.proxy import Proxy
from tests.support.s3 import Peer, s3_error
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer

DATA = b"what is moved"
EXTENDED = {
    "X-Amz-Meta-Colour": b"blue",
    "X-Amz-Tagging-Team": b"red",
    "Cache-Control": b"no-cache",
    "Content-Disposition": b"attachment",
}


def known_entry(key: str, data: bytes = DATA, **changes: object) -> Entry:
    """A file whose content the filer knows by its MD5."""
    entry = dataclasses.replace(file_entry(key, len(data)), md5=hashlib.md5(data).digest(), extended=EXTENDED)
    return dataclasses.replace(entry, **changes)  # type: ignore[arg-type]


def chunked_entry(key: str, size: int, **changes: object) -> Entry:
    """A file whose content the filer knows by its chunks alone."""
    entry = dataclasses.replace(file_entry(key, size), chunks=(Chunk("3,0144b8b2", 0, size, 7),))
    return dataclasses.replace(entry, **changes)  # type: ignore[arg-type]


async def test_a_move_sends_no_bytes_and_keeps_everything(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    sent = []

    async def watch(request: web.Request, body: bytes) -> None:
        if request.method == "PUT" and DATA in body:
            sent.append(request.path)

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        entry = known_entry("old", mime="text/plain")
        await sink.write("old", entry, InlineContent(DATA, entry.md5))
        proxy.fault = watch
        renamed = dataclasses.replace(entry, path="/d/new", mode=stat.S_IFREG | 0o600, mtime_ns=MTIME_NS + 5)
        assert await sink.move("old", "d/new", renamed)
        # Again, as after a crash before the checkpoint: it is there already.
        assert await sink.move("old", "d/new", renamed)
        assert sent == []
        assert await keys(sink) == ["d/new"]

        head = await peer.head(f"{folder}/d/new")
        assert head is not None
        assert head["Metadata"] == {
            "mtime": "1600000000.123456794", "mode": "100600", "uid": "0", "gid": "0", "colour": "blue",
        }  # fmt: skip
        assert (head["ContentType"], head["CacheControl"], head["ContentDisposition"]) == (
            "text/plain", "no-cache", "attachment",
        )  # fmt: skip
        assert await peer.tags(f"{folder}/d/new") == {"Team": "red"}
        listed = await sink.stat("d/new")
        assert listed is not None
        assert await sink.matches(listed, renamed)


async def test_an_object_above_the_limit_of_one_copy_is_copied_in_ranges(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    of = settings(server, folder, endpoint=proxy.endpoint)
    identity = SinkIdentity("s3", of.endpoint, of.bucket, of.directory)
    sink = ObjectSink(of, S3Store(of, largest_copy=5 * MIB), identity=identity)
    await sink.open()
    content = StreamedContent(17 * MIB + 3)
    entry = chunked_entry("old", content.size)
    await sink.write("old", entry, content)
    proxy.requests.clear()

    assert await sink.move("old", "new", dataclasses.replace(entry, path="/new"))
    copied = [query for method, _, query in proxy.requests if method == "PUT" and "partNumber" in query]
    assert len(copied) == 4
    assert await peer.get(f"{folder}/new") == await content.read()
    assert await peer.get(f"{folder}/old") is None
    assert await peer.uploads(folder) == set()

    # And once more, from what was itself copied in ranges.
    assert await sink.update("new", dataclasses.replace(entry, mtime_ns=MTIME_NS + 9))
    assert await peer.get(f"{folder}/new") == await content.read()
    await sink.close()


async def test_what_was_replaced_between_the_look_and_the_copy_is_not_copied(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async def replace(request: web.Request, _body: bytes) -> None:
        if "x-amz-copy-source" in request.headers:
            await peer.put(f"{folder}/old", b"another hand's")

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        entry = known_entry("old")
        await sink.write("old", entry, InlineContent(DATA, entry.md5))
        proxy.fault = replace
        assert not await sink.move("old", "new", entry)
        assert await peer.get(f"{folder}/new") is None
        assert await peer.get(f"{folder}/old") == b"another hand's"


@pytest.mark.parametrize("found", [DATA[:5], DATA.upper()])
async def test_a_copy_that_came_out_wrong_costs_the_bytes_again_and_not_the_original(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, found: bytes
) -> None:
    async def copy_badly(request: web.Request, _body: bytes) -> web.Response | None:
        if "x-amz-copy-source" not in request.headers:
            return None
        await peer.put(f"{folder}/new", found)
        etag = hashlib.md5(found).hexdigest()
        return web.Response(text=f"<CopyObjectResult><ETag>&quot;{etag}&quot;</ETag></CopyObjectResult>")

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        entry = known_entry("old")
        await sink.write("old", entry, InlineContent(DATA, entry.md5))
        proxy.fault = copy_badly
        assert not await sink.move("old", "new", entry)
        assert await peer.get(f"{folder}/old") == DATA


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState", "NotImplemented"])
async def test_a_service_that_cannot_copy_gets_the_bytes_again(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, code: str
) -> None:
    async def refuse(request: web.Request, _body: bytes) -> web.Response | None:
        return s3_error(403, code) if "x-amz-copy-source" in request.headers else None

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        entry = known_entry("old")
        await sink.write("old", entry, InlineContent(DATA, entry.md5))
        proxy.fault = refuse
        assert not await sink.move("old", "new", entry)
        assert not await sink.update("old", entry)
        assert await keys(sink) == ["old"]


async def test_attributes_change_in_place(sink: S3Sink, peer: Peer, folder: str) -> None:
    entry = chunked_entry("file", len(DATA))
    await sink.write("file", entry, InlineContent(DATA))
    changed = dataclasses.replace(entry, mode=stat.S_IFREG | 0o400, uid=7, mtime_ns=5, extended=EXTENDED)

    assert await sink.update("file", changed)
    head = await peer.head(f"{folder}/file")
    assert head is not None
    assert head["Metadata"]["mode"] == "100400"
    assert head["Metadata"]["uid"] == "7"
    assert head["Metadata"]["mtime"] == "0.000000005"
    assert head["Metadata"]["colour"] == "blue"
    assert await peer.get(f"{folder}/file") == DATA
    listed = await sink.stat("file")
    assert listed is not None
    assert await sink.matches(listed, changed)
    assert not await sink.matches(listed, entry)


async def test_attributes_of_other_content_do_not_change(sink: S3Sink, peer: Peer, folder: str) -> None:
    entry = await write(sink, "file", DATA)
    for other in (
        dataclasses.replace(entry, md5=b"x" * 16),
        dataclasses.replace(entry, size=3),
        dataclasses.replace(entry, mtime_ns=5),
        chunked_entry("file", len(DATA), mtime_ns=5),
    ):
        assert not await sink.update("file", other)
    assert not await sink.update("absent", entry)
    head = await peer.head(f"{folder}/file")
    assert head is not None
    assert head["Metadata"]["mtime"] == "1600000000.123456789"
