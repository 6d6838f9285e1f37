"""HTTPS to volume servers and filers: the certificates of `https.client`, and what a failure means."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import NamedTuple

import aiohttp

from filerbackup.errors import UsageError
from filerbackup.filer.handshake import connected
from filerbackup.filer.tls import Fault, fault_of, load_own, refusal_in, said, tls_context
from filerbackup.settings.model import ClientTls

WANTS_TLS = "Client sent an HTTP request to an HTTPS server"
"""How Go's server answers plain HTTP, with status 400."""
WANTS_TLS_HINT = (
    "set enabled = true and ca in [https.client] of security.toml; "
    "cert and key too, if the server wants a certificate"
)
_ALERT_S = 1.0
_RENEW_EVERY_S = 5.0
"""Many requests are refused at the same time."""


class Refusal(NamedTuple):
    """One line about a connection that one side does not want, and what a person can do."""

    text: str
    hint: str


class Https:
    """TLS for an HTTP client, or none. Raises UsageError for files that cannot be used."""

    def __init__(self, tls: ClientTls | None) -> None:
        self._files = tls
        self._context = tls_context(tls) if tls else None
        self._renewed_at = -_RENEW_EVERY_S

    @property
    def scheme(self) -> str:
        """Of URLs."""
        return "https" if self._context else "http"

    @property
    def ssl(self) -> ssl.SSLContext | bool:
        """What aiohttp's connector takes."""
        return self._context or True

    async def refusal(self, server: str, error: Exception, *, answered: bool = False) -> Refusal | None:
        """What TLS has to do with a failed request to `host:port`; None: nothing."""
        found = refusal_in(error)
        if found is None and self._context is not None and not answered and _was_cut(error):
            found = await _alert_of(server, self._context)
        if found is None:
            return None
        self._renew()
        return _explained(server, found)

    def _renew(self) -> None:
        """Our certificate may have been replaced by a newer one since it was read.

        Not in a thread: connections are made with the context meanwhile.
        """
        context, files, now = self._context, self._files, time.monotonic()
        if context is None or files is None or not files.cert or now - self._renewed_at < _RENEW_EVERY_S:
            return
        self._renewed_at = now
        with contextlib.suppress(UsageError):
            # A pair that is just being exchanged fits together a moment later, and would spoil the context.
            load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)
            load_own(context, files)


def _explained(server: str, error: ssl.SSLError) -> Refusal:
    """Message and hint when HTTPS to `host:port` fails."""
    match fault_of(error):
        case Fault.OUT_OF_DATE:
            hint = "renew cert of [https.volume] or [https.filer]; if it is in force, check this host's clock"
        case Fault.OTHER_NAME:
            hint = (
                "a certificate for HTTPS must name the host under which SeaweedFS lists the server (-ip); "
                "weed's own programs check that too"
            )
        case Fault.UNTRUSTED:
            hint = "set ca of [https.client] in security.toml to the authority of the cluster's certificates"
        case Fault.REFUSED:
            hint = (
                "set cert and key of [https.client] in security.toml to a pair of the authority in ca of "
                "[https.volume] and [https.filer]"
            )
        case Fault.NO_TLS:
            hint = "set enabled = false in [https.client] of security.toml if the cluster has no HTTPS"
        case Fault.OTHER:
            hint = "check [https.client] in security.toml"
    return Refusal(f"{server}: TLS: {said(error) or 'the handshake failed'}", hint)


async def _alert_of(server: str, context: ssl.SSLContext) -> ssl.SSLError | None:
    """What a server (`host:port`) says to our certificate when nothing is asked for.

    With TLS 1.3 that comes after the handshake, and is lost when the server has closed the connection
    before it has read a request.
    """
    try:
        async with connected(server, context, server.rpartition(":")[0].strip("[]")) as (reader, _):
            async with asyncio.timeout(_ALERT_S):
                await reader.read(1)
    except (OSError, TimeoutError, EOFError) as error:
        return refusal_in(error)
    return None


def _was_cut(error: Exception) -> bool:
    """Whether there was a connection."""
    return isinstance(error, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)) and not isinstance(
        error, aiohttp.ClientConnectorError
    )
