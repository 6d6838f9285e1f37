"""Whatever a volume server answers: the right number of bytes or an error of the tree, in bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import FilerBackupError, Unreadable
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.source import volumes as volumes_module
from filerbackup.source.content import FileContent
from filerbackup.source.volumes import Volumes
from tests.fuzz.peak import Peak
from tests.fuzz.test_targets import fuzzing

FILE_ID = "3,01637037d6"
MIB = 1 << 20
_SLICE = 256 << 10


class Server:
    """A volume server that answers with what it was told: the bytes as they go over the wire."""

    def __init__(self) -> None:
        self.answer = b""
        self.address = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Volumes]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        volumes = Volumes(self._look_up)
        try:
            yield volumes
        finally:
            await volumes.close()
            server.close()

    async def _look_up(self, volume_ids: Sequence[str]) -> dict[str, list[str]]:
        return {volume_id: [self.address] for volume_id in volume_ids}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for at in range(0, len(self.answer), _SLICE):
                writer.write(self.answer[at : at + _SLICE])
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def head(size: int, *more: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def a_file(size: int, **more: object) -> Entry:
    chunk = Chunk(FILE_ID, 0, size, 5, **more)  # type: ignore[arg-type]
    return Entry("/f", EntryKind.FILE, size, chunks=(chunk,))


def bomb() -> bytes:
    """A gigabyte of zeros in one megabyte of gzip: the same block again and again, without an end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(4 * MIB)
    first, other = (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + other * 255


HEADERS = st.sampled_from(
    ["Content-Encoding: gzip", "Content-Encoding: x", "Transfer-Encoding: chunked", "Content-Length: 5",
     "Content-Length: 99999999999999999999", "Content-Range: bytes 0-9/10", "Content-Range: bytes 5-14/20",
     "Content-Range: bytes 0-9/99999999999", "Connection: close", "X: " + "y" * 9000, "\0: \1", "Location: http://x/"]
)  # fmt: skip
STATUS = st.sampled_from(["200 OK", "206 Partial", "404 no", "301 x", "500 x", "999 x", "200", "0 x", "-1 x"])
BODY = st.one_of(
    st.binary(max_size=40),
    st.just(bytes(10)),
    st.binary(max_size=30).map(gzip.compress),
    st.binary(max_size=30).map(lambda data: gzip.compress(data)[:-3]),
    st.just(b"5\r\nhello\r\n0\r\n\r\n"),
)


@fuzzing
@given(
    compressed=st.booleans(),
    status=STATUS,
    headers=st.lists(HEADERS, max_size=3),
    body=BODY,
    length=st.sampled_from([None, 0, 9, 10, 11, 1 << 40]),
    stray=st.binary(max_size=20),
)
def test_any_answer(
    compressed: bool, status: str, headers: list[str], body: bytes, length: int | None, stray: bytes
) -> None:
    async def scenario() -> None:
        server = Server()
        server.answer = (
            stray[:2] + head(len(body) if length is None else length, *headers, status=status) + body + stray
        )
        async with server.running() as volumes:
            content = FileContent(a_file(10, is_compressed=compressed), volumes)
            try:
                async with asyncio.timeout(20):
                    assert len(await content.read()) == 10
            except FilerBackupError:
                return

    with patch.object(volumes_module, "_PAUSE_S", 0.0):
        asyncio.run(scenario())


@pytest.mark.parametrize(("size", "label"), [(100, "gzip"), (4 * MIB, "gzip"), (MIB, "x")])
async def test_a_gzip_bomb_is_not_inflated_beyond_the_chunk(size: int, label: str) -> None:
    server = Server()
    packed = bomb()
    assert len(packed) < 2 * MIB
    server.answer = head(len(packed), f"Content-Encoding: {label}") + packed
    async with server.running() as volumes:
        peak = Peak()
        await read_at_once(volumes, a_file(size, is_compressed=True), 8)
    assert peak.grown_mb() < 120


async def test_a_short_compressed_chunk_does_not_cost_what_the_server_sends() -> None:
    """The budget knows of a few bytes, and for each read the server has thirty megabytes."""
    server = Server()
    server.answer = head(30 * MIB) + bytes(30 * MIB)
    async with server.running() as volumes:
        peak = Peak()
        await read_at_once(volumes, a_file(9, is_compressed=True), 8)
        await read_at_once(volumes, a_file(9, cipher_key=bytes(32)), 8)
    # One encrypted chunk at a time may be longer than its size says, for it may have been truncated.
    assert peak.grown_mb() < 200


async def read_at_once(volumes: Volumes, entry: Entry, number: int) -> None:
    async def read() -> None:
        with pytest.raises(Unreadable):
            await FileContent(entry, volumes).read()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(read())


async def test_a_needle_that_never_ends_is_not_read_for_ever() -> None:
    """Each range says that there is more behind it."""

    async def endless(request: web.Request) -> web.Response:
        first, last = (int(part) for part in request.headers["Range"].removeprefix("bytes=").split("-"))
        headers = {"Content-Range": f"bytes {first}-{last}/{10**18}"}
        return web.Response(status=206, body=bytes(last - first + 1), headers=headers)

    async with serving(endless) as volumes, asyncio.timeout(30):
        with pytest.raises(Unreadable):
            await volumes.examine(Chunk(FILE_ID, 0, 100, 5))


async def test_an_encrypted_chunk_of_a_size_that_none_can_be_is_not_fetched() -> None:
    """It would be held in memory as a whole."""

    async def never(_request: web.Request) -> web.Response:
        raise AssertionError

    key = os.urandom(32)
    async with serving(never) as volumes:
        entry = a_file(1 << 40, cipher_key=key)
        with pytest.raises(Unreadable, match="too long"):
            await FileContent(entry, volumes).read()


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Volumes]:
    app = web.Application()
    app.router.add_route("GET", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"

    async def look_up(volume_ids: Sequence[str]) -> dict[str, list[str]]:
        return {volume_id: [address] for volume_id in volume_ids}

    volumes = Volumes(look_up)
    try:
        yield volumes
    finally:
        await volumes.close()
        await runner.cleanup()
