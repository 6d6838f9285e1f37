"""Key management services that SeaweedFS's S3 gateway can use, asked to unwrap a data key.

The gateway puts what the service gave into an envelope that names the provider (seen with weed 4.48; its
local provider has a form of its own, and keys that never leave its memory). Who may ask is configured
where SeaweedFS's own replication looks: `[kms.providers.<name>]` of `security.toml`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp

from filerbackup.errors import KeyMissing, SourceRefused, SourceUnreachable, Unreadable, UsageError
from filerbackup.filer.tls import Keys, tls_context
from filerbackup.settings.model import KmsSettings

CALL_S = 20.0
"""The deadline of one question."""

_LARGEST_ANSWER_BYTES = 64 << 10
_LARGEST_ENVELOPE_BYTES = 32 << 10
_NO_SUCH_KEY = frozenset(
    {
        "AccessDeniedException", "DisabledException", "IncorrectKeyException", "InvalidCiphertextException",
        "InvalidKeyUsageException", "KMSInvalidStateException", "NotFoundException", "ValidationException",
    }
)  # fmt: skip
"""What AWS KMS says when it is this one key that cannot be had."""
_NOT_NOW = frozenset(
    {
        "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException",
        "LimitExceededException", "ThrottlingException",
    }
)  # fmt: skip
"""What it says when the same question may be answered later (API reference, Decrypt)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A wrapped data key: who wrapped it, under which key, and what the service calls its ciphertext."""

    provider: str
    key_id: str = ""
    ciphertext: str = field(default="", repr=False)


class Kms(Protocol):
    """One configured service."""

    providers: frozenset[str]

    async def decrypt(self, envelope: Envelope, context: Mapping[str, str]) -> bytes:
        """The data key. Raises KeyMissing, SourceRefused, SourceUnreachable."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def envelope_of(wrapped: bytes) -> Envelope:
    """Raises Unreadable."""
    try:
        found = json.loads(wrapped) if len(wrapped) <= _LARGEST_ENVELOPE_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        if "encryptedData" in found and "nonce" in found:
            return Envelope("local")
        values = (found.get("provider"), found.get("key_id"), found.get("ciphertext"))
        match values:
            case (str(provider), str(key_id), str(ciphertext)) if provider and ciphertext:
                return Envelope(provider[:64], key_id, ciphertext)
    raise Unreadable("the SSE-KMS data key is in no form that is known here")


def make_kms(settings: KmsSettings) -> Kms | None:
    """The service, not connected yet; None for a type that cannot be asked. Raises UsageError."""
    match settings.kind:
        case "aws":
            return AwsKms(settings)
        case "openbao" | "vault":
            return TransitKms(settings)
    return None


class AwsKms:
    """AWS KMS, or what speaks its protocol at `endpoint`."""

    providers = frozenset({"aws"})

    def __init__(self, settings: KmsSettings) -> None:
        try:
            import aiobotocore.session  # noqa: PLC0415  an extra of the package
        except ImportError as error:
            raise UsageError(
                f"kms.providers.{settings.name} needs the package {error.name}, which is not installed",
                hint="pip install 'filerbackup[s3]'",
            ) from error
        self._settings = settings
        self._new_session = aiobotocore.session.AioSession
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._owned = AsyncExitStack()

    async def decrypt(self, envelope: Envelope, context: Mapping[str, str]) -> bytes:
        """The data key. Raises KeyMissing, SourceRefused, SourceUnreachable."""
        from botocore import exceptions as sdk  # noqa: PLC0415

        blob = _blob(envelope.ciphertext)
        what = f"AWS KMS ({self._settings.name})"
        try:
            async with asyncio.timeout(CALL_S):
                client = await self._connected()
                answer = await client.decrypt(CiphertextBlob=blob, EncryptionContext=dict(context))
        except sdk.ClientError as error:
            raise _refusal(what, error.response) from None
        except (sdk.HTTPClientError, sdk.ConnectionError, TimeoutError, OSError) as error:
            raise SourceUnreachable(f"{what}: {type(error).__name__}") from None
        except (sdk.BotoCoreError, ValueError) as error:
            raise SourceRefused(
                f"{what}: {type(error).__name__}", hint=f"check [kms.providers.{self._settings.name}]"
            ) from None
        return bytes(answer.get("Plaintext") or b"")

    async def close(self) -> None:
        """Close connections."""
        await self._owned.aclose()

    async def _connected(self) -> Any:  # noqa: ANN401  the SDK makes its clients' types at run time
        async with self._opening:
            if self._client is None:
                self._client = await self._owned.enter_async_context(self._create())
            return self._client

    def _create(self) -> Any:  # noqa: ANN401
        from aiobotocore.config import AioConfig  # noqa: PLC0415

        from filerbackup.aws_transport import StraightTransport  # noqa: PLC0415  imports the SDK

        settings = self._settings
        session = self._new_session(profile=settings.profile or None)
        arguments: dict[str, Any] = {"region_name": settings.region or "us-east-1"}
        if settings.endpoint:
            arguments["endpoint_url"] = settings.endpoint
        if settings.access_key_id:
            arguments["aws_access_key_id"] = settings.access_key_id
            arguments["aws_secret_access_key"] = settings.secret_access_key.reveal()
            arguments["aws_session_token"] = settings.session_token.reveal() or None
        # Who asks for the object tries again; tries of the SDK's own would multiply.
        config = AioConfig(
            http_session_cls=StraightTransport,
            connect_timeout=10,
            read_timeout=CALL_S,
            retries={"total_max_attempts": 1},
        )
        return session.create_client("kms", config=config, **arguments)


def _refusal(what: str, response: Mapping[str, Any]) -> Exception:
    code = str(response.get("Error", {}).get("Code", "?"))[:80]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NO_SUCH_KEY:
        return KeyMissing(f"encrypted with SSE-KMS, and {what} does not unwrap the key: {code}")
    if code in _NOT_NOW or status >= 500 or status == 429:
        return SourceUnreachable(f"{what}: {code}")
    return SourceRefused(f"{what}: {code}", hint="check its credentials and rights (kms:Decrypt)")


class TransitKms:
    """The transit engine of OpenBao or HashiCorp Vault. Raises UsageError for unusable TLS files."""

    providers = frozenset({"openbao", "vault"})

    def __init__(self, settings: KmsSettings) -> None:
        self._settings = settings
        self._what = f"{settings.kind} ({settings.name})"
        self._base = settings.endpoint.rstrip("/") + "/v1/"
        self._token = settings.token.reveal()
        above = f"kms.providers.{settings.name}"
        names = Keys(f"{above}.ca_cert", f"{above}.client_cert", f"{above}.client_key")
        self._tls = tls_context(settings.tls, names) if settings.tls.ca or settings.tls.cert else True
        self._signing_in = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def decrypt(self, envelope: Envelope, context: Mapping[str, str]) -> bytes:
        """The data key. Raises KeyMissing, SourceRefused, SourceUnreachable."""
        body = {"ciphertext": envelope.ciphertext}
        if context:
            body["context"] = base64.b64encode(_as_go_writes(context)).decode()
        path = f"{self._settings.transit_path.strip('/')}/decrypt/{quote(envelope.key_id, safe='')}"
        token = self._token or await self._sign_in("")
        status, answer = await self._post(path, body, token)
        if status == 403 and self._settings.role_id:
            status, answer = await self._post(path, body, await self._sign_in(token))
        if status in (400, 404):
            raise KeyMissing(
                f"encrypted with SSE-KMS, and {self._what} does not unwrap the key: HTTP {status}"
            )
        data = answer.get("data")
        plain = data.get("plaintext") if isinstance(data, dict) else None
        if status != 200 or not isinstance(plain, str):
            raise self._failed(status)
        return _blob(plain)

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def _sign_in(self, refused: str) -> str:
        """A token by AppRole, a new one if it is still the refused one."""
        async with self._signing_in:
            if self._token and self._token != refused:
                return self._token
            settings = self._settings
            body = {"role_id": settings.role_id, "secret_id": settings.secret_id.reveal()}
            status, answer = await self._post("auth/approle/login", body, "")
            found = answer.get("auth")
            token = found.get("client_token") if isinstance(found, dict) else None
            if status != 200 or not isinstance(token, str) or not token:
                raise self._failed(status)
            self._token = token
            return token

    async def _post(self, path: str, body: Mapping[str, str], token: str) -> tuple[int, dict[str, Any]]:
        headers = {"X-Vault-Token": token} if token else {}
        try:
            async with (
                asyncio.timeout(CALL_S),
                self._connected().post(
                    self._base + path, json=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                found = json.loads(await self._body(response)) if response.status == 200 else {}
                return response.status, found if isinstance(found, dict) else {}
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SourceUnreachable(f"{self._what}: {type(error).__name__}") from None
        except (ValueError, RecursionError):
            raise SourceUnreachable(f"{self._what}: an answer that is not JSON") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for block in response.content.iter_any():
            body += block
            if len(body) > _LARGEST_ANSWER_BYTES:
                raise SourceUnreachable(f"{self._what}: an answer of over {_LARGEST_ANSWER_BYTES >> 10} KiB")
        return bytes(body)

    def _failed(self, status: int) -> Exception:
        if status in (401, 403):
            name = self._settings.name
            return SourceRefused(
                f"{self._what}: HTTP {status}", hint=f"check the token of [kms.providers.{name}]"
            )
        return SourceUnreachable(f"{self._what}: HTTP {status}")

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls))
        return self._session


def _blob(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("the SSE-KMS data key is not base64") from None


def _as_go_writes(context: Mapping[str, str]) -> bytes:
    """The context as Go's encoder writes it, which is what the gateway gave the service."""
    text = json.dumps(dict(sorted(context.items())), ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace")
