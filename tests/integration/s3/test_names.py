"""Names: as they are, or refused with the reason."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from aiohttp import web

from filerbackup.errors import (
    ObjectRejected,
    SinkRefused,
    SinkUnavailable,
)
from filerbackup.sinks.s3 import S3Sink
from tests.contract.contents import (
    StreamedContent,
    file_entry,
)
from tests.integration.s3.conftest import MIB, opened, settings
from tests.support.proxy import Proxy
from tests.support.s3 import (
    Peer,
    s3_error,
)
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer

ODD = [
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "\U0001f600", " both ends ", "#", "a?b", "50%", "a&b", "a+b", "~", ";", "a=b", "[b]", "{b}", '"', "'",
    "literal%20", "%", "%zz", ".leading", "..two", "new\nline", "\ttab", "cr\r", "\x01", "\x7f", "x" * 250,
    "a b+c%2Bd", "*", "|<>", ":", "`^", "$,@!", "\ufeff", "\uffff", "\u2028", "日本" * 40, "a.rclonelin",
]  # fmt: skip


async def test_odd_names_arrive_and_are_found_again(sink: S3Sink, peer: Peer, folder: str) -> None:
    await write(sink, "link", b"")
    written = {f"d/{name}": f"{number}".encode() for number, name in enumerate(ODD)}
    async with asyncio.TaskGroup() as group:
        for key, data in written.items():
            group.create_task(write(sink, key, data))

    assert await peer.names(f"{folder}/d/") == {f"{folder}/{key}" for key in written}
    assert await keys(sink, "d/") == sorted(written, key=str.encode)
    for key, data in written.items():
        assert b"".join([block async for block in sink.read(key)]) == data
        shown = await sink.stat(key)
        assert shown is not None and shown.size == len(data)

    async with asyncio.TaskGroup() as group:
        for key in written:
            group.create_task(sink.delete(key))
    assert await peer.names(f"{folder}/d/") == set()


@pytest.mark.parametrize("name", ["new\nline", "é b+c%20"])
async def test_large_files_with_odd_names(sink: S3Sink, peer: Peer, folder: str, name: str) -> None:
    content = StreamedContent(6 * MIB)
    await sink.write(f"d/{name}", file_entry("f", content.size), content)
    assert await peer.get(f"{folder}/d/{name}") == await content.read()


async def test_a_name_that_the_service_changes_is_refused(sink: S3Sink, peer: Peer, folder: str) -> None:
    await write(sink, "a/b", b"not to be replaced")
    for _ in range(2):
        with pytest.raises(ObjectRejected, match="does not keep the character"):
            await write(sink, "a\\b")
    assert await peer.names(folder) == {f"{folder}/a/b"}
    assert await peer.get(f"{folder}/a/b") == b"not to be replaced"


async def test_a_name_that_is_too_long_is_refused(sink: S3Sink, peer: Peer, folder: str) -> None:
    deep = "/".join(["x" * 200] * 5)
    for key in (deep + "x" * 20, "é" * 600, "x" * 300):
        with pytest.raises(ObjectRejected):
            await write(sink, key)
    assert await peer.names(folder) == set()


async def test_a_name_that_reads_like_an_answer(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    name = "x in 1ms - Server returned non-2xx status code: 503 x: <Code>SlowDown<_Code>"

    async def deny(_request: web.Request, _body: bytes) -> web.Response:
        return s3_error(403, "AccessDenied")

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = deny
        with pytest.raises(SinkRefused):
            await write(sink, name)


async def test_a_large_file_where_a_directory_was(sink: S3Sink, peer: Peer, folder: str) -> None:
    """SeaweedFS keeps the empty directory for minutes, and no upload in parts could end over it."""
    for key in ("was/file", "was/deep/er/file", "full/file"):
        await write(sink, key, b"x")
    for key in ("was/file", "was/deep/er/file"):
        await sink.delete(key)

    content = StreamedContent(6 * MIB)
    await sink.write("was", file_entry("was", content.size), content)

    assert await peer.names(f"{folder}/was") == {f"{folder}/was"}
    # What is below a directory that is not empty is nobody's leftover.
    with pytest.raises(SinkUnavailable, match="complete upload of"):
        await sink.write("full", file_entry("full", content.size), content)
    assert await peer.get(f"{folder}/full/file") == b"x"
