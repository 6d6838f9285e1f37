"""Requests of our own to one container: signed here, carried by aiohttp.

Against azure-storage-blob's own calls that is a quarter of the CPU for a small blob, a body is sent
piece by piece without being copied, and every request carries the MD5 by which the service checks it
(obstore has no words for that).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from filerbackup.sinks.azure.answers import parse_error
from filerbackup.sinks.azure.errors import Answered, from_aiohttp, not_azure
from filerbackup.sinks.azure.signing import API_VERSION, Signer
from filerbackup.sinks.objects.http import CONNECT_S, MOST_ERROR_BYTES, STALL_S, Stall, read_body, sliced

_NO_QUERY: Mapping[str, str] = {}
_NO_HEADERS: Mapping[str, str] = {}


class ContainerHttp:
    """Signed requests on one container. `url`: of the container, without a slash behind."""

    def __init__(self, session: aiohttp.ClientSession, signer: Signer, url: str, proxy: str | None) -> None:
        self._session, self._signer, self._proxy = session, signer, proxy
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path

    def path(self, name: str) -> str:
        """The path of a blob in its URL, encoded."""
        return f"{self._path}/{quote(name, safe='/~')}"

    def url(self, name: str) -> str:
        """The whole URL of a blob."""
        return self._origin + self.path(name)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        name: str = "",
        *,
        query: Mapping[str, str] = _NO_QUERY,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
        blocks: AsyncIterator[bytes | memoryview] | None = None,
        size: int = 0,
        good: tuple[int, ...] = (200,),
        watched: Stall | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request on a blob, or on the container; the answer has a status that is `good`.

        Header names are in lower case. The body is `body`, or `size` bytes in `blocks`, or nothing.
        The caller sets the deadline, with `asyncio.timeout` or `stalling` around it; only what is
        read without a body that is watched may also not pause for `STALL_S`. A request without
        `blocks` is sent once more with a new token where the service calls the old one too old.
        Raises Answered, Unanswered.
        """
        sent = dict(headers)
        sent["x-ms-version"] = API_VERSION
        if method not in ("GET", "HEAD"):
            sent["content-length"] = str(size if blocks is not None else len(body or b""))
        path = self.path(name) if name else self._path
        target = f"{self._origin}{path}"
        if query:
            target += "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        url = URL(target, encoded=True)
        is_watched = blocks is not None or watched is not None
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=None if is_watched else STALL_S)
        may_renew = blocks is None
        while True:
            await self._signer.sign(method, path, query, sent)
            try:
                async with self._session.request(
                    method,
                    url,
                    headers=sent,
                    data=blocks if body is None else watched.body(body) if watched else sliced(body),
                    proxy=self._proxy,
                    allow_redirects=False,
                    timeout=limits,
                ) as response:
                    if response.status in good:
                        _check(response)
                        yield response
                        return
                    refusal = await _refusal(response)
            except (aiohttp.ClientError, OSError) as error:
                # TimeoutError is an OSError; the URL stays out of the chain.
                raise from_aiohttp(error) from None
            if not (refusal.token_expired and may_renew and self._signer.renew()):
                raise refusal
            may_renew = False

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _check(response: aiohttp.ClientResponse) -> None:
    """Every answer of the service has these; a console or a load balancer has neither."""
    if "x-ms-request-id" not in response.headers and "x-ms-version" not in response.headers:
        raise not_azure(response.status, response.headers.get("Content-Type", ""))


async def _refusal(response: aiohttp.ClientResponse) -> Answered:
    """Raises Unanswered for a good status that is not the one this call has."""
    if response.status < 300:
        raise not_azure(response.status, response.headers.get("Content-Type", ""))
    code, message, detail = parse_error(await read_body(response, MOST_ERROR_BYTES))
    code = response.headers.get("x-ms-error-code", "") or code
    return Answered(response.status, code, message, detail=detail, skew_s=_skew(response.headers))


def _skew(headers: Mapping[str, str]) -> float:
    """Seconds by which this machine's clock is ahead of the service's, 0 where it does not say."""
    try:
        return time.time() - parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
