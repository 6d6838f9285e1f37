"""The store and the sink on fake-gcs-server, also behind a proxy that answers as Google would."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from filerbackup.content import InlineContent
from filerbackup.events import Entry
from filerbackup.settings.model import GcsSettings
from filerbackup.sinks.base import Sink
from filerbackup.sinks.gcs import GcsStore, gcs_sink
from filerbackup.sinks.metadata import ObjectMetadata
from tests.contract.contents import file_entry
from tests.support.gcs import GcsPeer, GcsServer, TokenServer, gcs_peer
from tests.support.proxy import Proxy

BUCKET = "copies"
MIB = 1 << 20
PLAIN = ObjectMetadata(content_type="text/plain", user={"mtime": "2020-09-13T12:26:40Z"})


@pytest.fixture
def peer(gcs: GcsServer) -> Iterator[GcsPeer]:
    with gcs_peer(gcs, BUCKET) as peer:
        yield peer


@pytest.fixture
def folder() -> str:
    return f"f-{secrets.token_hex(4)}"


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


@asynccontextmanager
async def opened(of: GcsSettings) -> AsyncIterator[GcsStore]:
    store = GcsStore(of)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_sink(of: GcsSettings) -> AsyncIterator[Sink]:
    sink = gcs_sink(of)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


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


async def write(sink: Sink, key: str, data: bytes = b"data", **attributes: Any) -> Entry:
    entry = dataclasses.replace(file_entry(key, len(data)), **attributes)
    await sink.write(key, entry, InlineContent(data, entry.md5))
    return entry


def google_error(status: int, reason: str, message: str = "told so by a test") -> web.Response:
    """An error answer as the JSON API writes it."""
    error = {"code": status, "message": message, "errors": [{"domain": "global", "reason": reason}]}
    return web.Response(status=status, text=json.dumps({"error": error}), content_type="application/json")
