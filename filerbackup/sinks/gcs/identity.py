"""Who we are to Google: credentials found once, a token for all callers, renewed before it ends.

google-auth does it, for every kind of credentials it knows (service account key, login of a user,
workload identity, the machine's attached account). It blocks, so it runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import google.auth
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from filerbackup.settings.model import GcsSettings
from filerbackup.sinks.gcs.errors import from_google_auth
from filerbackup.sinks.objects.errors import Unanswered

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
FIND_S = 60.0
"""Finding credentials may ask services on the network."""
RENEW_S = 45.0
REQUEST_S = 15.0
"""One request to a token service; google-auth repeats it a few times."""
STALE_S = 225.0
"""So long before its end a token is renewed: Google's metadata server gives the old one before that."""
BETWEEN_S = 10.0
"""A renewal that failed while the old token is still good is tried again after this."""
_CLOSED = "the sink was closed"
_NOBODY: Mapping[str, str] = MappingProxyType({})
_log = logging.getLogger(__name__)


class Credentials(Protocol):
    """What is used of google-auth's credentials. `expiry` is a naive time in UTC."""

    token: str | None
    expiry: Any

    def refresh(self, request: object) -> None:
        """Ask for a new token; blocks."""
        ...

    def apply(self, headers: dict[str, str]) -> None:
        """Add what a request has to carry."""
        ...


_Load = Callable[..., tuple[Credentials, str | None]]


class Identity:
    """The headers that say who asks. `close` once; raises Unanswered."""

    def __init__(self, settings: GcsSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="gcs-identity")
        self._credentials: Credentials | None = None
        self._headers: Mapping[str, str] = _NOBODY
        self._is_needed = not _is_anonymous(settings)
        self._fresh_until = 0.0
        self._good_until = 0.0
        self._renewing: asyncio.Task[Unanswered | None] | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Find the credentials and get the first token."""
        if self._is_needed:
            self._credentials = await self._in_thread(FIND_S, _find, self._settings)
            await self.headers()

    async def headers(self) -> Mapping[str, str]:
        """For the next request: at once, but while there is no token that is still good."""
        now = time.time()
        if now < self._fresh_until or not self._is_needed:
            return self._headers
        if self._is_closed:
            raise Unanswered(_CLOSED)
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="gcs-token")
        if now < self._good_until:
            return self._headers
        failed = await _result(self._renewing)
        if failed is not None:
            raise Unanswered(failed.reason, refused=failed.refused, hint=failed.hint)
        return self._headers

    def reject(self, headers: Mapping[str, str]) -> bool:
        """The service did not take these; whether there can be others."""
        if self._is_needed and headers is self._headers:
            self._fresh_until = self._good_until = 0.0
        return self._is_needed

    async def close(self) -> None:
        """Let go of the thread; what it is just waiting for ends by itself."""
        self._is_closed = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _renew(self) -> Unanswered | None:
        """A value, not an exception: several may wait for it, or nobody."""
        try:
            self._headers, expiry = await self._in_thread(RENEW_S, _token, self._credentials)
        except Unanswered as error:
            now = time.time()
            if now < self._good_until:
                self._fresh_until = min(now + BETWEEN_S, self._good_until)
                _log.warning("the token could not be renewed and is still good for a while: %s", error.reason)
            return error
        self._good_until = expiry
        self._fresh_until = max(expiry - STALE_S, min(expiry, time.time() + BETWEEN_S))
        return None

    async def _in_thread(self, limit_s: float, work: Any, *arguments: object) -> Any:  # noqa: ANN401
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                return await loop.run_in_executor(self._threads, work, *arguments)
        except TimeoutError:
            raise Unanswered(f"no credentials or token within {limit_s:.0f} s") from None
        except (GoogleAuthError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            # The chain ends here: what a library says of a broken key may quote from it.
            raise from_google_auth(error) from None


async def _result(renewing: asyncio.Task[Unanswered | None]) -> Unanswered | None:
    """What it says; its end by `close` is no end of the task that waits for it."""
    try:
        return await asyncio.shield(renewing)
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if renewing.cancelled() and (waiting is None or not waiting.cancelling()):
            return Unanswered(_CLOSED)
        raise


class _Request(Request):
    """google-auth's way to ask, with a shorter patience, and nobody but the one who was meant."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        named["timeout"] = min(named.get("timeout") or REQUEST_S, REQUEST_S)
        named["allow_redirects"] = False
        return super().__call__(*arguments, **named)  # type: ignore[no-untyped-call]


def _is_anonymous(settings: GcsSettings) -> bool:
    return settings.endpoint.startswith("http:") and not (settings.credentials or settings.credentials_file)


def _find(settings: GcsSettings) -> Credentials:
    text = settings.credentials.reveal()
    if not text and settings.credentials_file:
        text = Path(settings.credentials_file).read_text(encoding="utf-8")
    # It warns of files from untrusted hands (ours are the operator's), on the process's error output.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if text:
            load: _Load = google.auth.load_credentials_from_dict
            return load(json.loads(text), scopes=SCOPES)[0]
        found: Credentials = google.auth.default(scopes=SCOPES, request=_Request())[0]
        return found


def _token(credentials: Credentials) -> tuple[Mapping[str, str], float]:
    """The headers, and until when they are good (Unix seconds)."""
    credentials.refresh(_Request())
    headers: dict[str, str] = {}
    credentials.apply(headers)
    expiry = credentials.expiry
    until = float("inf") if expiry is None else expiry.replace(tzinfo=UTC).timestamp()
    return MappingProxyType(headers), until
