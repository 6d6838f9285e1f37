"""The way to the S3 sink: a proxy that can throttle, hang, be slow, break, and that knows who writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import web

from tests.support.line import SLOW_S, Ports, State, ports_of
from tests.support.proxy import Proxy
from tests.support.s3 import s3_error


class S3Way(Proxy):
    """Keeps (Unix time, writer) of requests that change something; `owner` tells whose connection it is."""

    def __init__(self, target: str, owner: Callable[[Ports], str | None]) -> None:
        super().__init__(target)
        self.fault = self._disturb
        self.state = State.WHOLE
        self.throttles = False
        self.throttled = 0
        self.writes: list[tuple[float, str, str]] = []
        self._owner = owner
        self._owners: WeakKeyDictionary[asyncio.Transport, str | None] = WeakKeyDictionary()
        self._healed = asyncio.Event()

    def become(self, state: State) -> None:
        """From now on; what hangs is dropped when the line is whole again."""
        self.state = state
        if state is State.WHOLE:
            self._healed.set()
            self._healed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        request["came"] = time.time()
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
            self.writes.append((request["came"], owner, f"{request.method} {request.path_qs}"[:200]))

    def _owner_of(self, request: web.Request) -> str | None:
        """Looked for once a connection: it takes long enough to hold up all the others."""
        transport = request.transport
        if transport is None:
            return None
        if transport not in self._owners:
            ports = ports_of(transport)
            self._owners[transport] = self._owner(ports) if ports else None
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
