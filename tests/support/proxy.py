"""An HTTP proxy that disturbs the way to a real server: answers itself, changes answers, cuts the line."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

Fault = Callable[[web.Request, bytes], Awaitable[web.StreamResponse | None]]

_HOP_BY_HOP = ("transfer-encoding", "connection", "date")
_REWRITTEN_BYTES = 1 << 16
_UPLOAD_BYTES = 1 << 16
"""A request with a larger body is one that carries data."""


class Proxy:
    """An HTTP proxy in front of a server; `fault` may answer, break or pass (None) each request.

    `change` may alter the headers of an answer. With `cut_after` the line breaks, for the client and
    for the server, once so many bytes of uploads (bodies over 64 KiB) have come; it breaks under every
    later upload too, or with `stays_down` under everything, until `cut_after` is None. Keeps what was
    asked: method, path and query, in `requests`.

    Where the server tells its own address (in `Location` or in a small JSON answer, as B2 and GCS do),
    the proxy's stands there instead.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.fault: Fault | None = None
        self.change: Callable[[web.Request, CIMultiDict[str]], None] | None = None
        self.cut_after: int | None = None
        self.stays_down = False
        self.cuts = 0
        self.requests: list[tuple[str, str, str]] = []
        self.endpoint = ""
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body, is_cut = await self._body(request)
        self.requests.append((request.method, unquote(request.path), request.query_string))
        if is_cut:
            return await self._cut(request, body)
        if self.fault is not None:
            answer = await self.fault(request, body)
            if answer is not None:
                return answer
        async with self._pass_on(request, io.BytesIO(body)) as answer:
            data = self._as_if_here(await answer.read())
            kept = CIMultiDict(
                (name, value.replace(self._target, self.endpoint) if name.lower() == "location" else value)
                for name, value in answer.headers.items()
                if name.lower() not in _HOP_BY_HOP
            )
            if request.method != "HEAD":
                kept["Content-Length"] = str(len(data))
            if self.change is not None:
                self.change(request, kept)
            return web.Response(status=answer.status, headers=kept, body=data)

    def _pass_on(
        self, request: web.Request, body: io.BytesIO | AsyncIterator[bytes]
    ) -> aiohttp.client._RequestContextManager:
        assert self._session is not None
        url = URL(self._target + request.raw_path, encoded=True)
        headers = {
            name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"
        }
        return self._session.request(request.method, url, data=body, headers=headers, allow_redirects=False)

    def _as_if_here(self, data: bytes) -> bytes:
        if len(data) > _REWRITTEN_BYTES or not data.startswith(b"{"):
            return data
        return data.replace(self._target.encode(), self.endpoint.encode())

    async def _body(self, request: web.Request) -> tuple[bytes, bool]:
        """What came of the body, and whether the line broke meanwhile."""
        size = request.content_length
        is_upload = request.body_exists and (size is None or size > _UPLOAD_BYTES)
        if self.cut_after is None or not (is_upload or self.stays_down):
            return await request.read(), False
        blocks = []
        async for block in request.content.iter_any():
            left = self.cut_after or 0
            if len(block) > left:
                self.cut_after = 0
                return b"".join([*blocks, block[:left]]), True
            blocks.append(block)
            self.cut_after = left - len(block)
        return b"".join(blocks), self.cut_after == 0

    async def _cut(self, request: web.Request, part: bytes) -> web.StreamResponse:
        self.cuts += 1

        async def until_cut() -> AsyncIterator[bytes]:
            yield part
            raise ConnectionResetError

        if part:
            try:
                async with self._pass_on(request, until_cut()):
                    pass
            except (aiohttp.ClientError, ConnectionError):
                pass
        await self.drop(request)
        return web.Response()

    @staticmethod
    async def drop(request: web.Request) -> None:
        """End the client's connection without an answer."""
        if request.transport is not None:
            request.transport.abort()

    async def listen(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Begin to take connections; `endpoint` says where."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, auto_decompress=False, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.endpoint = f"https://localhost:{self.port}" if tls else f"http://127.0.0.1:{self.port}"

    async def hang_up(self) -> None:
        """End all connections and take no more: nobody listens there now."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
        """Listen on a free port until the end of the block."""
        self._session = aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=("Content-Type",))
        await self.listen(tls=tls)
        try:
            yield self
        finally:
            await self.hang_up()
            await self._session.close()


def answers(status: int, text: str = "", content_type: str = "text/plain", **headers: str) -> Fault:
    """A fault: always this answer."""

    async def answer(_request: web.Request, _body: bytes) -> web.Response:
        return web.Response(status=status, text=text, content_type=content_type, headers=headers)

    return answer


def html(status: int) -> web.Response:
    """What a web console or a load balancer says."""
    return web.Response(
        status=status, text="<!DOCTYPE html><html><body>hello</body>", content_type="text/html"
    )


def speaks_html(status: int = 200) -> Fault:
    """A fault: something else is at this address."""

    async def answer(_request: web.Request, _body: bytes) -> web.Response:
        return html(status)

    return answer


async def hangs_up(request: web.Request, _body: bytes) -> web.Response:
    """A fault: every connection breaks once the request is there."""
    await Proxy.drop(request)
    await asyncio.sleep(0)
    return web.Response()
