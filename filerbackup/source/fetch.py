"""HTTP reads of chunks from one server: a volume server, or a filer that passes them on.

What can go wrong at one server is a `Miss` with a verdict; `filerbackup.source.volumes` tries the
other replicas and decides what all verdicts together mean.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import aiohttp
from yarl import URL

from filerbackup.filer.access import filer_token, read_token
from filerbackup.filer.https import WANTS_TLS, WANTS_TLS_HINT, Https
from filerbackup.filer.sockets import new_socket
from filerbackup.filer.warm import MOST_BYTES
from filerbackup.settings.model import SecuritySettings
from filerbackup.source.quick import QuickReads

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 25.0
"""A server that sends no byte for this long has stalled."""
READ_TIMEOUT_S = 300.0
"""Of one request as a whole; the largest usual one is 4 MiB."""

_KEEPALIVE_S = 20.0
"""Below the 30 s after which a volume server closes an idle connection."""
_BUFFER_BYTES = 256 << 10
_LARGEST_NEEDLE_BYTES = 1 << 32
"""A volume server keeps the length of a needle in 32 bits."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_FILE_ID = re.compile(r"(\d{1,10}),[0-9a-fA-F]{8,24}(?:_\d{1,9})?", re.ASCII)


class Verdict(enum.Enum):
    """What one server's answer says about a chunk."""

    GONE = "gone"
    REFUSED = "refused"
    DOWN = "down"
    BUSY = "busy"
    BROKEN = "broken"
    """It failed over this chunk: an internal error, or the body was cut off."""
    BAD = "bad"
    """It answered with bytes that cannot be the chunk."""


class Miss(Exception):
    """One server did not give the chunk. `hint`: what a person can do about it."""

    def __init__(self, verdict: Verdict, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.verdict = verdict
        self.hint = hint


class Longer(Exception):
    """More is stored than the chunk's size: the chunk was truncated, or this is something else."""


class Body(NamedTuple):
    """A response body; `labelled_gzip` says what its Content-Encoding claims."""

    data: bytes
    labelled_gzip: bool


class Part(NamedTuple):
    """A range of a chunk, and how long the whole is on the server."""

    data: bytes
    total: int


def volume_of(file_id: str) -> str | None:
    """The volume of a file id, or None when it is no file id (it goes into a URL)."""
    found = _FILE_ID.fullmatch(file_id)
    return found.group(1) if found else None


class ChunkHttp:
    """The HTTP connections to all servers, with deadlines on every read.

    Host names are used as given, redirects are not followed, and proxies of the environment do not
    count: these servers are ours.
    """

    def __init__(self, security: SecuritySettings, *, via_filer: bool, connections_per_host: int) -> None:
        self._https = Https(security.https)
        # A filer makes the volume server's token itself, and may want one of its own.
        self._key = security.filer_read_key if via_filer else security.volume_read_key
        self._via_filer = via_filer
        self._per_host = connections_per_host
        self._session: aiohttp.ClientSession | None = None
        self._quick: QuickReads | None = None
        if not via_filer and not security.https:
            self._quick = QuickReads(
                connections_per_host,
                connect_s=CONNECT_TIMEOUT_S,
                silence_s=SILENCE_TIMEOUT_S,
                keepalive_s=_KEEPALIVE_S,
            )

    async def exact(self, server: str, file_id: str, size: int) -> bytes:
        """All of a chunk that is stored in `size` bytes. Raises Miss, Longer."""
        if self._quick is not None and size <= MOST_BYTES:
            data = await self._read_quickly(self._quick, server, file_id, size)
            if data is not None:
                return data

        async def accept(response: aiohttp.ClientResponse) -> bytes:
            if response.status != 200:
                raise Miss(Verdict.BAD, f"{server} answers {response.status} to a plain read")
            data = await _read(response, size)
            if len(data) != size:
                raise Miss(Verdict.BAD, f"{server} sent {len(data)} bytes of {size}")
            return data

        return await self._get(server, file_id, accept, ("Accept-Encoding", "identity"))

    async def range(
        self, server: str, file_id: str, offset: int, size: int, *, at_most: bool = False
    ) -> Part:
        """Clear bytes `offset` to `offset + size` of a chunk that is not encrypted. Raises Miss.

        A server inflates a compressed chunk for it. `at_most`: fewer are fine where the chunk ends.
        """

        async def accept(response: aiohttp.ClientResponse) -> Part:
            said = response.headers.get("Content-Range", "")
            found = _CONTENT_RANGE.fullmatch(said)
            if not found:
                raise Miss(Verdict.BAD, f"{server} answers {response.status} {said!r} to a range")
            first, last, total = map(int, found.groups())
            length = min(size, total - offset) if at_most else size
            is_asked_for = (first, last) == (offset, offset + length - 1)
            if not is_asked_for or not last < total <= _LARGEST_NEEDLE_BYTES:
                raise Miss(Verdict.BAD, f"{server} has {said!r}, asked for {size} bytes at {offset}")
            try:
                data = await _read(response, length)
            except Longer:
                raise Miss(Verdict.BAD, f"{server} sent more than {length} bytes") from None
            if len(data) != length:
                raise Miss(Verdict.BAD, f"{server} sent {len(data)} bytes of {length}")
            return Part(data, total)

        header = ("Range", f"bytes={offset}-{offset + size - 1}")
        return await self._get(server, file_id, accept, ("Accept-Encoding", "identity"), header)

    async def stored(self, server: str, file_id: str, limit: int, *, encoding: str) -> Body:
        """All that is stored, as it is, up to `limit` bytes. Raises Miss, Longer."""

        async def accept(response: aiohttp.ClientResponse) -> Body:
            if response.status != 200:
                raise Miss(Verdict.BAD, f"{server} answers {response.status} to a plain read")
            labelled = response.headers.get("Content-Encoding", "").lower() == "gzip"
            return Body(await _read(response, limit), labelled)

        return await self._get(server, file_id, accept, ("Accept-Encoding", encoding))

    async def close(self) -> None:
        """Close all connections."""
        if self._quick is not None:
            await self._quick.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read_quickly(self, quick: QuickReads, server: str, file_id: str, size: int) -> bytes | None:
        """None: ask with the full client. Raises Miss."""
        try:
            answer = await quick.read(server, file_id, size, self._authorization(file_id))
        except TimeoutError:
            raise Miss(Verdict.DOWN, f"{server} does not answer in time") from None
        except OSError as error:
            raise Miss(Verdict.DOWN, f"{server}: {_line(error)}") from None
        if isinstance(answer, int):
            verdict = _verdict(answer)
            hint = self._token_hint() if verdict is Verdict.REFUSED else ""
            raise Miss(verdict, f"{server} answers {answer}", hint=hint)
        return answer

    def _authorization(self, file_id: str) -> str:
        if not self._key:
            return ""
        now = time.time()
        token = filer_token(self._key, now) if self._via_filer else read_token(self._key, file_id, now)
        return f"Bearer {token}"

    def _token_hint(self) -> str:
        """What to do about an answer of 401 or 403."""
        key = "jwt.filer_signing.read.key" if self._via_filer else "jwt.signing.read.key"
        if not self._key:
            return f"set {key} in security.toml as the cluster has it"
        return f"{key} in security.toml must be that of the cluster (and the clocks within 10 minutes)"

    async def _get(
        self,
        server: str,
        file_id: str,
        accept: Callable[[aiohttp.ClientResponse], Awaitable[T]],
        *header_items: tuple[str, str],
    ) -> T:
        headers = dict(header_items)
        if authorization := self._authorization(file_id):
            headers["Authorization"] = authorization
        answered = False
        try:
            async with self._open().get(
                self._url(server, file_id), headers=headers, allow_redirects=False
            ) as response:
                answered = True
                if response.status in (200, 206):
                    return await accept(response)
                raise await self._unwanted(server, response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise await self._failure(server, error, answered=answered) from None

    async def _unwanted(self, server: str, response: aiohttp.ClientResponse) -> Miss:
        """What another status than 200 or 206 means."""
        if response.status == 400 and WANTS_TLS.encode() in await response.content.read(200):
            return Miss(Verdict.REFUSED, f"{server} speaks TLS only", hint=WANTS_TLS_HINT)
        verdict = self._verdict(response)
        hint = self._token_hint() if verdict is Verdict.REFUSED else ""
        return Miss(verdict, f"{server} answers {response.status}", hint=hint)

    async def _failure(self, server: str, error: Exception, *, answered: bool) -> Miss:
        """What it means that there was no whole answer."""
        refusal = await self._https.refusal(server, error, answered=answered)
        if refusal is not None:
            return Miss(Verdict.REFUSED, refusal.text, hint=refusal.hint)
        match error:
            case TimeoutError():
                return Miss(Verdict.DOWN, f"{server} does not answer in time")
            case aiohttp.ClientResponseError() | ValueError():
                return Miss(Verdict.BAD, f"{server} does not speak HTTP: {_line(error)}")
        return Miss(Verdict.BROKEN if answered else Verdict.DOWN, f"{server}: {_line(error)}")

    def _verdict(self, response: aiohttp.ClientResponse) -> Verdict:
        verdict = _verdict(response.status)
        if self._via_filer and verdict is Verdict.BROKEN:
            # Passed on from a volume server, or the filer's own word for one that it cannot reach?
            passed_on = response.headers.get("Server", "").startswith("SeaweedFS Volume")
            return verdict if passed_on else Verdict.DOWN
        return verdict

    def _url(self, server: str, file_id: str) -> URL:
        path, query = f"/{file_id}", "readDeleted=true"
        if self._via_filer:
            path, query = "/", f"proxyChunkId={file_id}&readDeleted=true"
        return URL.build(
            scheme=self._https.scheme, authority=server, path=path, query_string=query, encoded=True
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=self._per_host,
                keepalive_timeout=_KEEPALIVE_S,
                socket_factory=new_socket,
                ssl=self._https.ssl,
            )
            # The pool's queue is not a server's fault: only sock_connect counts for connecting.
            timeout = aiohttp.ClientTimeout(
                total=READ_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "filerbackup"},
                skip_auto_headers=("Accept",),
                read_bufsize=_BUFFER_BYTES,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, never more than `limit` bytes of it. Raises Longer."""
    length = response.content_length
    if length is not None:
        if length > limit:
            raise Longer
        return await response.read()
    found = bytearray()
    async for block in response.content.iter_any():
        found += block
        if len(found) > limit:
            raise Longer
    return bytes(found)


def _verdict(status: int) -> Verdict:
    match status:
        case 404:
            return Verdict.GONE
        case 401 | 403:
            return Verdict.REFUSED
        case 429 | 503:
            return Verdict.BUSY
        case 500:
            return Verdict.BROKEN
        case 408 | 499 | 502 | 504:
            return Verdict.DOWN
    # A server redirects what moved to another one: a lookup will tell before long.
    return Verdict.DOWN if 300 <= status < 400 else Verdict.BAD


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
