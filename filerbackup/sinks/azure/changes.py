"""What changes inside the service, without the bytes passing through here: the SDK's part.

A copy within one account needs nothing but the right to read there, with a key as with a token, and
is done when the service answers; Put Blob From URL and the synchronous copy would need a signed URL
of the source. The blob then has its source's headers and MD5; metadata and tags are those of the
request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient

from filerbackup.sinks.azure.answers import Blob
from filerbackup.sinks.azure.dialect import good_tags, md5_bytes, tier_of, user_metadata
from filerbackup.sinks.azure.errors import from_sdk
from filerbackup.sinks.azure.identity import Tokens
from filerbackup.sinks.azure.signing import API_VERSION
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.http import CALL_S
from filerbackup.sinks.objects.store import Head

_T = TypeVar("_T")


class Changes:
    """Calls of the SDK on one container, over the session of our own requests, with no retries.

    Raises Answered, Unanswered, TimeoutError.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        container: str,
        credential: dict[str, str] | Tokens,
        proxy: str | None,
    ) -> None:
        self._client = ContainerClient(
            endpoint,
            container,
            credential=credential,
            transport=AioHttpTransport(session=session, session_owner=False),
            api_version=API_VERSION,
            proxies={urlsplit(endpoint).scheme: proxy} if proxy else None,
            retry_total=0,
        )

    async def start_copy(
        self, head: Head, source_url: str, name: str, metadata: ObjectMetadata, *, tags: bool
    ) -> tuple[str, str]:
        """Begin a copy of just what `head` describes; returns the copy's id and status."""
        answer = await _call(
            self._client.get_blob_client(name).start_copy_from_url(
                source_url,
                metadata=user_metadata(metadata),
                tags=(good_tags(metadata) or None) if tags else None,
                source_etag=f'"{head.etag}"',
                source_match_condition=MatchConditions.IfNotModified,
                headers=_tier(metadata),
            )
        )
        return str(answer.get("copy_id") or ""), str(answer.get("copy_status") or "")

    async def abort_copy(self, name: str, copy_id: str) -> None:
        """End a copy that has not come to its end."""
        await _call(self._client.get_blob_client(name).abort_copy(copy_id))

    async def set_metadata(self, name: str, etag: str, metadata: ObjectMetadata, kept: dict[str, str]) -> str:
        """Replace the metadata of a blob that has this ETag; returns its new one. `kept`: what else stays."""
        answer = await _call(
            self._client.get_blob_client(name).set_blob_metadata(
                {**user_metadata(metadata), **kept},
                etag=f'"{etag}"',
                match_condition=MatchConditions.IfNotModified,
            )
        )
        return str(answer.get("etag") or "").strip('"')

    async def set_headers(self, name: str, etag: str, blob: Blob, metadata: ObjectMetadata) -> str:
        """Replace the headers of a blob that has this ETag; returns its new one.

        What this request does not carry the service clears: so the MD5 goes along.
        """
        settings = ContentSettings(
            content_type=metadata.content_type,
            cache_control=metadata.cache_control or None,
            content_disposition=metadata.content_disposition or None,
            content_encoding=metadata.content_encoding or None,
            content_language=metadata.content_language or None,
            content_md5=bytearray(blob.head.md5 or md5_bytes(metadata)) or None,
        )
        answer = await _call(
            self._client.get_blob_client(name).set_http_headers(
                settings, etag=f'"{etag}"', match_condition=MatchConditions.IfNotModified
            )
        )
        return str(answer.get("etag") or "").strip('"')

    async def set_tags(self, name: str, metadata: ObjectMetadata) -> None:
        """Replace the tags."""
        await _call(self._client.get_blob_client(name).set_blob_tags(good_tags(metadata) or None))

    async def close(self) -> None:
        """Nothing of the session."""
        await self._client.close()


def has_headers(blob: Blob, metadata: ObjectMetadata) -> bool:
    """Whether a blob has just these headers, and an MD5 where one is known."""
    return (
        (blob.content_type, blob.cache_control, blob.content_disposition)
        == (metadata.content_type, metadata.cache_control, metadata.content_disposition)
        and (blob.content_encoding, blob.content_language)
        == (metadata.content_encoding, metadata.content_language)
        and bool(blob.head.md5 or not md5_bytes(metadata))
    )


def _tier(metadata: ObjectMetadata) -> dict[str, str]:
    tier = tier_of(metadata.storage_class)
    return {"x-ms-access-tier": tier} if tier else {}


async def _call(call: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(CALL_S):
            return await call
    except AzureError as error:
        raise from_sdk(error) from None
