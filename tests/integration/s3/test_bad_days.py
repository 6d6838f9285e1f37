"""A service that throttles, breaks off, hangs, goes away and comes back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from filerbackup.errors import (
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects import http
from filerbackup.sinks.s3 import bucket, pace, signed
from tests.contract.contents import (
    StreamedContent,
    file_entry,
)
from tests.integration.s3.conftest import BUCKET, MIB, opened, settings
from tests.support.proxy import Proxy
from tests.support.s3 import (
    ACCESS_KEY,
    SECRET_KEY,
    Peer,
    s3_error,
)
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer


async def test_a_throttling_service(server: WeedServer, peer: Peer, proxy: Proxy, folder: str) -> None:
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "file")
        for status, code in ((503, "SlowDown"), (429, "TooManyRequests")):

            async def throttle(
                _request: web.Request, _body: bytes, status: int = status, code: str = code
            ) -> web.Response:
                return s3_error(status, code, "Please reduce your request rate.")

            proxy.fault = throttle
            proxy.requests.clear()
            for call in (
                lambda: write(sink, "file"),
                lambda: sink.delete("file"),
                lambda: keys(sink),
                lambda: sink.read_own(".filerbackup/sink.json"),
                lambda: write(sink, "new\nline"),
            ):
                with pytest.raises(SinkThrottled):
                    await call()
            # Nobody but the caller retries.
            assert len(proxy.requests) == 5


async def test_answers_that_are_cut_off(server: WeedServer, peer: Peer, proxy: Proxy, folder: str) -> None:
    async def cut(request: web.Request, _body: bytes) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "file")
        proxy.fault = cut
        for call in (
            lambda: write(sink, "file"),
            lambda: sink.delete("file"),
            lambda: keys(sink),
            lambda: sink.stat("file"),
            lambda: sink.read_own(".filerbackup/sink.json"),
        ):
            with pytest.raises(SinkUnavailable):
                await call()


async def test_a_body_that_ends_early_is_an_error(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async def half(request: web.Request, _body: bytes) -> web.StreamResponse | None:
        if request.method != "GET" or not request.path.endswith("file"):
            return None
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 500)
        assert request.transport is not None
        request.transport.close()
        return response

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = half
        with pytest.raises(SinkUnavailable):
            assert [block async for block in sink.read("file")] == []


async def test_a_service_that_knows_no_ranges(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async def whole(request: web.Request, _body: bytes) -> web.Response | None:
        return web.Response(body=b"0123456789") if "Range" in request.headers else None

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "file", b"0123456789")
        assert [block async for block in sink.read("file", 3, 0)] == []
        assert [block async for block in sink.read("file", 3, 4)] == [b"3456"]
        proxy.fault = whole
        with pytest.raises(SinkUnavailable, match="range"):
            await anext(sink.read("file", 3, 4))


async def test_a_server_that_never_answers(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_request: web.Request, _body: bytes) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    monkeypatch.setattr(bucket, "CALL_S", 0.3)
    for module in (signed, http, pace):
        monkeypatch.setattr(module, "STALL_S", 0.3)
    async with opened(settings(server, folder)) as sink:
        upload = await sink._store.begin_upload(f"{folder}/big", ObjectMetadata())
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = hang

        async def blocks() -> AsyncIterator[bytes]:
            yield b"x" * 1000

        for call in (
            lambda: write(sink, "file"),
            lambda: write(sink, "new\nline"),
            lambda: sink.delete("file"),
            lambda: keys(sink),
            lambda: sink.stat("file"),
            lambda: sink._store.put_part(f"{folder}/big", upload, 1, 1000, blocks(), lambda: b""),
        ):
            with pytest.raises(SinkUnavailable, match=r"no answer|nothing moved"):
                await asyncio.wait_for(call(), 10)


async def test_the_server_goes_down_and_comes_back(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "one", b"1")
        await proxy.hang_up()
        for call in (
            lambda: write(sink, "two", b"2"),
            lambda: sink.delete("one"),
            lambda: keys(sink),
            lambda: sink.write("large", file_entry("large", 6 * MIB), StreamedContent(6 * MIB)),
            sink.open,
        ):
            with pytest.raises(SinkUnavailable, match=r"no answer|no connection|broke|not open"):
                await call()
        await proxy.listen(proxy.port)
        await sink.open()
        await write(sink, "two", b"2")
        assert await keys(sink) == ["one", "two"]
        await proxy.hang_up()
        with pytest.raises(SinkUnavailable):
            await write(sink, "three", b"3")
        await proxy.listen(proxy.port)
        # Without another `open`: the service is back, and that is all it takes.
        await write(sink, "three", b"3")
        await sink.write("large", file_entry("large", 6 * MIB), StreamedContent(6 * MIB))
        await sink.delete("one")
    assert await peer.get(f"{folder}/three") == b"3"
    assert await peer.get(f"{folder}/one") is None


async def test_closing_ends_what_waits(server: WeedServer, peer: Peer, proxy: Proxy, folder: str) -> None:
    reached = asyncio.Event()

    async def hang(_request: web.Request, _body: bytes) -> web.Response:
        reached.set()
        await asyncio.sleep(30)
        return web.Response()

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = hang
        deleting = asyncio.create_task(sink.delete("x"))
        await reached.wait()
        await sink.close()
        with pytest.raises(SinkUnavailable):
            await deleting
        with pytest.raises(SinkUnavailable, match="not open"):
            await write(sink, "x")


def test_a_process_that_ends_with_uploads_under_way_ends_well(server: WeedServer, tmp_path: Path) -> None:
    """Exit code 0 and not a word: nothing was left open, no thread of obstore's held on to an object."""
    script = tmp_path / "short.py"
    script.write_text(_SHORT)
    arguments = [server.s3_endpoint, BUCKET, ACCESS_KEY, SECRET_KEY]
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, str(script), *arguments],
            capture_output=True,
            check=False,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert (ended.returncode, ended.stderr) == (0, "")


_SHORT = """
import asyncio, sys
sys.path.insert(0, ".")
from filerbackup.content import InlineContent
from filerbackup.events import Entry, EntryKind
from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.s3 import S3Sink


async def main():
    endpoint, bucket, access, secret = sys.argv[1:]
    sink = S3Sink(S3Settings("s3", directory="/short", bucket=bucket, region="us-east-1", endpoint=endpoint,
                             access_key_id=access, secret_access_key=Secret(secret)))
    await sink.open()
    data = bytes(200_000)
    entry = Entry("/x", EntryKind.FILE, size=len(data))
    writes = [asyncio.create_task(sink.write(f"k{n}", entry, InlineContent(data))) for n in range(20)]
    await asyncio.sleep(0.01)
    for write in writes[::2]:
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    await sink.close()


asyncio.run(main())
"""
