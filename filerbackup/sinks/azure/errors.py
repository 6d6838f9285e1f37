"""What a failed call means: the one place where answers of the blob service become errors of the tree.

Calls raise `Answered` (the service said no, with a status and mostly a code) or `Unanswered`
(nothing that counts as an answer came); `classify` turns either into what a caller may see. Texts
from the service are cut to one short line, and URLs lose their query, which may carry a signature.
Codes: "Blob Storage error codes" and "Common REST API error codes" of Microsoft's documentation.
"""

from __future__ import annotations

import re

import aiohttp
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from filerbackup.errors import ObjectRejected, SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from filerbackup.sinks.objects import errors
from filerbackup.sinks.objects.errors import Unanswered, answer_text, one_line, unreachable

_THROTTLED = frozenset({"ServerBusy", "OperationTimedOut", "TooManyRequests"})
_OBJECT = frozenset(
    {"InvalidResourceName", "InvalidUri", "RequestUrlFailedToParse", "MetadataTooLarge", "InvalidMetadata",
     "EmptyMetadataKey", "RequestBodyTooLarge", "BlockCountExceedsLimit", "BlobImmutableDueToPolicy",
     "BlobImmutableDueToLegalHold", "BlobArchived", "BlobBeingRehydrated", "LeaseIdMissing",
     "LeaseIdMismatchWithBlobOperation", "SnapshotsPresent", "InvalidBlobType", "InvalidBlobOrBlock",
     "UncommittedBlockCountExceedsLimit", "PathConflict", "ResourceTypeMismatch"}
)  # fmt: skip
_REFUSED = frozenset(
    {"AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch",
     "AuthorizationProtocolMismatch", "AuthorizationResourceTypeMismatch", "AuthorizationServiceMismatch",
     "AuthorizationSourceIPMismatch", "InvalidAuthenticationInfo", "NoAuthenticationInformation",
     "KeyBasedAuthenticationNotPermitted", "PublicAccessNotPermitted", "InsufficientAccountPermissions",
     "UnauthorizedBlobOverwrite", "AccountIsDisabled", "AccountNotFound", "InvalidAccountName",
     "AccountRequiresHttps", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled",
     "ResourceNotFound", "InvalidBlobTier", "AccessTierNotSupportedForBlobType", "UnsupportedHttpVerb"}
)  # fmt: skip
_REFUSED_STATUS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 501})

_ENDPOINT = (
    "check `endpoint`: the URL of the account's blob service, as https://<account>.blob.core.windows.net"
)
_CREDENTIALS = "check account_name and account_key; without a key: the identity that this machine has"
_ROLE = (
    "the identity needs the role Storage Blob Data Contributor on the container (Owner, to write tags); "
    "the account's firewall and network rules must let this machine in"
)
_DENIED = (
    "set account_key to one of the account's keys, or use an identity with Storage Blob Data Contributor"
)
_LEASED = "another program holds a lease on the blob: break the lease, then retry"
_IMMUTABLE = "an immutability policy or legal hold of the container protects it until it ends"
_TIER = "correct `storage_class`: the account does not take that access tier"
_HINTS = {
    "AuthenticationFailed": _CREDENTIALS,
    "InvalidAuthenticationInfo": _CREDENTIALS,
    "NoAuthenticationInformation": _CREDENTIALS,
    "AuthorizationFailure": _ROLE,
    "AuthorizationPermissionMismatch": _ROLE,
    "AuthorizationSourceIPMismatch": _ROLE,
    "InsufficientAccountPermissions": _DENIED,
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: leave account_key empty",
    "UnauthorizedBlobOverwrite": _ROLE,
    "AccountIsDisabled": "enable the storage account, or pay its subscription",
    "AccountNotFound": "correct `account_name`",
    "InvalidAccountName": "correct `account_name`",
    "AccountRequiresHttps": "set `endpoint` to an https:// URL",
    "ContainerNotFound": "create the container, or correct `container`",
    "ContainerBeingDeleted": "the container was just deleted: wait half a minute, then create it again",
    "ContainerDisabled": "an administrator has disabled the container",
    "ResourceNotFound": _ENDPOINT,
    "InvalidBlobTier": _TIER,
    "AccessTierNotSupportedForBlobType": _TIER,
    "BlobArchived": "set its access tier to Hot or Cool, wait until it is rehydrated, then retry",
    "BlobBeingRehydrated": "wait until it is rehydrated, then retry",
    "LeaseIdMissing": _LEASED,
    "LeaseIdMismatchWithBlobOperation": _LEASED,
    "BlobImmutableDueToPolicy": _IMMUTABLE,
    "BlobImmutableDueToLegalHold": _IMMUTABLE,
    "InvalidBlobOrBlock": "blocks of another program's broken upload are in the way: "
    "they vanish after a week, or when that blob is overwritten",
    "PathConflict": "in this account with hierarchical namespace a directory or a file is in the way",
    "ResourceTypeMismatch": "in this account with hierarchical namespace a directory or a file is in the way",
}  # fmt: skip
_SKEW_S = 600.0

_old_date = re.compile(
    r"date header (?:in the request )?(?:too old|is incorrect)|not (?:yet )?valid", re.I
).search
_expired = re.compile(r"expired|Lifetime validation failed", re.I).search


class Answered(Exception):
    """The service answered with an error. `skew_s`: how far this machine's clock is from the service's."""

    def __init__(
        self, status: int, code: str = "", message: str = "", *, detail: str = "", skew_s: float = 0.0
    ) -> None:
        super().__init__(f"HTTP {status} {code}")
        self.status, self.code, self.message, self.detail = status, code, message, detail
        self.skew_s = skew_s

    @property
    def token_expired(self) -> bool:
        """Whether the token was too old: another may do."""
        return self.status == 401 and (not self.code or _expired(self.message + self.detail) is not None)


def classify(error: Answered | Unanswered, what: str) -> SinkError:
    """The error for a caller; `what` names the call in a few words, such as "azure:box: PUT 'a/b'"."""
    if isinstance(error, Unanswered):
        return unreachable(error, what)
    text = answer_text(what, error.status, error.code, error.message)
    hint = _hint(error)
    if error.code in _THROTTLED or error.status == 429:
        return SinkThrottled(text)
    if error.code in _OBJECT or error.status in (413, 414):
        return ObjectRejected(text, hint=hint)
    if error.code in _REFUSED or (not error.code and error.status in _REFUSED_STATUS):
        return SinkRefused(text, hint=hint)
    # An unknown 4xx too: whether it is this object's fault shows when others go through.
    return SinkUnavailable(text, hint=hint)


def _hint(error: Answered) -> str:
    if error.code in ("AuthenticationFailed", "InvalidAuthenticationInfo") or error.status == 401:
        if abs(error.skew_s) > _SKEW_S:
            return f"set the clock of this machine: it is {abs(error.skew_s):.0f} s off the service's"
        if _old_date(error.detail):
            return "set the clock of this machine, and check account_key"
        if _expired(error.message + error.detail):
            return "the token ran out: renew the credentials of this machine's identity"
    if "failed to authenticate" in error.message:
        # Azurite has another code for it.
        return _CREDENTIALS
    if not error.code:
        return _ROLE if error.status in (401, 403) else _ENDPOINT
    return _HINTS.get(error.code, "")


def from_sdk(error: AzureError) -> Answered | Unanswered:
    """Read an error of the SDK, also of its identity part."""
    if isinstance(error, ClientAuthenticationError) and error.response is None:
        return no_identity(error)
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        code = getattr(error, "error_code", "")
        message = str(error.message or "").partition("\n")[0]
        return Answered(error.status_code, str(getattr(code, "value", code) or ""), message)
    cause = error.__cause__ or getattr(error, "inner_exception", None)
    if isinstance(cause, aiohttp.ClientError | OSError):
        return from_aiohttp(cause)
    return Unanswered(f"no answer: {type(error).__name__}")


def no_identity(error: AzureError) -> Unanswered:
    """There are no credentials, or Entra does not take them."""
    text = one_line(str(error.message or "").partition("\n")[0], 200)
    return Unanswered(
        f"no token for the blob service: {text}",
        refused=True,
        hint="set account_name and account_key in [sink.azure], or give this machine an identity "
        "(managed identity with client_id, workload identity, AZURE_CLIENT_ID and its like)",
    )


def from_aiohttp(error: aiohttp.ClientError | OSError) -> Unanswered:
    """Read an error of aiohttp or the socket below it."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unanswered(f"the host {error.host} is not known", hint="check `account_name` or `endpoint`")
    return errors.from_aiohttp(error, "SSL_CERT_FILE")


def not_azure(status: int, content_type: str) -> Unanswered:
    """Something answers at the endpoint, and it is no blob service."""
    kind = one_line(content_type, 60) or "no content type"
    return Unanswered(
        f"the answer is not the blob service's (HTTP {status}, {kind})", refused=True, hint=_ENDPOINT
    )
