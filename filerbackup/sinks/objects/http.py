"""What requests to any service have in common: limits, sessions, and deadlines that move on.

Who signs a request and what an answer means differs: each sink sends its own.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp

from filerbackup import __version__
from filerbackup.filer.sockets import new_socket
from filerbackup.sinks.objects.errors import Unanswered

CONNECT_S = 10.0
CALL_S = 60.0
"""Deadline of a call that carries no content."""
STALL_S = 40.0
"""A call in which not a byte moves for so long is given up."""
SLOWEST_BYTES_PER_S = 16 << 10
"""What cannot be watched, as it is still in the buffers of this machine, gets the time for this rate too."""
MOST_ERROR_BYTES = 64 << 10
SLICE_BYTES = 256 << 10
USER_AGENT = f"filerbackup/{__version__}"
_MOST_BUFFERED_BYTES = 320 << 10
"""The transport's 64 KiB, `UNSENT_BYTES`, and what a slow line has under way: 20 s at that rate."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Stall:
    """A deadline that moves on with every sign of progress, whichever task sees it."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout: asyncio.Timeout | None = timeout

    def progress(self, more_s: float = 0.0) -> None:
        """Something moved; the next sign may take `more_s` longer than others."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + STALL_S + more_s)

    def sent(self, size: int, more_s: float = 0.0) -> None:
        """A body of `size` bytes is out; the last of it may still be in the buffers of this machine."""
        self.progress(more_s + min(size, _MOST_BUFFERED_BYTES) / SLOWEST_BYTES_PER_S)

    def body(self, data: bytes) -> bytes | AsyncIterator[bytes | memoryview]:
        """A body as aiohttp is to have it, in which every slice is a sign of progress."""
        if len(data) > SLICE_BYTES:
            return self.watch(in_slices((data,)), len(data))
        self.sent(len(data))
        return data

    async def watch(
        self, blocks: AsyncIterator[bytes | memoryview], size: int
    ) -> AsyncIterator[bytes | memoryview]:
        """The blocks of a body of `size` bytes, each of them a sign of progress."""
        async for block in blocks:
            self.progress()
            yield block
        self.sent(size)

    def end(self) -> None:
        """The call is over: what comes late changes nothing."""
        self._timeout = None


@asynccontextmanager
async def stalling() -> AsyncIterator[Stall]:
    """A block in which something has to move every `STALL_S`. Raises Unanswered."""
    try:
        async with asyncio.timeout(STALL_S) as timeout:
            stall = Stall(timeout)
            try:
                yield stall
            finally:
                stall.end()
    except TimeoutError:
        raise Unanswered(f"nothing moved for {STALL_S:.0f} s") from None


def new_session(
    connections: int, tls: ssl.SSLContext | bool, *, unsent: tuple[str, ...] = ("Content-Type",)
) -> aiohttp.ClientSession:
    """A session that adds nothing of its own; `unsent`: headers that are not made up."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=connections, ssl=tls, socket_factory=new_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        skip_auto_headers=unsent,
    )


async def tls_of(endpoint: str, authorities: bytes = b"") -> ssl.SSLContext | bool:
    """What a session needs to trust an endpoint; `authorities` in PEM, else those of the system.

    In a thread, for reading them takes a tenth of a second. Raises OSError, and
    ValueError for `authorities` that are no text.
    """
    if not endpoint.startswith("https:"):
        return True
    return await asyncio.to_thread(ssl.create_default_context, cadata=authorities.decode() or None)


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this URL. Raises ValueError for what is none."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None:
        return None
    host = f"{parts.hostname or ''}:{parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)}"
    return None if urllib.request.proxy_bypass(host) else proxy


def bytes_range(offset: int, length: int | None) -> str:
    """The value of a Range header for `length` bytes (None: all that follow) from `offset`."""
    return f"bytes={offset}-{'' if length is None else offset + length - 1}"


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole body. Raises Unanswered when it is longer than `most`."""
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > most:
            raise Unanswered(f"the answer is longer than {most >> 10} KiB")
    return bytes(body)


def sliced(data: bytes) -> bytes | AsyncIterator[memoryview]:
    """A body as aiohttp is to have it: more at once than a slice would hold up the event loop."""
    return data if len(data) <= SLICE_BYTES else in_slices((data,))


async def in_slices(pieces: Iterable[bytes | memoryview]) -> AsyncIterator[memoryview]:
    """The pieces one after the other, without copying."""
    for piece in pieces:
        view = memoryview(piece)
        for offset in range(0, len(view), SLICE_BYTES):
            yield view[offset : offset + SLICE_BYTES]
