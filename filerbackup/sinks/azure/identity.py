"""Tokens of Entra ID, by the chain of `azure-identity`: environment, workload or managed identity, CLI."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential

from filerbackup.sinks.azure.errors import no_identity
from filerbackup.sinks.objects.errors import Unanswered

SCOPE = "https://storage.azure.com/.default"
TOKEN_S = 60.0
"""Finding a token may ask services on the network, one after the other."""
_RENEW_S = 300.0
"""A token that is about to end is renewed this long before."""


class Credential(Protocol):
    """What is needed of a credential of azure-identity."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # noqa: ANN401  the SDK's options
        """A token for these scopes."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def default_credential(client_id: str) -> Credential:
    """The usual chain; `client_id` names the managed identity (or workload identity) to take."""
    chosen = {"managed_identity_client_id": client_id, "workload_identity_client_id": client_id}
    return DefaultAzureCredential(**(chosen if client_id else {}))


class Tokens:
    """One token for all requests, renewed before it ends; asked for once, whoever waits for it.

    Also the SDK's credential, for the calls that it makes.
    """

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._known: AccessToken | None = None
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for some minutes. Raises Unanswered."""
        return (await self._fresh()).token

    async def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        """What the SDK asks a credential. Raises Unanswered."""
        return await self._fresh()

    def forget(self) -> None:
        """The token was refused: the next request gets another."""
        self._known = None

    async def close(self) -> None:
        """Close the credential's connections."""
        await self._credential.close()

    async def __aenter__(self) -> Tokens:
        """Part of what the SDK calls a credential."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """The SDK's clients do not own it."""

    async def _fresh(self) -> AccessToken:
        known = self._known
        if known is not None and known.expires_on - time.time() > _RENEW_S:
            return known
        async with self._lock:
            if self._known is None or self._known is known:
                self._known = await self._ask(known)
            return self._known

    async def _ask(self, known: AccessToken | None) -> AccessToken:
        try:
            async with asyncio.timeout(TOKEN_S):
                return await self._credential.get_token(SCOPE)
        except TimeoutError:
            problem = Unanswered(f"no token for the blob service in {TOKEN_S:.0f} s")
        except AzureError as error:
            problem = no_identity(error)
        # Entra may be down for a while: what there is does until it has really ended.
        if known is not None and known.expires_on > time.time():
            return known
        raise problem
