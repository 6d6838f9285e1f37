"""Where an account's blob service is, and the clients that speak with one container of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from filerbackup.errors import UsageError
from filerbackup.settings.model import AzureSettings
from filerbackup.sinks.azure.changes import Changes
from filerbackup.sinks.azure.container import Container
from filerbackup.sinks.azure.http import ContainerHttp
from filerbackup.sinks.azure.identity import Tokens, default_credential
from filerbackup.sinks.azure.signing import Bearer, SharedKey, Signer
from filerbackup.sinks.objects.http import new_session, proxy_of, tls_of

_DEFAULT_CONCURRENCY = 64


@dataclass(frozen=True, slots=True)
class Account:
    """One storage account. `endpoint`: URL of its blob service, without a slash behind."""

    name: str
    endpoint: str

    @property
    def identity(self) -> str:
        """The endpoint, and the account where the endpoint does not name it (a domain of one's own)."""
        parts = urlsplit(self.endpoint)
        named = parts.netloc.split(".")[0] == self.name or self.name in parts.path.split("/")
        return self.endpoint if named or not self.name else f"{self.endpoint}?account={self.name}"


def account_of(settings: AzureSettings) -> Account:
    """The account that the settings mean. Raises UsageError."""
    where = f"[sink.{settings.name}]"
    if not settings.container:
        raise UsageError(f"{where} has no `container`")
    endpoint = settings.endpoint.rstrip("/")
    if not endpoint:
        if not settings.account_name:
            raise UsageError(f"{where} has no `account_name`", hint="or set `endpoint`")
        endpoint = f"https://{settings.account_name}.blob.core.windows.net"
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{where} endpoint is not the URL of a blob service, as https://host")
    name = settings.account_name or _named_by(endpoint)
    if settings.account_key and not name:
        raise UsageError(f"{where} has an account_key and no `account_name`")
    if not settings.account_key and parts.scheme == "http":
        raise UsageError(
            f"{where} sends tokens over https only, and endpoint is http://",
            hint="set account_key, or use https",
        )
    return Account(name, endpoint)


def _named_by(endpoint: str) -> str:
    host = urlsplit(endpoint).hostname or ""
    return host.split(".")[0] if ".blob." in host else ""


@dataclass(frozen=True, slots=True)
class Connection:
    """What the store works with; `close` once."""

    container: Container
    changes: Changes
    _owned: AsyncExitStack

    async def close(self) -> None:
        """Close everything; waits for nothing that runs."""
        await self._owned.aclose()


async def connect(settings: AzureSettings, account: Account, key: SharedKey | None) -> Connection:
    """Make the clients; nothing is asked of the service yet. Without a key, tokens are used."""
    async with AsyncExitStack() as stack:
        credential: dict[str, str] | Tokens
        signer: Signer
        if key is None:
            credential = Tokens(await asyncio.to_thread(default_credential, settings.client_id))
            stack.push_async_callback(credential.close)
            signer = Bearer(credential)
        else:
            credential = {"account_name": account.name, "account_key": settings.account_key.reveal()}
            signer = key
        session = new_session(
            _connections(settings), await tls_of(account.endpoint), unsent=("Content-Type", "Accept")
        )
        proxy = proxy_of(account.endpoint)
        http = ContainerHttp(session, signer, f"{account.endpoint}/{settings.container}", proxy)
        container = Container(http, signer)
        stack.push_async_callback(container.close)
        changes = Changes(session, account.endpoint, settings.container, credential, proxy)
        stack.push_async_callback(changes.close)
        return Connection(container, changes, stack.pop_all())
    raise AssertionError  # the block returns or raises


def _connections(settings: AzureSettings) -> int:
    """Enough that no block of an upload waits for a connection while its deadline runs."""
    return (settings.concurrency or _DEFAULT_CONCURRENCY) * (settings.part_concurrency + 1)
