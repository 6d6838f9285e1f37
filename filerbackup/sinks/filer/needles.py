"""Needles on the target's volume servers: put, checked by what the server says it got, and read."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator, Sequence

import aiohttp
from yarl import URL

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable
from filerbackup.filer.access import read_token
from filerbackup.filer.https import Https
from filerbackup.filer.sockets import new_socket
from filerbackup.filer.warm import MOST_BYTES
from filerbackup.settings.model import SecuritySettings
from filerbackup.sinks.filer.problems import upload_problem
from filerbackup.sinks.filer.quick import Answer, QuickPuts, Silent

CONNECT_S = 10.0
SILENCE_S = 60.0
"""A volume server that takes or sends no byte for this long has stalled."""
PUT_S = 300.0
_KEEPALIVE_S = 20.0
"""Below the 30 s after which a volume server closes an idle connection."""
_SLICE = 256 << 10
_MOST_ANSWER_BYTES = 64 << 10
_UNCHANGED = 204
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


class NotStored(SinkUnavailable):
    """Surely nothing was stored."""


class Needles:
    """HTTP connections to all volume servers of the target."""

    def __init__(self, security: SecuritySettings) -> None:
        self._https = Https(security.https)
        self._read_key = security.volume_read_key
        self._session: aiohttp.ClientSession | None = None
        self._quick = (
            None
            if security.https
            else QuickPuts(connect_s=CONNECT_S, silence_s=SILENCE_S, keepalive_s=_KEEPALIVE_S)
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._quick is not None:
            await self._quick.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def put(
        self, server: str, file_id: str, blocks: Sequence[bytes | memoryview], md5: bytes, auth: str
    ) -> None:
        """Store the blocks as one needle whose MD5 is `md5`.

        Returns only when the server has confirmed length and MD5. Raises NotStored when nothing was
        stored; after any other SinkUnavailable something may be.
        """
        size = sum(map(len, blocks))
        digest = base64.b64encode(md5).decode()
        if self._quick is not None and size <= MOST_BYTES:
            answer = await self._put_quickly(self._quick, server, file_id, blocks, digest, auth)
            if answer is not None:
                _check(server, answer, size, digest)
                return
        answer = await self._put(server, file_id, blocks, size, digest, auth)
        _check(server, answer, size, digest)

    async def get(self, server: str, file_id: str, offset: int, size: int, *, whole: bool) -> bytes:
        """Bytes of a needle; `whole`: everything there is, up to `size` bytes. Raises SinkUnavailable."""
        headers = {"Accept-Encoding": "identity"}
        if not whole:
            headers["Range"] = f"bytes={offset}-{offset + size - 1}"
        if self._read_key:
            headers["Authorization"] = f"Bearer {read_token(self._read_key, file_id, time.time())}"
        url = self._url(server, file_id)
        try:
            async with self._open().get(url, headers=headers, allow_redirects=False) as response:
                if response.status not in (200, 206):
                    raise _read_problem(server, file_id, response.status)
                # Without a range the whole comes, with a range just that (or everything, from 0).
                said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if not whole and (said is None or int(said[1]) != offset):
                    raise SinkUnavailable(f"{server} sends another range of {file_id} than was asked for")
                return await _read(response, server, size)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise await self._problem(server, error) from None

    # -- inside -----------------------------------------------------------------------------------

    async def _put_quickly(
        self,
        quick: QuickPuts,
        server: str,
        file_id: str,
        blocks: Sequence[bytes | memoryview],
        digest: str,
        auth: str,
    ) -> Answer | None:
        secret = f"Authorization: Bearer {auth}\r\n" if auth else ""
        head = f"Content-MD5: {digest}\r\n{secret}"
        try:
            return await quick.put(server, f"/{file_id}", b"".join(blocks), head)
        except Silent:
            raise SinkUnavailable(f"the target's volume server {server} does not answer in time") from None
        except OSError as error:
            raise NotStored(f"the target's volume server {server}: {_line(error)}") from None

    async def _put(
        self,
        server: str,
        file_id: str,
        blocks: Sequence[bytes | memoryview],
        size: int,
        digest: str,
        auth: str,
    ) -> Answer:
        headers = {"Content-MD5": digest, "Content-Length": str(size)}
        if auth:
            headers["Authorization"] = f"Bearer {auth}"
        try:
            async with self._open().put(
                self._url(server, file_id),
                data=_slices(blocks),
                headers=headers,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
            ) as response:
                body = await _read(response, server, _MOST_ANSWER_BYTES)
                said = response.headers.get("Content-MD5", "").encode("ascii", "replace")
                return Answer(response.status, said, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise await self._problem(server, error) from None

    async def _problem(self, server: str, error: Exception) -> SinkError:
        """What it means that there was no answer."""
        if (refusal := await self._https.refusal(server, error)) is not None:
            return SinkRefused(f"the target's volume server {refusal.text}", hint=refusal.hint)
        match error:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return NotStored(f"the target's volume server {server}: {_line(error)}")
            case TimeoutError():
                return SinkUnavailable(f"the target's volume server {server} does not answer in time")
        return SinkUnavailable(f"the target's volume server {server}: {_line(error)}")

    def _url(self, server: str, file_id: str) -> URL:
        return URL.build(scheme=self._https.scheme, authority=server, path=f"/{file_id}", encoded=True)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=_KEEPALIVE_S,
                socket_factory=new_socket,
                ssl=self._https.ssl,
            )
            timeout = aiohttp.ClientTimeout(total=PUT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "filerbackup"},
                skip_auto_headers=("Accept",),
            )
        return self._session


def _check(server: str, answer: Answer, size: int, digest: str) -> None:
    """Raise unless the server has stored just what was sent."""
    if answer.status == _UNCHANGED and answer.md5 == digest.encode():
        return
    if answer.status not in (200, 201):
        problem = _put_problem(server, answer)
        if answer.status in (400, 401, 403) and type(problem) is SinkUnavailable:
            raise NotStored(str(problem), hint=problem.hint)
        raise problem
    try:
        stored = json.loads(answer.body)["size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SinkUnavailable(
            f"the volume server {server} gives an answer that is not a volume server's"
        ) from None
    if answer.md5 != digest.encode() or stored != size:
        raise SinkUnavailable(
            f"the volume server {server} has stored {stored!r} bytes with another MD5 than the {size} sent"
        )


def _put_problem(server: str, answer: Answer) -> SinkError:
    try:
        text = str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = answer.body[:200].decode("utf-8", "replace")
    return upload_problem(server, answer.status, text)


def _read_problem(server: str, file_id: str, status: int) -> SinkError:
    what = f"the target's volume server {server} answers {status} for chunk {file_id}"
    if status in (401, 403):
        return SinkRefused(what, hint="set jwt.signing.read.key in security.toml as the target has it")
    return SinkUnavailable(what)


async def _read(response: aiohttp.ClientResponse, server: str, limit: int) -> bytes:
    found = bytearray()
    async for block in response.content.iter_any():
        found += block
        if len(found) > limit:
            raise SinkUnavailable(f"{server} sends more than {limit} bytes, which nobody has asked for")
    return bytes(found)


async def _slices(blocks: Sequence[bytes | memoryview]) -> AsyncIterator[memoryview]:
    for block in blocks:
        view = memoryview(block)
        for offset in range(0, len(view), _SLICE):
            yield view[offset : offset + _SLICE]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
