"""The store and the sink on fake-gcs-server, also behind a proxy that answers as Google would."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from filerbackup.settings.model import GcsSettings
from filerbackup.sinks.base import Sink
from filerbackup.sinks.gcs import GcsStore, gcs_sink
from filerbackup.sinks.metadata import ObjectMetadata
from tests.support import sinks
from tests.support.gcs import GcsPeer, GcsServer, TokenServer, gcs_peer
from tests.support.proxy import Proxy

BUCKET = "copies"
MIB = 1 << 20
PLAIN = ObjectMetadata(content_type="text/plain", user={"mtime": "2020-09-13T12:26:40Z"})


@pytest.fixture
def peer(gcs: GcsServer) -> Iterator[GcsPeer]:
    with gcs_peer(gcs, BUCKET) as peer:
        yield peer


@pytest_asyncio.fixture
async def proxy(gcs: GcsServer, peer: GcsPeer) -> AsyncIterator[Proxy]:
    async with Proxy(gcs.endpoint).running() as proxy:
        yield proxy


@pytest_asyncio.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    async with TokenServer().running() as tokens:
        yield tokens


def settings(endpoint: str, folder: str, **changes: Any) -> GcsSettings:
    given = GcsSettings(
        "google_cloud_storage",
        directory=f"/{folder}",
        bucket=BUCKET,
        endpoint=endpoint,
        part_size_bytes=MIB,
    )
    return dataclasses.replace(given, **changes)


def opened(of: GcsSettings) -> AbstractAsyncContextManager[GcsStore]:
    return sinks.opened(GcsStore(of))


def opened_sink(of: GcsSettings) -> AbstractAsyncContextManager[Sink]:
    return sinks.opened(gcs_sink(of))


@pytest_asyncio.fixture
async def store(gcs: GcsServer, folder: str, peer: GcsPeer) -> AsyncIterator[GcsStore]:
    async with opened(settings(gcs.endpoint, folder)) as store:
        yield store


@pytest_asyncio.fixture
async def sink(gcs: GcsServer, folder: str, peer: GcsPeer) -> AsyncIterator[Sink]:
    async with opened_sink(settings(gcs.endpoint, folder)) as sink:
        yield sink


@pytest_asyncio.fixture
async def behind(proxy: Proxy, folder: str) -> AsyncIterator[GcsStore]:
    """The store behind the proxy."""
    async with opened(settings(proxy.endpoint, folder)) as store:
        yield store


def google_error(status: int, reason: str, message: str = "told so by a test") -> web.Response:
    """An error answer as the JSON API writes it."""
    error = {"code": status, "message": message, "errors": [{"domain": "global", "reason": reason}]}
    return web.Response(status=status, text=json.dumps({"error": error}), content_type="application/json")
