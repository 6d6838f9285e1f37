"""Calls over HTTP that got no answer, and texts of a service as they may be shown: the same for all.

What an answer means differs from service to service: each has an `errors` of its own for that.
"""

from __future__ import annotations

import re
import ssl

import aiohttp

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable
from filerbackup.redact import without_tokens

_query = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")


class Unanswered(Exception):
    """No answer, half an answer, or an answer that is none. `refused`: and a person has to act."""

    def __init__(self, reason: str, *, refused: bool = False, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.refused, self.hint = reason, refused, hint


def unreachable(error: Unanswered, what: str) -> SinkError:
    """The error for a caller; `what` names the call in a few words, such as "s3:bucket: PUT 'a/b'"."""
    kind = SinkRefused if error.refused else SinkUnavailable
    return kind(f"{what}: {one_line(error.reason)}", hint=error.hint)


def answer_text(what: str, status: int, code: str, message: str) -> str:
    """What a service said to a call, on one line."""
    said = f"HTTP {status} {one_line(code, 80)}".rstrip()
    return f"{what}: {said}" + (f": {one_line(message)}" if message else "")


def one_line(text: str, most: int = 300) -> str:
    """Printable, on one line, cut, without tokens, and without the query of any URL."""
    clean = without_tokens(_query.sub(r"\1", " ".join(text[: 8 * most].split())))
    clean = "".join(character if character.isprintable() else "?" for character in clean)
    return clean if len(clean) <= most else clean[:most] + "…"


def from_aiohttp(error: aiohttp.ClientError | OSError, authorities: str) -> Unanswered:
    """Read an error of aiohttp or the socket below it; `authorities` as in `untrusted`."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return untrusted(authorities)
    if isinstance(error, ssl.SSLError):
        return Unanswered("TLS failed")
    if isinstance(error, TimeoutError):
        return Unanswered("no answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or type(error.os_error).__name__
        return Unanswered(f"no connection to {error.host}:{error.port}: {reason}")
    return Unanswered(f"the connection broke: {type(error).__name__}")


def untrusted(authorities: str) -> Unanswered:
    """The server's certificate is none that is trusted; `authorities`: what names those that are."""
    return Unanswered(
        "the server's TLS certificate is not trusted, or this is no TLS port",
        refused=True,
        hint=f"set {authorities} to the file with the certificate of its authority, "
        "or correct the scheme of `endpoint`",
    )
