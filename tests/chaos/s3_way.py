"""The way to the S3 sink: a proxy that can throttle, hang, be slow, break, and that knows who writes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import web

from tests.support.line import SLOW_S, Ports, State, ports_of
from tests.support.proxy import Proxy
from tests.support.s3 import s3_error

_BEAT_S = 0.02
_MOST_LAG_S = 1.0


@dataclass(frozen=True, slots=True)
class Write:
    """A request that changes something, in Unix seconds.

    It came up to `lag_s` before `at`: the proxy's loop was that late. `connected_at`: when the first
    request on its connection may have come.
    """

    at: float
    writer: str
    what: str
    connected_at: float
    lag_s: float


class Heartbeat:
    """How late the loop is in which `beating` runs."""

    def __init__(self) -> None:
        self._beats: deque[tuple[float, float]] = deque([(time.monotonic(), 0.0)])

    async def beating(self) -> None:
        """For ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            now = time.monotonic()
            self._beats.append((now, now - before - _BEAT_S))
            while now - self._beats[0][0] > 1:
                self._beats.popleft()

    def lag_s(self) -> float:
        """The most within the last second, also of the beat that is due."""
        due_s = time.monotonic() - self._beats[-1][0] - _BEAT_S
        return min(_MOST_LAG_S, max(0.0, due_s, *(late_s for _, late_s in self._beats)))


class S3Way(Proxy):
    """Keeps requests that change something, in `writes`; `owner` tells whose connection it is."""

    def __init__(self, target: str, owner: Callable[[Ports], str | None]) -> None:
        super().__init__(target)
        self.fault = self._disturb
        self.state = State.WHOLE
        self.throttles = False
        self.throttled = 0
        self.writes: list[Write] = []
        self._owner = owner
        self._owners: WeakKeyDictionary[asyncio.Transport, str] = WeakKeyDictionary()
        self._connected_at: WeakKeyDictionary[asyncio.Transport, float] = WeakKeyDictionary()
        self._heartbeat = Heartbeat()
        self._healed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
        beating = asyncio.create_task(self._heartbeat.beating())
        try:
            async with super().running(tls):
                yield self
        finally:
            beating.cancel()

    def become(self, state: State) -> None:
        """From now on; what hangs is dropped when the line is whole again."""
        self.state = state
        if state is State.WHOLE:
            self._healed.set()
            self._healed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        request["came"], request["lag_s"] = time.time(), self._heartbeat.lag_s()
        if request.transport is not None:
            self._connected_at.setdefault(request.transport, request["came"] - request["lag_s"])
        try:
            return await super().handle(request)
        except (aiohttp.ClientError, OSError):
            await self.drop(request)
            return web.Response()
        finally:
            # Kept by the class above for tests that look at single requests.
            self.requests.clear()

    def _note(self, request: web.Request, body: bytes) -> None:
        if request.method in ("GET", "HEAD") or "/.filerbackup/" in request.path:
            return
        # What a dead process left unfinished is aborted while the sink is opened, under the lease; what
        # the opening itself has tried out is deleted.
        if request.method == "DELETE" and "uploadId" in request.query:
            return
        if "delete" in request.query and body.count(b"<Key>") == body.count(b"<Key>.filerbackup/"):
            return
        owner = self._owner_of(request)
        if owner is not None:
            came = request["came"]
            first = came if request.transport is None else self._connected_at.get(request.transport, came)
            what = f"{request.method} {request.path_qs}"[:200]
            self.writes.append(Write(came, owner, what, first, request["lag_s"]))

    def _owner_of(self, request: web.Request) -> str | None:
        """Looked for once a connection: it takes long enough to hold up all the others.

        Only what was found is kept: a connection may be taken before its owner can be told.
        """
        transport = request.transport
        if transport is None:
            return None
        if transport not in self._owners:
            ports = ports_of(transport)
            owner = self._owner(ports) if ports else None
            if owner is None:
                return None
            self._owners[transport] = owner
        return self._owners[transport]

    async def _disturb(self, request: web.Request, body: bytes) -> web.StreamResponse | None:
        self._note(request, body)
        if self.throttles:
            self.throttled += 1
            return s3_error(503, "SlowDown", "Please reduce your request rate.")
        match self.state:
            case State.CUT:
                await self.drop(request)
                return web.Response()
            case State.SLOW:
                await asyncio.sleep(SLOW_S)
            case State.HALF_OPEN:
                await self._healed.wait()
                await self.drop(request)
                return web.Response()
        return None
