"""Lines between the daemons and their servers that can be cut, slowed down and left half-open.

A line may disturb the connections of some processes only: on this machine the owner of a connection
is found in /proc.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_BLOCK_BYTES = 1 << 17
SLOW_S = 0.08
"""What each block, or each request, waits on a slow line."""


class State(enum.Enum):
    """What a line does to what passes."""

    WHOLE = "whole"
    CUT = "cut"
    """Connections are reset, and new ones as soon as they are made."""
    SLOW = "slow"
    HALF_OPEN = "half-open"
    """Nothing passes in either direction and nobody is told; what was open then stays dead for good."""


class Line:
    """A TCP proxy in front of a port of this machine; `state` may change at any time, in its loop."""

    def __init__(
        self,
        name: str,
        target_port: int,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        concerns: Callable[[Ports], bool] = lambda _ports: True,
    ) -> None:
        self.name = name
        self._target_port = target_port
        self._host, self.port = host, port
        self._concerns = concerns
        self.state = State.WHOLE
        self._wires: set[_Wire] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to listen; `port` says where."""
        self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=_BLOCK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more connections and end those that there are."""
        if self._server is not None:
            self._server.close()
        for wire in list(self._wires):
            wire.abort()

    def become(self, state: State) -> None:
        """From now on."""
        self.state = state
        for wire in [wire for wire in self._wires if wire.concerned]:
            match state:
                case State.CUT:
                    wire.abort()
                case State.HALF_OPEN:
                    wire.dead = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = ports_of(writer.transport)
        wire = _Wire(self, self._concerns(ports) if ports else True)
        wire.dead = wire.concerned and self.state is State.HALF_OPEN
        wire.writers.append(writer)
        self._wires.add(wire)
        try:
            if wire.concerned and self.state is State.CUT:
                return
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self._target_port, limit=_BLOCK_BYTES
            )
            wire.writers.append(far_writer)
            await asyncio.gather(wire.pump(reader, far_writer), wire.pump(far_reader, writer))
        except OSError:
            pass
        finally:
            self._wires.discard(wire)
            wire.abort()


class _Wire:
    """One connection through a line. `dead`: a half-open line swallowed it."""

    def __init__(self, line: Line, concerned: bool) -> None:
        self._line = line
        self.concerned = concerned
        self.dead = False
        self.writers: list[asyncio.StreamWriter] = []

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            block = await reader.read(_BLOCK_BYTES)
            if self.dead:
                # An end of the client's side is seen by the kernel all the same: then it may go.
                if not block:
                    return
                continue
            if self.concerned and self._line.state is State.SLOW:
                await asyncio.sleep(SLOW_S)
            if not block:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(block)
            await writer.drain()

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class LoopThread:
    """An event loop in a thread of its own, where lines and proxies live."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = contextlib.AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, function: Callable[[], object]) -> None:
        """Do something short there and wait for it."""

        async def calling() -> None:
            function()

        self.run(calling())

    def enter(self, context: contextlib.AbstractAsyncContextManager[T]) -> T:
        """Enter a context there; it is left at the end."""
        return self.run(self._stack.enter_async_context(context))

    def add(self, line: Line) -> Line:
        """Open a line there; it is closed at the end."""

        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[Line]:
            await line.open()
            try:
                yield line
            finally:
                await line.close()

        return self.enter(opened())

    @contextlib.contextmanager
    def running(self) -> Iterator[LoopThread]:
        """Until the end of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            with contextlib.suppress(TimeoutError):
                self.run(self._stack.aclose())
            with contextlib.suppress(TimeoutError):
                self.run(_end_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


Ports = tuple[int, int]
"""Those of a TCP connection: the client's, the server's."""


def ports_of(transport: asyncio.BaseTransport) -> Ports | None:
    """Of a connection that a server of ours has taken; None when it is gone."""
    peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return (peer[1], here[1]) if peer and here else None


def owner_of(ports: Ports, pids: Iterable[int]) -> int | None:
    """Which of these processes has the client's end of a TCP connection of this machine, or None."""
    inode = _inode_of(ports)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(link.readlink()) == wanted:
                        return pid
    return None


def _inode_of(ports: Ports) -> str | None:
    # Both: the same client port can belong to several connections, each to another server.
    near, far = (f":{port:04X}" for port in ports)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as lines:
            for text in lines:
                fields = text.split()
                if fields[1].endswith(near) and fields[2].endswith(far) and fields[9] != "0":
                    return fields[9]
    return None
