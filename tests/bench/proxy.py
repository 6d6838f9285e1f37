"""A TCP proxy that is far away: every byte arrives a fixed time later, at any bandwidth.

`python -m tests.bench.proxy TARGET_PORT ONE_WAY_MS` prints the port that it listens on. The opening
of a connection costs a round trip too: what is sent first waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST_UNDERWAY_BYTES = 64 << 20
"""Of one direction of one connection: with 12.5 ms that is a bandwidth of 5 GB/s."""
_END = b""
"""In place of bytes: the sender is done."""


class _End(asyncio.BufferedProtocol):
    """One end of a connection; what it receives leaves at the other end after the delay.

    All ends receive into one buffer: an ordinary protocol takes 15 µs longer for each piece that comes.
    """

    def __init__(self, delay_s: float, buffer: memoryview) -> None:
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._delay_s = delay_s
        self._not_before = 0.0
        self._underway: deque[tuple[float, bytes]] = deque()
        self._underway_bytes = 0
        self._is_armed = False
        self._is_lost = False
        self._is_choked = False
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connect_to(self, other: _End, not_before: float = 0.0) -> None:
        """What was received, and will be, goes to `other`, but not before that time."""
        self.other = other
        self._not_before = not_before
        self._arm()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=8 << 20)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._take(bytes(self._buffer[:nbytes]))

    def _take(self, data: bytes) -> None:
        self._underway.append((self._loop.time() + self._delay_s, data))
        self._underway_bytes += len(data)
        self._regulate()
        self._arm()

    def eof_received(self) -> bool:
        self._take(_END)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._take(_END)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.choke(True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.choke(False)

    def choke(self, choked: bool) -> None:
        """Whether the other end has more to send than its network takes."""
        self._is_choked = choked
        self._regulate()

    def _regulate(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._is_choked or self._underway_bytes > _MOST_UNDERWAY_BYTES:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _arm(self) -> None:
        if self._underway and self.other is not None and not self._is_armed:
            self._is_armed = True
            self._loop.call_at(max(self._underway[0][0], self._not_before), self._arrive)

    def _arrive(self) -> None:
        self._is_armed = False
        now = self._loop.time()
        while self._underway and max(self._underway[0][0], self._not_before) <= now:
            _, data = self._underway.popleft()
            self._underway_bytes -= len(data)
            self._pass_on(data)
        self._regulate()
        self._arm()

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        transport = self.other.transport
        if transport is None or transport.is_closing():
            return
        if data:
            transport.write(data)
        elif self._is_lost:
            transport.close()
        elif transport.can_write_eof():
            transport.write_eof()


async def serve(target_port: int, one_way_s: float) -> asyncio.Server:
    """Listen on a free port of this machine."""
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()
    buffer = memoryview(bytearray(256 << 10))

    def accept() -> _End:
        client, server = _End(one_way_s, buffer), _End(one_way_s, buffer)
        accepted = loop.time()

        async def connect() -> None:
            try:
                await loop.create_connection(lambda: server, "127.0.0.1", target_port)
            except OSError:
                if client.transport is not None:
                    client.transport.close()
                return
            # A client may send once its SYN was answered, one round trip after it began; here the
            # kernel answers at once, so its first bytes are held back by as much.
            client.connect_to(server, not_before=accepted + 3 * one_way_s)
            server.connect_to(client)

        task = loop.create_task(connect())
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return client

    return await loop.create_server(accept, "127.0.0.1", 0, backlog=1024)


@dataclass(frozen=True, slots=True)
class FarAway:
    """A running proxy."""

    port: int

    @property
    def endpoint(self) -> str:
        """As the URL of an HTTP server."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def far_away(target_port: int, one_way_ms: float) -> Iterator[FarAway]:
    """A proxy in a process of its own, so that its work is not that of what is measured."""
    command = [sys.executable, "-m", "tests.bench.proxy", str(target_port), str(one_way_ms)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield FarAway(int(process.stdout.readline()))
        finally:
            process.terminate()


async def _main(target_port: int, one_way_ms: float) -> None:
    server = await serve(target_port, one_way_ms / 1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
