"""A volume server that lies: passes reads on to a real one and spoils the answers."""

from __future__ import annotations

import asyncio
import enum
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiohttp import web

_BOMB = gzip.compress(bytes(16 << 20))


class Fault(enum.Enum):
    """What is wrong with the answers."""

    NONE = "none"
    HTTP_301 = "301"
    HTTP_400 = "400"
    HTTP_401 = "401"
    HTTP_403 = "403"
    HTTP_404 = "404"
    HTTP_429 = "429"
    HTTP_500 = "500"
    HTTP_503 = "503"
    EMPTY = "200 with no body"
    SHORT = "fewer bytes, and says so"
    LONG = "more bytes, and says so"
    ENDLESS = "bytes without end, no length"
    CUT = "promises all and hangs up in the middle"
    STALL = "half of it, then silence"
    SILENT = "takes the request and never answers"
    HTML = "an error page with status 200"
    LABELLED_GZIP = "plain bytes that are said to be gzip"
    BOMB = "gzip of far too many zeros"
    BROKEN_GZIP = "gzip that ends in the middle"
    OTHER_RANGE = "right number of bytes, from elsewhere"
    WHOLE_FOR_RANGE = "everything where a range was asked for"
    GARBAGE = "right number of bytes, wrong ones"
    NOT_HTTP = "another protocol"


class FaultyVolume:
    """Stands before a real volume server (or filer).

    `fault` may change between requests; with `times` it is over after so many.
    """

    def __init__(self, upstream: str, fault: Fault = Fault.NONE, times: int | None = None) -> None:
        self.upstream = upstream
        self.fault = fault
        self.times = times
        self.address = ""
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultyVolume]:
        """Serve on a free port of this machine."""
        app = web.Application()
        app.router.add_route("GET", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        self.headers.append(dict(request.headers))
        if self.times is not None and len(self.requests) > self.times:
            self.fault = Fault.NONE
        fault = self.fault
        if fault.value.isdigit():
            headers = {"Location": "http://127.0.0.1:9/elsewhere"}
            return web.Response(status=int(fault.value), headers=headers, text="no")
        if fault is Fault.SILENT:
            await asyncio.sleep(3600)
        if fault is Fault.NOT_HTTP:
            assert request.transport is not None
            request.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            request.transport.close()
            return web.Response()
        status, headers, body = await self._honest(request)
        return await self._spoiled(request, fault, status, headers, body)

    async def _honest(self, request: web.Request) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None
        passed = {
            name: value
            for name, value in request.headers.items()
            if name in ("Range", "Accept-Encoding", "Authorization")
        }
        if self.fault in (Fault.WHOLE_FOR_RANGE, Fault.BROKEN_GZIP):
            passed.pop("Range", None)
        async with self._session.get(f"http://{self.upstream}{request.path_qs}", headers=passed) as response:
            kept = ("Content-Encoding", "Content-Range", "Content-Type")
            headers = {name: response.headers[name] for name in kept if name in response.headers}
            return response.status, headers, await response.read()

    async def _spoiled(
        self, request: web.Request, fault: Fault, status: int, headers: dict[str, str], body: bytes
    ) -> web.StreamResponse:
        match fault:
            case Fault.EMPTY:
                body = b""
            case Fault.SHORT:
                body = body[:-1]
            case Fault.LONG:
                body = body + b"!"
            case Fault.HTML:
                status, headers, body = 200, {"Content-Type": "text/html"}, b"<html>Service moved</html>"
            case Fault.LABELLED_GZIP:
                headers["Content-Encoding"] = "gzip"
            case Fault.BOMB:
                status, headers, body = 200, {"Content-Encoding": "gzip"}, _BOMB
            case Fault.BROKEN_GZIP:
                headers["Content-Encoding"], body = "gzip", gzip.compress(body)[:-9]
            case Fault.OTHER_RANGE if "Content-Range" in headers:
                headers["Content-Range"] = headers["Content-Range"].replace("bytes ", "bytes 1")
            case Fault.OTHER_RANGE:
                status, headers["Content-Range"] = 206, f"bytes 7-{6 + len(body)}/{len(body) + 7}"
            case Fault.GARBAGE:
                body = bytes(byte ^ 1 for byte in body)
            case Fault.CUT | Fault.STALL | Fault.ENDLESS:
                return await self._interrupted(request, fault, status, headers, body)
        return web.Response(status=status, headers=headers, body=body)

    async def _interrupted(
        self, request: web.Request, fault: Fault, status: int, headers: dict[str, str], body: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        if fault is not Fault.ENDLESS:
            response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if fault is Fault.STALL:
            await asyncio.sleep(3600)
        with suppress(ConnectionError):
            while fault is Fault.ENDLESS:
                await response.write(bytes(1 << 16))
        assert request.transport is not None
        request.transport.abort()
        return response
