"""One place and one open sink on it for each test, for every sink that has a harness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from filerbackup.sinks.base import Sink
from tests.contract.harness import harnesses
from tests.contract.place import Harness, Place


@pytest.fixture(params=harnesses, ids=lambda harness: harness.name)
def harness(request: pytest.FixtureRequest) -> Harness:
    return request.param


@pytest_asyncio.fixture
async def place(harness: Harness, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with harness.place(request, tmp_path) as place:
        yield place


@pytest_asyncio.fixture
async def sink(place: Place) -> AsyncIterator[Sink]:
    sink = place.sink()
    await sink.open()
    yield sink
    await sink.close()
