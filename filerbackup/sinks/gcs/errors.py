"""What a failed call means: the one place where answers of Google's become errors of the tree.

Calls raise `Answered` (the service said no, with a status and mostly a reason) or `Unanswered`
(nothing that counts as an answer came, or no token could be had); `classify` turns either into what
a caller may see. Texts from outside are cut to one short line, and URLs lose their query.
"""

from __future__ import annotations

import json
import re

import aiohttp
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from filerbackup.errors import (
    ObjectRejected,
    SinkError,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.sinks.objects import errors
from filerbackup.sinks.objects.errors import Unanswered, answer_text, one_line, unreachable

_THROTTLED = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "slowDown"})
_FULL = frozenset({"quotaExceeded", "dailyLimitExceeded"})
_PINNED = frozenset({"retentionPolicyNotMet", "objectUnderActiveHold", "objectRetained", "objectHoldNotMet"})
_NAME_OR_SIZE = frozenset({"uploadTooLarge", "metadataTooLarge", "objectNameTooLong"})
_REFUSED_STATUS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 501})

_CREDENTIALS = (
    "check `google_application_credentials`, or the Application Default Credentials of this machine "
    "(GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, the attached service account)"
)
_ENDPOINT = "check `endpoint`: scheme, host and port of the JSON API, empty for Google's own"
_ROLE = (
    "the account needs the role Storage Object User (storage.objects.list, get, create, update and delete) "
    "on the bucket"
)
_SCOPE = "the access scopes of this machine do not reach: give it storage-rw or cloud-platform"
_CLOCK = "set the clock of this machine"
_KEY_GONE = "the key or the account was deleted or disabled, or the login has ended: make new credentials"
_HINTS = {
    "accountDisabled": "the project's billing account is closed or disabled",
    "billingNotEnabled": "the project's billing account is closed or disabled",
    "accessNotConfigured": "enable the Cloud Storage API in the project",
    "sslRequired": "use an https:// endpoint",
}

_no_bucket = re.compile(r"bucket does not exist", re.IGNORECASE).search
_requester_pays = re.compile(r"requester pays", re.IGNORECASE).search
_bad_name = re.compile(r"object name|metadata.{0,40}(?:too large|exceeds)", re.IGNORECASE).search
_bad_bucket = re.compile(r"bucket name", re.IGNORECASE).search
_bad_class = re.compile(r"storage class", re.IGNORECASE).search
_lacks_scope = re.compile(r"scope", re.IGNORECASE).search
_skewed = re.compile(r"reasonable timeframe|token used too early|clock", re.IGNORECASE).search


class Answered(Exception):
    """The service answered with an error. `is_google`: in the form that Google's API gives it."""

    def __init__(self, status: int, reason: str = "", message: str = "", *, is_google: bool = True) -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status, self.reason, self.message, self.is_google = status, reason, message, is_google

    @property
    def is_absent(self) -> bool:
        """The object is not there; the bucket is."""
        return self.status == 404 and self.is_google and not _no_bucket(self.message)


def classify(error: Answered | Unanswered, what: str) -> SinkError:
    """The error for a caller; `what` names the call in a few words, such as "gcs:bucket: PUT 'a/b'"."""
    if isinstance(error, Unanswered):
        return unreachable(error, what)
    text = answer_text(what, error.status, error.reason, error.message)
    if error.status == 429 or error.reason in _THROTTLED:
        return SinkThrottled(text)
    if error.reason in _FULL:
        return SinkFull(text, hint="a quota of the project is used up: wait, or ask for a higher one")
    if error.reason in _PINNED:
        return ObjectRejected(text, hint="a retention policy or a hold of the bucket keeps the old version")
    if _is_objects_fault(error):
        return ObjectRejected(text)
    hint = _refusal(error)
    if hint is not None:
        return SinkRefused(text, hint=hint)
    # An unknown 4xx too: whether it is this object's fault shows when others go through.
    return SinkUnavailable(text)


def _is_objects_fault(error: Answered) -> bool:
    if error.status in (413, 414) or error.reason in _NAME_OR_SIZE:
        return True
    return error.status == 400 and bool(_bad_name(error.message)) and not _bad_bucket(error.message)


def _refusal(error: Answered) -> str | None:
    """What a person can do about it; None when this is no refusal."""
    if _requester_pays(error.message):
        return "the bucket is of the kind where the requester pays, which is not supported: switch that off"
    if error.status == 400:
        if _bad_bucket(error.message):
            return "correct `bucket`"
        return "correct `storage_class`" if _bad_class(error.message) else None
    if error.status not in _REFUSED_STATUS:
        return None
    if error.reason in _HINTS:
        return _HINTS[error.reason]
    match error.status:
        case 401:
            return _CREDENTIALS
        case 403 if _lacks_scope(error.message):
            return _SCOPE
        case 403:
            return _ROLE
        case 404 if error.is_google:
            return "create the bucket, or correct `bucket`"
        case _:
            return _ENDPOINT


def parse_refusal(status: int, body: bytes) -> Answered:
    """Read the body of an error answer; uploads and tokens are also refused in plain text."""
    try:
        error = json.loads(body)["error"]
        details = error.get("errors") or [{}]
        return Answered(status, str(details[0].get("reason", "")), str(error.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        pass
    text = body[:1000].decode(errors="replace").strip()
    is_markup = text.startswith("<")
    return Answered(status, "", "" if is_markup else text, is_google=not is_markup and "<html" not in text)


def not_google(status: int, content_type: str) -> Unanswered:
    """Something answers at the endpoint, and it does not speak the JSON API."""
    kind = one_line(content_type, 60) or "no content type"
    return Unanswered(
        f"the answer is not Cloud Storage's (HTTP {status}, {kind})", refused=True, hint=_ENDPOINT
    )


def from_google_auth(error: Exception) -> Unanswered:
    """Read an error of google-auth: no credentials, or no token for them."""
    said = _said(error)
    if isinstance(error, TransportError):
        return Unanswered(f"the token service does not answer: {_without_address(said)}")
    if isinstance(error, RefreshError):
        if _skewed(said):
            return Unanswered(f"no token: {said}", refused=True, hint=_CLOCK)
        if "invalid_grant" in said or "invalid_client" in said or "unauthorized_client" in said:
            return Unanswered(f"no token: {said}", refused=True, hint=_KEY_GONE)
        if error.retryable:
            return Unanswered(f"no token for now: {said}")
        return Unanswered(f"no token: {said}", refused=True, hint=_CREDENTIALS)
    if isinstance(error, DefaultCredentialsError):
        return Unanswered(f"no credentials: {said}", refused=True, hint=_CREDENTIALS)
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str) else "the credentials file"
        reason = error.strerror or type(error).__name__
        return Unanswered(f"{name} cannot be read: {reason}", refused=True, hint=_CREDENTIALS)
    # What else google-auth says about a file that it cannot use may quote from it.
    return Unanswered(
        "the credentials are not in a form that Google's library can use", refused=True, hint=_CREDENTIALS
    )


def _said(error: Exception) -> str:
    """What it says, or what the token service said: its error and description, not the whole answer."""
    for part in error.args:
        if isinstance(part, dict) and "error" in part:
            return one_line(
                ": ".join(str(part[key]) for key in ("error", "error_description") if key in part)
            )
    return one_line(str(error.args[0]) if error.args else str(error), 200)


def _without_address(text: str) -> str:
    """The operating system's words without the object addresses of Python's HTTP client."""
    for words in (
        "Connection refused",
        "Connection reset",
        "Name or service not known",
        "No route to host",
        "Temporary failure in name resolution",
        "certificate verify failed",
        "timed out",
    ):
        if words in text:
            return words
    return one_line(text, 120)


def from_aiohttp(error: aiohttp.ClientError | OSError) -> Unanswered:
    """Read an error of aiohttp or the socket below it."""
    if isinstance(error, aiohttp.InvalidURL):
        return Unanswered("the endpoint is no URL", refused=True, hint=_ENDPOINT)
    return errors.from_aiohttp(error, "SSL_CERT_FILE")
