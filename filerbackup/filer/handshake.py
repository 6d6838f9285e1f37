"""Why a filer's gRPC port cannot be spoken to: a TLS handshake beside gRPC, whose own errors do not tell.

One that the filer or we refuse stays refused until a person changes something; all else passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography import x509

from filerbackup.errors import SourceRefused, UsageError
from filerbackup.filer.tls import (
    GRPC,
    Fault,
    common_names,
    fault_of,
    names_of,
    own_certificate,
    said,
    tls_context,
)
from filerbackup.settings.model import ClientTls

DEADLINE_S = 3.0
_KEEP_S = 5.0
"""A caller that tries again and again does not shake hands each time."""


class Handshakes:
    """What was found out about each address (`host:port`) a moment ago."""

    def __init__(self, tls: ClientTls | None) -> None:
        self._tls = tls
        self._known: dict[str, tuple[float, SourceRefused | None]] = {}

    async def problem(self, address: str) -> SourceRefused | None:
        """What a person has to change; None when the filer is down, or TLS is not the reason.

        Files of ours that cannot be used (run out, gone, half exchanged) are such a thing too.
        """
        until, known = self._known.get(address, (0.0, None))
        if until < time.monotonic():
            try:
                known = await (_with_tls(address, self._tls) if self._tls else _without_tls(address))
            except UsageError as error:
                # They were good when the process began: what is wrong now may pass like an outage.
                known = SourceRefused(f"filer {address}: {error}", hint=error.hint)
            self._known[address] = (time.monotonic() + _KEEP_S, known)
        return SourceRefused(str(known), hint=known.hint) if known else None


async def _without_tls(address: str) -> SourceRefused | None:
    try:
        async with connected(address, _unchecked(), ""):
            pass
    except ssl.SSLError as error:
        # Before TLS 1.3 it asks for a certificate within the handshake.
        if "ALERT" not in (error.reason or ""):
            return None
    except (OSError, TimeoutError, EOFError):
        return None
    return SourceRefused(
        f"filer {address} speaks TLS, and no certificate is configured here",
        hint="set ca of [grpc], and cert and key of [grpc.client], in security.toml "
        "(looked for beside replication.toml first)",
    )


async def _with_tls(address: str, tls: ClientTls) -> SourceRefused | None:
    name = tls.server_name or address.rpartition(":")[0].strip("[]")
    context = await asyncio.to_thread(tls_context, tls, GRPC)
    context.set_alpn_protocols(["h2"])
    try:
        async with connected(address, context, name) as (reader, _):
            # A filer speaks first; with TLS 1.3 it refuses a certificate only now.
            await reader.read(1)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return None
    except ssl.SSLError as error:
        return await _meaning(address, name, error, tls)
    except (OSError, TimeoutError, EOFError):
        return None
    return None


def _is_name(text: str) -> bool:
    """Whether it may stand in a hint as it is: the other side has made it."""
    return len(text) <= 253 and text.isascii() and text.isprintable() and not set(text) & set('*"\\')


async def _meaning(address: str, name: str, error: ssl.SSLError, tls: ClientTls) -> SourceRefused:
    match fault_of(error):
        case Fault.OTHER_NAME:
            return _wrong_name(address, name, await _shown(address))
        case Fault.REFUSED:
            return _refused(address, error, tls)
        case Fault.OUT_OF_DATE:
            text = f"its certificate is out of date: {said(error)}"
            hint = "renew cert of [grpc.filer] on the filer; if it is in force, check this host's clock"
        case Fault.UNTRUSTED:
            text = f"its certificate is not from the authority in {tls.ca}: {said(error)}"
            hint = "set ca of [grpc] in security.toml to the authority that the cluster has there"
        case Fault.NO_TLS:
            text = "it does not speak TLS, and security.toml asks for it"
            hint = (
                "leave out cert and key of [grpc.client] if the cluster has no [grpc.filer] cert; "
                "and is it the gRPC port (usually the HTTP port + 10000)?"
            )
        case Fault.OTHER:
            text = f"TLS: {said(error) or 'the handshake failed'}"
            hint = "check [grpc] and [grpc.client] in security.toml, on the filer too"
    return SourceRefused(f"filer {address}: {text}", hint=hint)


def _wrong_name(address: str, name: str, names: list[str]) -> SourceRefused:
    listed = ", ".join(repr(known[:100]) for known in names[:5]) or "no name at all"
    example = next(filter(_is_name, names), "its-name")
    return SourceRefused(
        f"filer {address}: its certificate is for {listed}, not for {name!r}",
        hint="weed's own programs do not check this name. Name the filer as its certificate does, or set "
        f'server_name = "{example}" in [grpc.client] of security.toml: then that name is asked for',
    )


def _refused(address: str, error: ssl.SSLError, tls: ClientTls) -> SourceRefused:
    own = own_certificate(tls, GRPC)
    named = ", ".join(common_names(own.subject)) or "without a name"
    issuer = ", ".join(common_names(own.issuer)) or "an authority without a name"
    return SourceRefused(
        f"filer {address} refuses our certificate {named!r}, issued by {issuer!r}: {said(error)}",
        hint="cert of [grpc.client] must be of the authority in ca of the filer's [grpc], for clients, "
        "and its common name one of allowed_commonNames of [grpc.filer], if that is set",
    )


async def _shown(address: str) -> list[str]:
    """The names in the certificate that the filer shows."""
    with contextlib.suppress(OSError, TimeoutError, EOFError, ValueError):
        async with connected(address, _unchecked(), "") as (_, writer):
            secured = writer.get_extra_info("ssl_object")
            found = secured.getpeercert(binary_form=True) if secured is not None else None
            if found:
                return names_of(x509.load_der_x509_certificate(found))
    return []


def _unchecked() -> ssl.SSLContext:
    """Only to look at what the other side is: nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


@asynccontextmanager
async def connected(
    address: str, context: ssl.SSLContext, name: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """After a handshake with `host:port`, for a few seconds. Raises OSError (ssl.SSLError), TimeoutError."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(
            host.strip("[]"), int(port), ssl=context, server_hostname=name
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
