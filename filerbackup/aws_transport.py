"""The AWS SDK's HTTP transport without redirects: each request goes to the endpoint and nowhere else."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession


class StraightTransport(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """Sends, and follows nothing.

    The SDK's own follows a redirect to any host, with the session token and the body, and takes the answer
    from there for the service's.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:  # noqa: ANN401  only `request` is used of it
        return _Straight(await super()._get_session(proxy_url))


class _Straight:
    """An aiohttp session that follows nothing."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:  # noqa: ANN401
        return await self._session.request(method, allow_redirects=False, **options)
