"""Who we are at B2: the key is shown to b2sdk, which gets a token for up to a day; and the bucket.

b2sdk is synchronous: it has a thread of its own, and every call of it ends by itself in time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from b2sdk.v3 import B2Http, B2HttpApiConfig, B2RawHTTPApi  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError

from filerbackup.errors import SinkRefused, SinkUnavailable
from filerbackup.settings.model import BackblazeSettings
from filerbackup.sinks.backblaze.answers import Grant, parse_bucket, parse_error, parse_grant, parse_json
from filerbackup.sinks.backblaze.dialect import ROOM_BYTES, ROOM_ENCRYPTED_BYTES
from filerbackup.sinks.backblaze.errors import (
    AUTHORITIES,
    Answered,
    classify,
    no_bucket,
    no_key,
    refused_key,
)
from filerbackup.sinks.keys import shown
from filerbackup.sinks.objects.errors import Unanswered, untrusted
from filerbackup.sinks.objects.http import CONNECT_S, USER_AGENT

OPEN_S = 60.0
_READ_S = 20.0
_MOST_ANSWER_BYTES = 1 << 20
_BACKBLAZE = "https://api.backblazeb2.com"
_NEEDED = ("listFiles", "readFiles", "writeFiles")
_PROBLEMS = (
    "Connection refused",
    "Connection reset",
    "Connection aborted",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "No route to host",
)
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class _Http(B2Http):  # type: ignore[misc]  # b2sdk has no types
    """b2sdk's transport with one try a call, without redirects, and with the service's own words as errors.

    Its own repeats a call for minutes, logs whole answers and forgets the codes of some.
    """

    def post_json_return_json(
        self, url: str, headers: dict[str, str], params: dict[str, Any], try_count: int = 1
    ) -> dict[str, Any]:
        """One call. Raises Answered, Unanswered."""
        sent = {**headers, "User-Agent": self.user_agent, "Content-Type": "application/json"}
        try:
            with self.session.post(
                url,
                data=json.dumps(params).encode(),
                headers=sent,
                timeout=(CONNECT_S, _READ_S),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = response.raw.read(_MOST_ANSWER_BYTES + 1, decode_content=True)
                kind = response.headers.get("Content-Type", "")
                if response.status_code != 200:
                    raise parse_error(response.status_code, body)
                return parse_json(response.status_code, kind, body)
        except requests.exceptions.SSLError:
            raise untrusted(AUTHORITIES) from None
        except requests.exceptions.Timeout:
            raise Unanswered("no answer in time") from None
        except (requests.exceptions.RequestException, HTTPError, OSError, ValueError) as error:
            raise Unanswered(_no_connection(url, error)) from None


class Account:
    """The key, and what it is good for at this moment. `open` comes first."""

    def __init__(self, settings: BackblazeSettings) -> None:
        self._settings = settings
        self._realm = (settings.endpoint or _BACKBLAZE).rstrip("/")
        self._what = f"backblaze:{settings.bucket}"
        self._thread = ThreadPoolExecutor(1, "b2sdk")
        config = B2HttpApiConfig(install_clock_skew_hook=False, user_agent_append=USER_AGENT)
        self._http = _Http(config)
        self._api = B2RawHTTPApi(self._http)
        self._renewing = asyncio.Lock()
        self._grant: Grant | None = None
        self.bucket_id = ""
        self.room_bytes = ROOM_ENCRYPTED_BYTES
        """How much file name and info the bucket takes together."""

    @property
    def grant(self) -> Grant:
        """What the last authorization gave."""
        if self._grant is None:
            raise SinkUnavailable(f"{self._what}: not open")
        return self._grant

    async def open(self, prefix: str) -> None:
        """Show the key, find the bucket; `prefix`: what the names of all files begin with.

        Raises SinkRefused (key, bucket, what the key may do), SinkUnavailable.
        """
        if not self._settings.key_id or not self._settings.application_key:
            raise no_key(self._what)
        try:
            async with asyncio.timeout(OPEN_S):
                self._grant = await self._authorize()
                self._check_rights(self.grant, prefix)
                await self._find_bucket(self.grant)
        except TimeoutError:
            raise SinkUnavailable(f"{self._what}: no answer within {OPEN_S:.0f} s") from None
        except (Answered, Unanswered) as error:
            raise classify(error, self._what) from None

    async def renew(self, stale: str) -> None:
        """Get another token than `stale`; those who come at the same time share one call.

        Raises SinkRefused, SinkUnavailable.
        """
        async with self._renewing:
            if self.grant.token != stale:
                return
            try:
                async with asyncio.timeout(OPEN_S):
                    self._grant = await self._authorize()
            except TimeoutError:
                raise SinkUnavailable(f"{self._what}: authorize: no answer in time") from None
            _log.debug("%s: authorized again", self._what)

    async def close(self) -> None:
        """Let go of the thread; it ends when its last call does."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _authorize(self) -> Grant:
        settings = self._settings
        try:
            answer = await self._in_thread(
                lambda: self._api.authorize_account(
                    self._realm, settings.key_id, settings.application_key.reveal()
                )
            )
            return parse_grant(answer, secure=self._realm.startswith("https:"))
        except (Answered, Unanswered) as error:
            raise refused_key(error, f"{self._what}: authorize") from None

    def _check_rights(self, grant: Grant, prefix: str) -> None:
        missing = [each for each in _NEEDED if each not in grant.capabilities]
        if self._settings.hard_delete and "deleteFiles" not in grant.capabilities:
            missing.append("deleteFiles")
        if missing:
            raise SinkRefused(
                f"{self._what}: the application key may not {', '.join(missing)}",
                hint="make a key with listBuckets, listFiles, readFiles, writeFiles and deleteFiles",
            )
        if not prefix.startswith(grant.prefix):
            raise SinkRefused(
                f"{self._what}: the application key is only for names that begin with {shown(grant.prefix)}",
                hint="set `directory` to the key's prefix or below it, or make a key without a prefix",
            )

    async def _find_bucket(self, grant: Grant) -> None:
        name = self._settings.bucket
        if grant.buckets is not None:
            self.bucket_id = grant.buckets.get(name, "")
            if not self.bucket_id:
                raise no_bucket(self._what, "the application key is for another bucket")
            if "listBuckets" not in grant.capabilities:
                return
        answer = await self._in_thread(
            lambda: self._api.list_buckets(grant.api_url, grant.token, grant.account_id, bucket_name=name)
        )
        bucket_id, is_plain = parse_bucket(answer, name)
        if not bucket_id:
            raise no_bucket(self._what)
        self.bucket_id = bucket_id
        self.room_bytes = ROOM_BYTES if is_plain else ROOM_ENCRYPTED_BYTES

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _no_connection(url: str, error: Exception) -> str:
    """Of the error's own text, which may name a proxy with its password, only well-known words."""
    place = urlsplit(url).netloc.rpartition("@")[2]
    words = next((each for each in _PROBLEMS if each in str(error)), type(error).__name__)
    return f"no connection to {place}: {words}"
