"""What a failed call means: the one place where answers of S3 become errors of the tree.

Calls raise `Answered` (the service said no, with a status and mostly a code) or `Unanswered`
(nothing that counts as an answer came); `classify` turns either into what a caller may see. Texts
from the service are cut to one short line, and URLs lose their query, which may carry a signature.
"""

from __future__ import annotations

import re
from html import unescape

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError

from filerbackup.errors import ObjectRejected, SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from filerbackup.sinks.objects import errors
from filerbackup.sinks.objects.errors import Unanswered, answer_text, one_line, unreachable

_THROTTLED = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException",
     "RequestLimitExceeded", "RequestThrottled", "TooManyRequests", "TooManyRequestsException"}
)  # fmt: skip
_OBJECT = frozenset(
    {"KeyTooLongError", "KeyTooLong", "InvalidObjectName", "XMinioInvalidObjectName", "InvalidURI",
     "EntityTooLarge", "MetadataTooLarge", "InvalidTag"}
)  # fmt: skip
_REFUSED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "AccountProblem", "AccountSuspended", "InvalidAccessKeyId",
     "SignatureDoesNotMatch", "NoSuchBucket", "InvalidBucketName", "ExpiredToken", "InvalidToken",
     "TokenRefreshRequired", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed",
     "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect",
     "IllegalLocationConstraintException", "NotSignedUp", "InvalidStorageClass", "InvalidSecurity",
     "NotImplemented", "MethodNotAllowed"}
)  # fmt: skip
_REFUSED_STATUS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 501})

_CREDENTIALS = "check aws_access_key_id and aws_secret_access_key, or the AWS environment and profile"
_ENDPOINT = "check `endpoint`: scheme, host and port of the S3 API, not of a web console"
_HINTS = {
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": "the temporary credentials ran out: renew them",
    "InvalidToken": "the session token is not valid: renew the credentials",
    "NoSuchBucket": "create the bucket, or correct `bucket`",
    "InvalidBucketName": "correct `bucket`",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "InvalidStorageClass": "correct `storage_class`",
    "AccessDenied": "the credentials need s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload on the bucket",
}
_OTHER_REGION = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
     "AuthorizationQueryParametersError", "IllegalLocationConstraintException"}
)  # fmt: skip

_obstore_answer = re.compile(
    r"(?:Generic S3 error: )?Error performing [A-Z]+ \S+ in \S+ - "
    r"Server returned non-2xx status code: ([0-9]{3})\b[^:]*:?(.*)",
    re.DOTALL,
).match
_code_element = re.compile(r"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>").search
_has_expired = re.compile(r"request has expired", re.IGNORECASE).search
_message_element = re.compile(r"<Message>([^<]*)</Message>").search


class Answered(Exception):
    """The service answered with an error. `region`: where the service says the bucket is."""

    def __init__(self, status: int, code: str = "", message: str = "", region: str = "") -> None:
        super().__init__(f"HTTP {status} {code}")
        self.status, self.code, self.message, self.region = status, code, message, region


def classify(error: Answered | Unanswered, what: str) -> SinkError:
    """The error for a caller; `what` names the call in a few words, such as "s3:bucket: PUT 'a/b'"."""
    if isinstance(error, Unanswered):
        return unreachable(error, what)
    text = answer_text(what, error.status, error.code, error.message)
    if error.code in _OBJECT or error.status in (413, 414):
        return ObjectRejected(text)
    if error.code in _THROTTLED or error.status == 429:
        return SinkThrottled(text)
    if error.code in _REFUSED or _is_elsewhere(error) or _is_refused(error):
        return SinkRefused(text, hint=_hint(error))
    # An unknown 4xx too: whether it is this object's fault shows when others go through.
    return SinkUnavailable(text)


def _is_refused(error: Answered) -> bool:
    """A refusal without a code of S3's: HEAD has no body, and other servers answer in HTML."""
    return not error.code and error.status in _REFUSED_STATUS


def _is_elsewhere(error: Answered) -> bool:
    """Whether the bucket is in another region; Amazon names the region in other refusals too."""
    if error.code in _OTHER_REGION:
        return True
    return bool(error.region) and not error.code and error.status in (301, 307, 400)


def _hint(error: Answered) -> str:
    if _is_elsewhere(error):
        if error.region:
            return f"set region = {one_line(error.region, 60)!r}: the bucket is there"
        return "correct `region`: the bucket is in another one"
    if not error.code:
        return _HINTS["AccessDenied"] if error.status in (401, 403) else _ENDPOINT
    if error.code == "AccessDenied" and _has_expired(error.message):
        return _HINTS["RequestTimeTooSkewed"]
    return _HINTS.get(error.code, "")


def from_obstore(error: BaseError | FileNotFoundError, name: str) -> Answered | Unanswered:
    """Read an error of obstore, which carries the answer only in its text.

    What stands before the answer may quote the object's name, which must not be read as an answer.
    """
    text = str(error).partition("\n\nDebug source:")[0]
    for quoted in (f" for path {name}: ", f" at location {name} not found: "):
        text = text.partition(quoted)[2] or text
    found = _obstore_answer(text)
    if found is not None:
        code, message = _code_element(found[2]), _message_element(found[2])
        return Answered(int(found[1]), code[1] if code else "", unescape(message[1]) if message else "")
    if isinstance(error, FileNotFoundError):
        return Answered(404, "NoSuchBucket")
    if isinstance(error, PermissionDeniedError):
        return Answered(403)
    if isinstance(error, UnauthenticatedError):
        return Unanswered("no valid credentials", refused=True, hint=_CREDENTIALS)
    reason = text.rpartition(" - ")[2] if " - " in text else text
    return Unanswered(f"no answer: {_connection_problem(str(error)) or one_line(reason, 120)}")


def is_distrust(error: BaseError | FileNotFoundError) -> bool:
    """Whether obstore did not accept the server's certificate; other clients may."""
    return (
        isinstance(error, GenericError)
        and "InvalidCertificate(" in str(error).partition("\n\nDebug source:")[2]
    )


def _connection_problem(text: str) -> str:
    """The operating system's own words, where the debug text of obstore has them."""
    for words in ("Connection refused", "Connection reset", "failed to lookup address", "TimedOut",
                  "Network is unreachable", "No route to host"):  # fmt: skip
        if words in text:
            return "timed out" if words == "TimedOut" else words
    return ""


def from_botocore(error: ClientError | BotoCoreError) -> Answered | Unanswered:
    """Read an error of botocore."""
    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = str(answer.get("Region", "") or headers.get("x-amz-bucket-region", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        # An answer without a body has its status as the code.
        return Answered(status, "" if code.isdecimal() else code, str(answer.get("Message", "")), region)
    if isinstance(error, NoCredentialsError) or "Credential" in type(error).__name__:
        return Unanswered("no credentials were found", refused=True, hint=_CREDENTIALS)
    return Unanswered(f"no answer: {one_line(str(error), 200)}")


def from_aiohttp(error: aiohttp.ClientError | OSError) -> Unanswered:
    """Read an error of aiohttp or the socket below it."""
    return errors.from_aiohttp(error, "`ca_file` (or AWS_CA_BUNDLE)")


def not_s3(status: int, content_type: str) -> Unanswered:
    """Something answers at the endpoint, and it does not speak S3."""
    kind = one_line(content_type, 60) or "no content type"
    return Unanswered(f"the answer is not S3's (HTTP {status}, {kind})", refused=True, hint=_ENDPOINT)
