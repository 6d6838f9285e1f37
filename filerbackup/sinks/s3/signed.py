"""Requests of our own with signed URLs: listings, reading, and the parts of large uploads.

botocore signs, aiohttp carries. Against the SDK's own call that is a third of the CPU for a small
request, a tenth for a page of a listing, and a body is sent piece by piece without being copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from yarl import URL

from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import CONNECT_S, MOST_ERROR_BYTES, STALL_S, read_body
from filerbackup.sinks.s3.answers import parse_error
from filerbackup.sinks.s3.client import S3Client
from filerbackup.sinks.s3.errors import Answered, from_aiohttp, from_botocore

_VALID_S = 300
"""How long a signed URL is good for: whoever reads it in a proxy's log can repeat the request so long.

The service looks when the request begins, not when its body ends. Not less, for it is also how far this
machine's clock may be behind the service's.
"""


class SignedHttp:
    """Signs with an aiobotocore client, sends through one aiohttp session; owns the session."""

    def __init__(self, client: S3Client, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self._client = client
        self._session = session
        self._proxy = proxy

    @asynccontextmanager
    async def request(
        self,
        method: str,
        operation: str,
        parameters: Mapping[str, str | int],
        *,
        headers: Mapping[str, str] | None = None,
        body: AsyncIterator[bytes | memoryview] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; the answer is good (2xx). Raises Answered, Unanswered.

        The caller sets the deadline, with `asyncio.timeout` or `stalling` around it; only what is
        read without a body having been sent may also not pause for `STALL_S`.
        """
        url = await self._sign(method, operation, parameters)
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=STALL_S if body is None else None)
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                proxy=self._proxy,
                allow_redirects=False,
                timeout=limits,
            ) as response:
                if not 200 <= response.status < 300:
                    raise await _refusal(response)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            # TimeoutError is an OSError; the URL with its signature stays out of the chain.
            raise from_aiohttp(error) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _sign(self, method: str, operation: str, parameters: Mapping[str, str | int]) -> URL:
        try:
            async with asyncio.timeout(STALL_S):  # credentials may have to be renewed first
                url = await self._client.generate_presigned_url(
                    operation, Params=dict(parameters), ExpiresIn=_VALID_S, HttpMethod=method
                )
        except TimeoutError:
            raise Unanswered(f"renewing the credentials took over {STALL_S:.0f} s") from None
        except (BotoCoreError, ClientError) as error:
            # Its text is the whole answer, which may quote our signature.
            raise from_botocore(error) from None
        return URL(url, encoded=True)


async def _refusal(response: aiohttp.ClientResponse) -> Answered:
    code, message, region = parse_error(await read_body(response, MOST_ERROR_BYTES))
    region = region or response.headers.get("x-amz-bucket-region", "")
    return Answered(response.status, code, message, region)
