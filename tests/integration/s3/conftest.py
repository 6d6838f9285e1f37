"""The S3 sink on a SeaweedFS whose gateway checks signatures, also behind a proxy that disturbs."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import pytest_asyncio

from filerbackup.errors import SinkRefused, SinkUnavailable
from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.s3 import S3Sink
from tests.support import sinks
from tests.support.proxy import Proxy
from tests.support.s3 import ACCESS_KEY, READER_SECRET, SECRET_KEY, Peer, peer_of
from tests.support.weed import WeedServer

BUCKET = "copies"
MIB = 1 << 20


@pytest.fixture
def server(guarded_weed: WeedServer) -> WeedServer:
    return guarded_weed


@pytest_asyncio.fixture
async def peer(server: WeedServer) -> AsyncIterator[Peer]:
    async with peer_of(server, BUCKET) as peer:
        yield peer


def settings(server: WeedServer, folder: str, **changes: Any) -> S3Settings:
    given = S3Settings(
        "s3",
        directory=f"/{folder}",
        bucket=BUCKET,
        region="us-east-1",
        endpoint=server.s3_endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=Secret(SECRET_KEY),
        part_size_bytes=5 * MIB,
    )
    return dataclasses.replace(given, **changes)


def opened(of: S3Settings) -> AbstractAsyncContextManager[S3Sink]:
    return sinks.opened(S3Sink(of))


@pytest_asyncio.fixture
async def sink(server: WeedServer, folder: str, peer: Peer) -> AsyncIterator[S3Sink]:
    async with opened(settings(server, folder)) as sink:
        yield sink


@pytest_asyncio.fixture
async def proxy(server: WeedServer, peer: Peer) -> AsyncIterator[Proxy]:
    async with Proxy(server.s3_endpoint).running() as proxy:
        yield proxy


async def refusal(of: S3Settings) -> SinkRefused:
    sink = S3Sink(of)
    with pytest.raises(SinkRefused) as caught:
        await sink.open()
    await sink.close()
    shown = f"{caught.value} {caught.value.hint}"
    assert "\n" not in shown
    assert len(shown) < 700
    for secret in (SECRET_KEY, READER_SECRET, "X-Amz", "wrong-secret"):
        assert secret not in shown
    with pytest.raises(SinkUnavailable):
        await sink.delete("x")
    return caught.value
