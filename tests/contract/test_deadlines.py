"""A server that takes everything and says nothing: noticed in time, and the same call goes through later."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.backblaze import api as b2_api
from filerbackup.sinks.base import Sink
from filerbackup.sinks.gcs import bucket as gcs_bucket
from filerbackup.sinks.gcs import http as gcs_http
from tests.contract.messages import said_by
from tests.contract.place import Place
from tests.contract.test_faults import keys, opened, write, write_large
from tests.support.proxy import Proxy

SHORT_S = 0.3
PATIENCE_S = 8.0
"""Far above the patched deadlines, far below the real ones."""
_MODULES = ("s3.bucket", "s3.pace", "s3.signed", "s3.multipart", "azure.container", "azure.http", "gcs.http",
            "backblaze.api", "objects.http")  # fmt: skip


@pytest_asyncio.fixture
async def proxy(place: Place) -> AsyncIterator[Proxy]:
    if not place.endpoint:
        pytest.skip("no HTTP")
    async with Proxy(place.endpoint).running() as proxy:
        yield proxy


@pytest_asyncio.fixture
async def sink(place: Place, proxy: Proxy) -> AsyncIterator[Sink]:
    async with opened(place.sink(proxy.endpoint)) as sink:
        yield sink
        proxy.fault = None


async def swallows(_request: web.Request, _body: bytes) -> web.Response:
    """A fault: the request is there, and that was all."""
    await asyncio.sleep(60)
    return web.Response()


async def test_a_silent_server_is_noticed(
    sink: Sink, proxy: Proxy, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(sink, "old", b"the version before")
    with monkeypatch.context() as patched:
        shorten(patched)
        proxy.fault = swallows
        for call in (
            lambda: write(sink, "old", b"newer"),
            lambda: write(sink, "medium", bytes(1 << 20)),
            lambda: write_large(sink, "large"),
            lambda: sink.delete("old"),
            lambda: sink.stat("old"),
            lambda: keys(sink),
            lambda: first_block(sink, "old"),
        ):
            with said_by(place, SinkUnavailable):
                await asyncio.wait_for(call(), PATIENCE_S)
        proxy.fault = None
    assert await place.content("old") == b"the version before"
    await write(sink, "old", b"newer")
    assert await place.content("old") == b"newer"


def shorten(patched: pytest.MonkeyPatch) -> None:
    """All deadlines of requests, in every module that has taken one over."""
    for name in _MODULES:
        module = importlib.import_module(f"filerbackup.sinks.{name}")
        for constant, value in (("CALL_S", SHORT_S), ("STALL_S", SHORT_S), ("SLOWEST_BYTES_PER_S", 1 << 40)):
            if hasattr(module, constant):
                patched.setattr(module, constant, value)
    for call in (gcs_http.Http.call, gcs_bucket.Bucket._conditional, b2_api.Api.call):
        patched.setitem(call.__kwdefaults__ or {}, "deadline_s", SHORT_S)


async def first_block(sink: Sink, key: str) -> None:
    async for _ in sink.read(key):
        return
