"""What a failed call means: the one place where answers of B2 become errors of the tree.

Calls raise `Answered` (the service said no, with a status and mostly a code) or `Unanswered`
(nothing that counts as an answer came); `classify` turns either into what a caller may see. The
codes are those of Backblaze's documentation of the native API. Texts from the service are cut to one
short line; URLs and what looks like a token never leave here.
"""

from __future__ import annotations

import re

import aiohttp

from filerbackup.errors import (
    ObjectRejected,
    SinkError,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.sinks.objects import errors
from filerbackup.sinks.objects.errors import Unanswered, answer_text, unreachable

STALE = frozenset({"expired_auth_token", "bad_auth_token"})
"""A token that is too old, or that the service has forgotten: another one helps."""
AUTHORITIES = "REQUESTS_CA_BUNDLE"
"""What tells b2sdk whom to trust."""
_CAPS = frozenset(
    {"cap_exceeded", "storage_cap_exceeded", "transaction_cap_exceeded", "download_cap_exceeded"}
)
_KEYS = (
    "check b2_account_id (the key's id) and b2_master_application_key, "
    "or B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY"
)
_ENDPOINT = "check `endpoint`: empty for Backblaze's own, and never that of the S3 API"
_BUCKET = "create the bucket, or correct `bucket`"
_CAP = "raise the account's cap (Caps & Alerts on Backblaze's site), or make room"
_HINTS = {
    "bad_bucket_id": _BUCKET,
    "bad_auth_token": _KEYS,
    "expired_auth_token": "the application key has run out: make a new one",
    "unauthorized": "the key needs listFiles, readFiles, writeFiles and deleteFiles on this bucket, and no "
    "prefix but that of `directory`",
    "access_denied": "the key, or a lock on the file, forbids it",
    "email_not_verified": "verify the account's e-mail address on Backblaze's site",
    "no_payment_history": "the account needs a payment first: see Backblaze's site",
    "unsupported": "this key cannot be used with the native API: make another one",
}
_GONE = frozenset({"not_found", "no_such_file", "file_not_present", "already_hidden"})
_private = re.compile(r"https?://\S+|\b[0-9]_[A-Za-z0-9_=-]{20,}")
_is_checksum = re.compile(r"sha-?1|checksum", re.IGNORECASE).search


class Answered(Exception):
    """The service answered with an error. `spoke`: in JSON as B2 writes it, or with nothing at all."""

    def __init__(self, status: int, code: str = "", message: str = "", *, spoke: bool = True) -> None:
        super().__init__(f"HTTP {status} {code}")
        self.status, self.code, self.message, self.spoke = status, code, message, spoke

    @property
    def is_stale(self) -> bool:
        """Whether a new token would help; an answer to HEAD has no code."""
        return self.status == 401 and (self.code in STALE or not self.code)

    @property
    def is_gone(self) -> bool:
        """Whether the file (or the version of it) is not there."""
        return self.code in _GONE or (self.status == 404 and not self.code)

    @property
    def is_request(self) -> bool:
        """Whether the service found fault with what was asked, rather than with how it arrived."""
        return self.status == 400 and self.code == "bad_request" and not _is_checksum(self.message)


def classify(error: Answered | Unanswered, what: str, *, of_object: bool = False) -> SinkError:
    """The error for a caller; `what` names the call in a few words, such as "backblaze:bucket: PUT 'a/b'".

    `of_object`: the call sent a name and metadata, so that a bad request is the fault of this object.
    """
    if isinstance(error, Unanswered):
        return unreachable(error, what)
    if 300 <= error.status < 400 or (not error.spoke and error.status < 500 and error.status != 429):
        return classify(not_b2(error.status, ""), what)
    text = answer_text(what, error.status, one_line(error.code), one_line(error.message))
    if error.code in _CAPS:
        return SinkFull(text, hint=_CAP)
    if error.status in (429, 503):
        return SinkThrottled(text)
    if error.status in (413, 414, 431) or (of_object and error.is_request):
        return ObjectRejected(text)
    if error.status in (401, 403) or error.code in _HINTS:
        return SinkRefused(text, hint=_HINTS.get(error.code, _HINTS["unauthorized"]))
    # An unknown 4xx too: whether it is this object's fault shows when others go through.
    return SinkUnavailable(text)


def refused_key(error: Answered | Unanswered, what: str) -> SinkError:
    """What a refusal means when it is the key itself that was shown."""
    if isinstance(error, Answered) and error.code in ("unauthorized", "bad_auth_token", "bad_request"):
        return SinkRefused(f"{what}: the service does not accept the application key", hint=_KEYS)
    return classify(error, what)


def no_key(what: str) -> SinkRefused:
    """Neither the settings nor the environment have a key."""
    return SinkRefused(f"{what}: no application key was found", hint=_KEYS)


def no_bucket(what: str, reason: str = "there is no such bucket") -> SinkRefused:
    """The bucket cannot be used."""
    return SinkRefused(f"{what}: {reason}", hint=_BUCKET)


def one_line(text: str, most: int = 300) -> str:
    """Printable, on one line, cut, and without URLs or tokens."""
    return errors.one_line(_private.sub("…", text), most)


def from_aiohttp(error: aiohttp.ClientError | OSError) -> Unanswered:
    """Read an error of aiohttp or the socket below it."""
    return errors.from_aiohttp(error, AUTHORITIES)


def not_b2(status: int, content_type: str) -> Unanswered:
    """Something answers at the endpoint, and it does not speak B2's native API."""
    kind = f", {one_line(content_type, 60)}" if content_type else ""
    return Unanswered(f"the answer is not B2's (HTTP {status}{kind})", refused=True, hint=_ENDPOINT)
