"""The way to the place is disturbed: nothing is half-written, and the same call goes through later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from filerbackup.content import InlineContent
from filerbackup.errors import SinkThrottled, SinkUnavailable
from filerbackup.sinks.base import Sink
from tests.contract.contents import StreamedContent, file_entry
from tests.contract.messages import said_by
from tests.contract.place import Place
from tests.support.proxy import Proxy, answers, hangs_up
from tests.support.victim import kill_while_writing

MIB = 1 << 20
LARGE = StreamedContent(24 * MIB)
PATIENCE_S = 60.0


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
        proxy.fault = proxy.cut_after = None


@asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Sink]:
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def write(sink: Sink, key: str, data: bytes = b"data") -> None:
    await sink.write(key, file_entry(key, len(data)), InlineContent(data))


async def write_large(sink: Sink, key: str) -> None:
    await sink.write(key, file_entry(key, LARGE.size), LARGE)


async def keys(sink: Sink) -> list[str]:
    return [listed.key async for listed in sink.list()]


@pytest.mark.parametrize(("status", "expected"), [(429, SinkThrottled), (503, SinkUnavailable)])
async def test_a_throttling_place(
    sink: Sink, proxy: Proxy, place: Place, status: int, expected: type[SinkUnavailable]
) -> None:
    await write(sink, "old", b"the version before")
    proxy.fault = answers(status, "slow down")
    for call in (
        lambda: write(sink, "old", b"newer"),
        lambda: write(sink, "new"),
        lambda: write_large(sink, "large"),
        lambda: sink.delete("old"),
        lambda: sink.delete_tree("old"),
        lambda: sink.stat("old"),
        lambda: keys(sink),
    ):
        with said_by(place, expected):
            await asyncio.wait_for(call(), PATIENCE_S)
    proxy.fault = None
    assert await place.content("old") == b"the version before"

    await write(sink, "old", b"newer")
    await write_large(sink, "large")
    assert await keys(sink) == ["large", "old"]
    assert await place.content("old") == b"newer"
    assert await place.content("large") == await LARGE.read()
    assert await place.unfinished() == set()


@pytest.mark.parametrize("stays_down", [False, True])
async def test_the_line_breaks_in_the_middle_of_an_upload(
    sink: Sink, proxy: Proxy, place: Place, stays_down: bool
) -> None:
    await write(sink, "old", b"the version before")
    for key in ("old", "new"):
        proxy.stays_down, proxy.cut_after = stays_down, 14 * MIB + 77_777
        with said_by(place, SinkUnavailable):
            await asyncio.wait_for(write_large(sink, key), PATIENCE_S)
        assert proxy.cuts
        proxy.cut_after = None
    assert await place.content("old") == b"the version before"
    assert await place.content("new") is None

    if stays_down:
        # Nobody could tell the service that the uploads are over: the next start does, at its first write.
        await sink.open()
        await write(sink, "old", b"the version before")
    assert await place.unfinished() == set()
    await write_large(sink, "new")
    assert await place.content("new") == await LARGE.read()


async def test_a_small_write_whose_line_breaks(sink: Sink, proxy: Proxy, place: Place) -> None:
    await write(sink, "old", b"the version before")
    proxy.cut_after = 1000
    with said_by(place, SinkUnavailable):
        await asyncio.wait_for(write(sink, "old", b"newer" * 50_000), PATIENCE_S)
    proxy.cut_after = None
    assert proxy.cuts
    assert await place.content("old") == b"the version before"

    proxy.fault = hangs_up
    for call in (lambda: write(sink, "old", b"newer"), lambda: sink.delete("old"), lambda: keys(sink)):
        with said_by(place, SinkUnavailable):
            await asyncio.wait_for(call(), PATIENCE_S)
    proxy.fault = None
    assert await place.content("old") == b"the version before"
    await write(sink, "old", b"newer")
    assert await place.content("old") == b"newer"


async def test_the_place_goes_away_and_comes_back(sink: Sink, proxy: Proxy, place: Place) -> None:
    await write(sink, "one", b"1")
    await proxy.hang_up()
    for call in (lambda: write(sink, "two"), lambda: sink.delete("one"), lambda: keys(sink)):
        with said_by(place, SinkUnavailable):
            await asyncio.wait_for(call(), PATIENCE_S)
    await proxy.listen(proxy.port)

    # Without another `open`: the service is back, and that is all it takes.
    await write(sink, "two", b"2")
    assert await keys(sink) == ["one", "two"]


async def test_a_process_killed_in_the_middle_of_an_upload(place: Place) -> None:
    settings = place.settings()
    if settings is None:
        pytest.skip("only this process can have one")
    async with opened(place.sink()) as sink:
        await write(sink, "old", b"the version before")

    for key in ("old", "d/new"):
        await asyncio.to_thread(kill_while_writing, settings, key, size=24 * MIB, good=17 * MIB)
    assert await place.content("old") == b"the version before"
    assert await place.content("d/new") is None

    async with opened(place.sink()) as again:
        # Only with the first write is it sure that the place is ours.
        await write(again, "old", b"the version before")
        assert await place.unfinished() == set()
        assert [key for key in await keys(again) if key != "d"] == ["old"]
        await write_large(again, "d/new")
    assert await place.content("d/new") == await LARGE.read()
