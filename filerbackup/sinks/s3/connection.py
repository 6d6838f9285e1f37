"""Connections to one bucket: the SDK's client, obstore's store and an HTTP session, on one identity.

aiobotocore finds the credentials (settings, environment, profile, container, instance), keeps them
fresh and makes the calls with XML in them. obstore carries small objects: 0.25 ms of CPU for a put
of 4 KiB where the SDK takes 1.0 ms (measured on loopback). It asks back for the SDK's credentials.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader
from botocore.utils import get_environ_proxies
from obstore.store import S3Store

from filerbackup.aws_transport import StraightTransport
from filerbackup.errors import SinkRefused, SinkUnavailable
from filerbackup.settings.model import S3Settings
from filerbackup.sinks.objects.errors import Unanswered, one_line
from filerbackup.sinks.objects.http import CONNECT_S, USER_AGENT, new_session, tls_of
from filerbackup.sinks.s3.client import S3Client
from filerbackup.sinks.s3.errors import classify, from_botocore
from filerbackup.sinks.s3.signed import SignedHttp

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

OPEN_S = 60.0
"""Finding credentials may ask services on the network."""
PUT_LIMIT_S = 900.0
"""The clients' own last deadline; `bucket` sets one for each call that comes first."""
SETTLE_S = 0.05
_CREDENTIALS_FRESH = timedelta(seconds=60)
_DEFAULT_CONCURRENCY = 64
_GLOBAL = {"aws-global": "us-east-1", None: "us-east-1"}
"""What the SDK calls the region when none was given, and what it signs for then."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What `bucket` works with; `close` once."""

    client: S3Client
    store: S3Store
    http: SignedHttp
    _owned: AsyncExitStack

    async def close(self) -> None:
        """Close everything; waits for nothing that runs."""
        try:
            await self._owned.aclose()
        finally:
            # obstore's threads let go of the interpreter a moment after their results have arrived.
            # A process that ends within that moment is aborted (seen with obstore 0.12).
            await asyncio.sleep(SETTLE_S)


class Credentials:
    """The SDK's credentials as obstore asks for them: again each minute where they can change."""

    def __init__(self, found: AioCredentials) -> None:
        self._found = found
        self._changes = type(found) is not AioCredentials

    async def __call__(self) -> S3Credential:
        """The credentials of this moment; the SDK renews them minutes before they expire."""
        frozen = await self._found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_FRESH if self._changes else None,
        }


async def connect(settings: S3Settings) -> Connection:
    """Find credentials and make clients; nothing is asked of the bucket yet.

    Raises SinkRefused (no credentials, unusable endpoint), SinkUnavailable (the credentials'
    service does not answer).
    """
    what = f"s3:{settings.bucket}"
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(OPEN_S):
                connection = await _connect(settings, stack)
        except TimeoutError:
            raise SinkUnavailable(f"{what}: finding credentials took over {OPEN_S:.0f} s") from None
        except (BotoCoreError, ClientError) as error:
            raise classify(from_botocore(error), what) from None
        except ValueError as error:
            # botocore's word on an endpoint, profile or region that it cannot use.
            raise SinkRefused(
                f"{what}: {one_line(str(error))}", hint="check `endpoint` and `region`"
            ) from None
        except OSError as error:
            raise SinkRefused(
                f"{what}: the file of certificate authorities cannot be read: {error.strerror}",
                hint="check `ca_file`, or AWS_CA_BUNDLE",
            ) from error
        return Connection(*connection, stack.pop_all())
    raise AssertionError  # the block returns or raises


async def _connect(settings: S3Settings, stack: AsyncExitStack) -> tuple[S3Client, S3Store, SignedHttp]:
    session = get_session()
    session.register_component("data_loader", _descriptions())
    client = await stack.enter_async_context(
        session.create_client("s3", config=_config(settings), **_arguments(settings))
    )
    _send_md5_with_deletes(client)
    client.meta.events.register_first("needs-retry.s3", _stay_in_region)
    found = await _credentials(session, settings)
    endpoint = client.meta.endpoint_url
    bundle = settings.ca_file or session.get_config_variable("ca_bundle")
    authorities = await asyncio.to_thread(Path(bundle).read_bytes) if bundle else b""
    http = new_session(_connections(settings), await tls_of(endpoint, authorities))
    signed = SignedHttp(client, http, get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme))
    stack.push_async_callback(signed.close)
    region = client.meta.region_name
    store = _store(settings, endpoint, _GLOBAL.get(region, region), Credentials(found), authorities)
    return client, store, signed


@functools.cache
def _descriptions() -> Loader:
    """The SDK's description of S3, read from its files and parsed once: that takes 0.1 s."""
    return create_loader()


def _arguments(settings: S3Settings) -> dict[str, Any]:
    arguments: dict[str, Any] = {"region_name": settings.region or None}
    if settings.endpoint:
        arguments["endpoint_url"] = settings.endpoint
    if settings.ca_file:
        arguments["verify"] = settings.ca_file
    if settings.access_key_id:
        arguments["aws_access_key_id"] = settings.access_key_id
        arguments["aws_secret_access_key"] = settings.secret_access_key.reveal()
        arguments["aws_session_token"] = settings.session_token.reveal() or None
    return arguments


def _config(settings: S3Settings) -> AioConfig:
    return AioConfig(
        http_session_cls=StraightTransport,
        connect_timeout=CONNECT_S,
        # `bucket` sets a deadline for each call; the longest is that for putting parts together.
        read_timeout=PUT_LIMIT_S,
        max_pool_connections=_concurrency(settings),
        # Who calls this sink retries; retries of the SDK's own would multiply.
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if _is_path_style(settings) else "virtual"},
        signature_version="s3v4",
        user_agent_extra=USER_AGENT,
    )


async def _credentials(session: AioSession, settings: S3Settings) -> AioCredentials:
    if settings.access_key_id:
        token = settings.session_token.reveal() or None
        return AioCredentials(settings.access_key_id, settings.secret_access_key.reveal(), token)
    found = await session.get_credentials()
    if found is None:
        missing = Unanswered(
            "no credentials were found",
            refused=True,
            hint="set aws_access_key_id and aws_secret_access_key in [sink.s3], or the usual AWS "
            "environment variables or profile",
        )
        raise classify(missing, f"s3:{settings.bucket}")
    return found


def _store(
    settings: S3Settings, endpoint: str, region: str, credentials: Credentials, authorities: bytes
) -> S3Store:
    parts = urlsplit(endpoint)
    if not _is_path_style(settings):
        endpoint = f"{parts.scheme}://{settings.bucket}.{parts.netloc}{parts.path}"
    # obstore reads AWS_* variables as well: what is set here wins over them.
    config: S3Config = {
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": region,
        "virtual_hosted_style_request": not _is_path_style(settings),
        "skip_signature": False,
        "s3_express": False,
        "disable_tagging": False,
        # The service then refuses a body that was changed on the way before it replaces anything.
        "unsigned_payload": False,
    }
    if settings.server_side_encryption:
        config["server_side_encryption"] = settings.server_side_encryption
    if settings.sse_kms_key_id:
        config["sse_kms_key_id"] = settings.sse_kms_key_id
    client_options: ClientConfig = {
        "allow_http": parts.scheme == "http",
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "pool_idle_timeout": timedelta(seconds=20),
        "pool_max_idle_per_host": str(_concurrency(settings)),
        "timeout": timedelta(seconds=PUT_LIMIT_S),
        "user_agent": USER_AGENT,
    }
    if authorities:
        client_options["root_certificate"] = authorities
    return S3Store(
        settings.bucket,
        config=config,
        client_options=client_options,
        retry_config={"max_retries": 0},
        credential_provider=credentials,
    )


def _concurrency(settings: S3Settings) -> int:
    return settings.concurrency or _DEFAULT_CONCURRENCY


def _connections(settings: S3Settings) -> int:
    """Enough that no part of an upload waits for a connection while its deadline runs."""
    return _concurrency(settings) * (settings.part_concurrency + 1)


def _is_path_style(settings: S3Settings) -> bool:
    """A bucket with a dot in its name fits no wildcard certificate."""
    return settings.force_path_style or "." in settings.bucket


def _stay_in_region(request_dict: dict[str, Any], **_event: object) -> None:
    """Handler of the SDK's event `needs-retry`: a redirect is an answer like any other.

    Else the SDK asks HeadBucket for the region, and again when that is redirected too, without an end
    (seen with aiobotocore 3.10). A bucket of another region is said and not silently gone to.
    """
    request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def _send_md5_with_deletes(client: Any) -> None:  # noqa: ANN401  the SDK's event system has no types
    """Some services take a bulk delete only with Content-MD5, which the SDK has stopped sending."""

    def add(params: dict[str, Any], **_: object) -> None:
        body = params["body"]
        raw = body.encode() if isinstance(body, str) else body
        digest = hashlib.md5(raw, usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()

    client.meta.events.register("before-call.s3.DeleteObjects", add)
