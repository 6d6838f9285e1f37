"""Sending bytes: to upload URLs, each used by one upload at a time and thrown away after an error.

B2 gives out URLs of single storage pods. A pod that cannot take a file says 503, or nothing; the next
URL is another pod's. That is how the service spreads its load, so a body that is still whole goes to
another URL at once; how often is bounded by `PUT_URLS`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from filerbackup.sinks.backblaze.answers import text_of, token_of, url_of
from filerbackup.sinks.backblaze.api import Api, read_json
from filerbackup.sinks.backblaze.errors import Answered
from filerbackup.sinks.objects.http import stalling

PUT_URLS = 3
MOST_IDLE = 256
DIGEST_BYTES = 40
"""The SHA-1 in hexadecimal, behind a body that is announced with `hex_digits_at_end`."""
_THREAD_FROM_BYTES = 128 << 10
"""Below this, hashing here (0.2 ms) costs less than a thread."""


@dataclass(frozen=True, slots=True)
class UploadUrl:
    """Where to send one upload, and its own token."""

    url: str
    token: str


class UploadUrls:
    """Idle upload URLs of one kind; `ask` gets another from the service."""

    def __init__(self, ask: Callable[[], Awaitable[dict[str, Any]]], *, secure: bool) -> None:
        self._ask = ask
        self._secure = secure
        self._idle: list[UploadUrl] = []

    async def take(self) -> UploadUrl:
        """One that nobody else uses. Raises Answered, Unanswered."""
        if self._idle:
            return self._idle.pop()
        answer = await self._ask()
        url = url_of(text_of(answer, "uploadUrl"), secure=self._secure)
        return UploadUrl(url, token_of(answer.get("authorizationToken")))

    def forget(self) -> None:
        """One was too old: the others may be as old."""
        self._idle.clear()

    def give_back(self, url: UploadUrl) -> None:
        """An upload to it went well: it may be used again."""
        if len(self._idle) < MOST_IDLE:
            self._idle.append(url)


class Uploads:
    """Sends files and parts of files."""

    def __init__(self, api: Api, *, secure: bool) -> None:
        self._api = api
        self._secure = secure
        self._files = self.urls("b2_get_upload_url", bucketId=api.account.bucket_id)

    def urls(self, call: str, **parameters: object) -> UploadUrls:
        """Upload URLs that this call gives."""
        return UploadUrls(lambda: self._api.call(call, parameters), secure=self._secure)

    async def file(self, headers: Mapping[str, str], data: bytes) -> dict[str, Any]:
        """A whole file; the answer. Raises Answered, Unanswered."""
        headers = {**headers, "Content-Length": str(len(data))}
        url = await self._files.take()
        tries = 1
        while True:
            try:
                async with stalling() as stall:
                    answer = await self._send(url, headers, stall.body(data))
            except Answered as error:
                # A pod that is busy, or a token that is too old; everything else is said once.
                if error.is_stale:
                    self._files.forget()
                elif error.status != 408 and error.status < 500:
                    raise
                if tries >= PUT_URLS:
                    raise
            else:
                self._files.give_back(url)
                return answer
            tries += 1
            url = await self._files.take()

    async def part(
        self,
        urls: UploadUrls,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> dict[str, Any]:
        """One part with its SHA-1 behind it; the answer. Raises as `file`, and what the blocks raise."""
        url = await urls.take()
        headers = {
            "Content-Length": str(size + DIGEST_BYTES),
            "X-Bz-Part-Number": str(number),
            "X-Bz-Content-Sha1": "hex_digits_at_end",
        }
        async with stalling() as stall:

            async def moving() -> AsyncIterator[bytes | memoryview]:
                async for block in blocks:
                    stall.progress()
                    yield block
                yield digest().hex().encode()
                stall.sent(size)

            try:
                answer = await self._send(url, headers, moving())
            except Answered as error:
                if error.is_stale:
                    urls.forget()
                raise
        urls.give_back(url)
        return answer

    async def _send(
        self, url: UploadUrl, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes | memoryview]
    ) -> dict[str, Any]:
        sent = {**headers, "Authorization": url.token}
        async with self._api.request("POST", url.url, sent, body) as response:
            return await read_json(response)


async def digests(data: bytes, *, with_md5: bool) -> tuple[str, bytes]:
    """The SHA-1 in hexadecimal, and the MD5 where it is asked for; in a thread when that pays."""
    if len(data) < _THREAD_FROM_BYTES:
        return _hash(data, with_md5)
    return await asyncio.to_thread(_hash, data, with_md5)


def _hash(data: bytes, with_md5: bool) -> tuple[str, bytes]:
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return sha1, hashlib.md5(data, usedforsecurity=False).digest() if with_md5 else b""
