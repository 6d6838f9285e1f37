"""Small requests over plain HTTP/1.1 on connections that stay open, with as little work as possible.

What both ends of a copy do many thousand times a second: read a small chunk, put a small chunk. Which
answers are the usual ones differs; what is not is closed, and asked again with a full HTTP client.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Generic, TypeVar, cast

from filerbackup.filer.sockets import watch

MOST_BYTES = 256 << 10
"""Above, the CPU goes into the bytes and not into the request."""
LENGTH = b"\r\ncontent-length: "

_plain_server = re.compile(r"([A-Za-z0-9.-]{1,253}):([0-9]{1,5})", re.ASCII).fullmatch
_status = re.compile(rb"http/1\.1 ([1-9][0-9]{2}) ").match

A = TypeVar("A")
C = TypeVar("C", bound="Connection[Any]")


def plain_server(name: str) -> tuple[str, int] | None:
    """Host and port; None for what is neither a host name nor an IPv4 address with a port."""
    found = _plain_server(name)
    if found is None or not 0 < int(found[2]) < 1 << 16:
        return None
    return found[1], int(found[2])


def status_of(head: bytes) -> int:
    """The status in the head of an answer, in lower case; 0 when there is none."""
    found = _status(head)
    return int(found[1]) if found is not None else 0


class Connection(asyncio.Protocol, Generic[A]):
    """One request at a time, with an answer that `receive` makes out. After anything unusual it is closed."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[A | None] | None = None
        self._received = b""

    @property
    def is_open(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None

    async def ask(self, request: bytes, silence_s: float) -> A | None:
        """The answer, None for an unusual one or none. Raises what `silence` gives after `silence_s`."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            return None
        self._received = b""
        self._answer = loop.create_future()
        self._transport.write(request)
        deadline = loop.call_later(silence_s, self._too_late)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            deadline.cancel()

    def receive(self, received: bytes) -> None:
        """All that has come since the request: `settle`, `close`, or wait for more."""
        raise NotImplementedError

    def silence(self, received: bytes) -> Exception | None:
        """What it means that the time is up and only this has come; None: an unusual answer."""
        raise NotImplementedError

    def settle(self, found: A | None) -> None:
        """Give the answer to who waits for it."""
        answer, self._answer, self._received = self._answer, None, b""
        if answer is not None and not answer.done():
            answer.set_result(found)

    def close(self) -> None:
        """Who waits for an answer gets None."""
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        watch(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self.settle(None)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        received = self._received = self._received + data if self._received else data
        if self._answer is None:
            self.close()
        else:
            self.receive(received)

    def _too_late(self) -> None:
        answer = self._answer
        if answer is not None and not answer.done():
            problem = self.silence(self._received)
            if problem is not None:
                answer.set_exception(problem)
        self.close()


class Idle(Generic[C]):
    """One server's connections that wait for a request; `keepalive_s`: how long one is trusted."""

    def __init__(self, keepalive_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._waiting: list[tuple[float, C]] = []

    def put(self, connection: C, now: float) -> None:
        """Its request is done at this time of the loop."""
        self._waiting.append((now, connection))

    def take(self, now: float) -> C | None:
        """The one that was used last, if it is open and not too old."""
        while self._waiting:
            since, connection = self._waiting.pop()
            if now - since > self._keepalive_s:
                # The newest is too old, so all of them are.
                connection.close()
                self.close()
            elif connection.is_open:
                return connection
        return None

    def close(self) -> None:
        """Close all of them."""
        while self._waiting:
            self._waiting.pop()[1].close()
