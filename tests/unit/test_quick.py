"""The short way to a chunk: right for the usual answer, silent about every other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from filerbackup.source.quick import QuickReads

BODY = bytes(range(256)) * 16
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\n"
GOOD = HEAD + BODY
GZIP = b"\r\nContent-Encoding: gzip\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + BODY + b"\r\n0\r\n\r\n"
ODD = {
    "shorter": HEAD.replace(b"4096", b"4095") + BODY[:-1],
    "longer": HEAD.replace(b"4096", b"4097") + BODY + b"!",
    "more than it says": GOOD + b"!",
    "encoded": HEAD.replace(b"\r\n\r\n", GZIP) + BODY,
    "chunked": CHUNKED,
    "two lengths": HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 4096\r\n\r\n") + BODY,
    "a length that only begins so": HEAD.replace(b"4096", b"40961") + BODY,
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/1.0": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000,
    "nothing": b"",
    "the beginning": GOOD[:2000],
}


class Server:
    """Gives one scripted answer to every request."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.hangs_up = True
        self.pause: Callable[[], float] = lambda: 0.0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                for at in range(0, len(self.answer), 1500):
                    writer.write(self.answer[at : at + 1500])
                    await writer.drain()
                    await asyncio.sleep(self.pause())
                if self.hangs_up and self.answer != GOOD:
                    return
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    answer: bytes, *, silence_s: float = 5.0, keepalive_s: float = 20.0
) -> AsyncIterator[tuple[Server, QuickReads]]:
    server = Server(answer)
    reads = QuickReads(4, connect_s=5, silence_s=silence_s, keepalive_s=keepalive_s)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server, reads
    finally:
        await reads.close()
        listening.close()
        await listening.wait_closed()
        # The handlers see the end of their connections.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)


async def test_the_usual_answer_over_one_connection() -> None:
    async with serving(GOOD) as (server, reads):
        for _ in range(3):
            assert await reads.read(server.address, "3,01ab", 4096, "Bearer x.y.z") == BODY
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET /3,01ab?readDeleted=true HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Bearer x.y.z\r\n" in server.requests[0]
        assert b"\r\nAccept-Encoding: identity\r\n" in server.requests[0]


async def test_no_more_connections_than_allowed() -> None:
    async with serving(GOOD) as (server, reads):
        found = await asyncio.gather(*(reads.read(server.address, "3,01ab", 4096) for _ in range(40)))
        assert found == [BODY] * 40
        assert server.connections <= 4


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_every_other_answer_is_left_to_the_full_client(answer: bytes) -> None:
    async with serving(answer) as (server, reads):
        assert await reads.read(server.address, "3,01ab", 4096) is None
        server.answer = GOOD
        assert await reads.read(server.address, "3,01ab", 4096) == BODY
        assert server.connections == 2


@pytest.mark.parametrize("status", [404, 401, 429, 500, 206, 301])
async def test_another_status_is_told(status: int) -> None:
    async with serving(b"HTTP/1.1 %d What\r\nContent-Length: 0\r\n\r\n" % status) as (server, reads):
        for _ in range(5):
            assert await reads.read(server.address, "3,01ab", 4096) == status


async def test_a_server_with_odd_answers_is_not_bothered_with_every_request_twice() -> None:
    async with serving(CHUNKED) as (server, reads):
        for _ in range(10):
            assert await reads.read(server.address, "3,01ab", 4096) is None
        assert len(server.requests) == 3


async def test_silence_is_a_timeout_and_slowness_is_not_judged() -> None:
    async with serving(b"", silence_s=0.1) as (server, reads):
        server.hangs_up = False
        with pytest.raises(TimeoutError):
            await reads.read(server.address, "3,01ab", 4096)
        server.answer, server.pause = GOOD, lambda: 0.2
        assert await reads.read(server.address, "3,01ab", 4096) is None


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with serving(GOOD, keepalive_s=0.0) as (server, reads):
        assert await reads.read(server.address, "3,01ab", 4096) == BODY
        await asyncio.sleep(0.01)
        assert await reads.read(server.address, "3,01ab", 4096) == BODY
        assert server.connections == 2


async def test_a_cancelled_read_leaves_no_connection_in_the_middle_of_an_answer() -> None:
    async with serving(GOOD) as (server, reads):
        server.pause = lambda: 0.05
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await reads.read(server.address, "3,01ab", 4096)
        server.pause = lambda: 0.0
        assert await reads.read(server.address, "3,01ab", 4096) == BODY
        assert server.connections == 2


@pytest.mark.parametrize("name", ["a:1\r\nX: y:80", "[::1]:80", "host", "h:0", "h:65536", "a b:80", ""])
async def test_a_server_whose_name_is_not_plain_is_left_to_the_full_client(name: str) -> None:
    reads = QuickReads(4, connect_s=5, silence_s=5, keepalive_s=20)
    assert await reads.read(name, "3,01ab", 4096) is None


async def test_nobody_there() -> None:
    reads = QuickReads(4, connect_s=5, silence_s=5, keepalive_s=20)
    with pytest.raises(OSError):
        await reads.read("127.0.0.1:9", "3,01ab", 4096)
