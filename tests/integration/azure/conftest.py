"""A container of its own for each test, a store and a sink on it, and a proxy on the way there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from filerbackup.settings.model import AzureSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.azure import AzureStore, azure_sink
from filerbackup.sinks.objects.sink import ObjectSink
from tests.support.azurite import ACCOUNT, KEY, AzuriteServer, Peer, peer_of
from tests.support.proxy import Proxy
from tests.support.sinks import opened

MakeSettings = Callable[..., AzureSettings]


@pytest_asyncio.fixture
async def peer(azurite: AzuriteServer) -> AsyncIterator[Peer]:
    """Another client of a container that is new."""
    async with peer_of(azurite, f"c-{secrets.token_hex(6)}") as peer:
        yield peer


@pytest.fixture
def settings(azurite: AzuriteServer, peer: Peer) -> MakeSettings:
    """Settings for that container, with changes."""

    def make(**changes: object) -> AzureSettings:
        given: dict[str, object] = {
            "directory": "/copy",
            "container": peer.client.container_name,
            "endpoint": azurite.blob_endpoint,
            "account_name": ACCOUNT,
            "account_key": Secret(KEY),
        }
        return AzureSettings("azure", **(given | changes))  # type: ignore[arg-type]

    return make


@pytest_asyncio.fixture
async def store(settings: MakeSettings) -> AsyncIterator[AzureStore]:
    """Open, straight at the server."""
    async with opened(AzureStore(settings())) as store:
        yield store


@pytest_asyncio.fixture
async def sink(settings: MakeSettings) -> AsyncIterator[ObjectSink]:
    """Open, straight at the server."""
    async with opened(azure_sink(settings(directory_markers=True))) as sink:
        yield sink


@pytest_asyncio.fixture
async def proxy(azurite: AzuriteServer) -> AsyncIterator[Proxy]:
    """On the way to the server."""
    async with Proxy(azurite.endpoint).running() as proxy:
        yield proxy


@pytest_asyncio.fixture
async def behind(settings: MakeSettings, proxy: Proxy) -> AsyncIterator[AzureStore]:
    """A store that is open, and reaches the server through the proxy."""
    async with opened(AzureStore(settings(endpoint=f"{proxy.endpoint}/{ACCOUNT}"))) as store:
        proxy.requests.clear()
        yield store
