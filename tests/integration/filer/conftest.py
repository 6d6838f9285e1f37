"""A sink on a filer, and a look at it from beside."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from filerbackup.settings.model import FilerSinkSettings, SecuritySettings, SourceSettings
from filerbackup.sinks.filer import FilerSink
from filerbackup.sinks.filer.uploads import Sizes
from tests.support.filer_looks import Looks
from tests.support.weed import WeedServer, running_weed

SMALL_CHUNKS = Sizes(chunk_bytes=64 << 10, concurrency=4, manifest_chunks=50)


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """One with room for many collections, which take seven volumes each."""
    with running_weed(tmp_path_factory.mktemp("target"), volume_max=300) as server:
        yield server


@pytest.fixture
def looks(weed: WeedServer) -> Iterator[Looks]:
    looks = Looks(weed)
    yield looks
    looks.close()


@pytest.fixture
def folder() -> str:
    """A directory for one test."""
    return f"/sink-{secrets.token_hex(4)}"


def settings_for(weed: WeedServer, folder: str, **more: object) -> FilerSinkSettings:
    values = {"grpc_address": weed.filer_grpc, "directory": folder, **more}
    return FilerSinkSettings("filer", **values)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(
    weed: WeedServer,
    folder: str,
    *,
    security: SecuritySettings | None = None,
    source: SourceSettings | None = None,
    sizes: Sizes | None = None,
    **more: object,
) -> AsyncIterator[FilerSink]:
    sink = FilerSink(settings_for(weed, folder, **more), security, source=source, sizes=sizes)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def live_needles(weed: WeedServer, collection: str) -> int:
    """How many needles there are in all volumes of a collection."""
    connection = http.client.HTTPConnection("127.0.0.1", weed.volume_port, timeout=30)
    try:
        connection.request("GET", "/status")
        volumes = json.loads(connection.getresponse().read())["Volumes"] or []
    finally:
        connection.close()
    mine = [volume for volume in volumes if volume["Collection"] == collection]
    return sum(volume["FileCount"] - volume["DeleteCount"] for volume in mine)
