"""Connections that are half-open: everything is taken and nothing comes back, or not even a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from filerbackup.errors import SourceUnreachable
from filerbackup.events import Event, Upsert
from filerbackup.filer import client as clients
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source import fetch, subscribe
from filerbackup.source.content import FileContent
from filerbackup.source.subscribe import Subscription
from filerbackup.source.volumes import Volumes
from tests.support.line import Line, State
from tests.support.needles import create_entry, live_entry, put_needle
from tests.support.weed import WeedServer

SOON_S = 5.0
"""Far above the patched deadlines, far below the real ones."""


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    line = Line("line", port)
    await line.open()
    try:
        yield line
    finally:
        await line.close()


@asynccontextmanager
async def filer_behind(line: Line, weed: WeedServer) -> AsyncIterator[FilerClient]:
    client = FilerClient([f"127.0.0.1:{weed.filer_port}.{line.port}"])
    try:
        yield client
    finally:
        await client.close()


def fails_and_is_whole_again(line: Line) -> None:
    """What is open is dead for good; a new connection would work."""
    line.become(State.HALF_OPEN)
    line.state = State.WHOLE


async def names_of(stream: AsyncIterator[Sequence[Event]], until: str) -> None:
    async for batch in stream:
        if any(isinstance(event, Upsert) and event.entry.name == until for event in batch):
            return


async def test_the_stream_is_reopened_on_a_connection_that_works(
    weed: WeedServer, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "SILENCE_S", 0.3)
    async with line_to(weed.filer_port + 10_000) as line, filer_behind(line, weed) as client:
        stream, since_ns = Subscription(client, "half-open", f"/{folder}/"), await client.now_ns()
        async with aclosing(stream.events(since_ns, None)) as events:
            await asyncio.to_thread(weed.put, f"/{folder}/file", b"x")
            await names_of(events, "file")
            fails_and_is_whole_again(line)
            with pytest.raises(SourceUnreachable, match="silent"):
                await asyncio.wait_for(names_of(events, "never"), SOON_S)
        monkeypatch.setattr(subscribe, "SILENCE_S", 30.0)
        # gRPC by itself would go on with the dead connection.
        async with aclosing(stream.events(since_ns, None)) as events:
            await asyncio.wait_for(names_of(events, "file"), SOON_S)


async def test_a_call_ends_in_time_and_the_next_one_has_a_connection_that_works(
    weed: WeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line_to(weed.filer_port + 10_000) as line, filer_behind(line, weed) as client:
        await client.configuration()
        fails_and_is_whole_again(line)
        with pytest.raises(SourceUnreachable, match="DEADLINE"):
            await asyncio.wait_for(client.call(lambda stub: stub.Ping, pb.PingRequest(), 0.3), SOON_S)
        await asyncio.wait_for(client.configuration(), SOON_S)
        fails_and_is_whole_again(line)
        monkeypatch.setattr(clients, "LIST_TIMEOUT_S", 0.3)
        with pytest.raises(SourceUnreachable, match="DEADLINE"):
            await asyncio.wait_for(client.list_page("/", "", 10), SOON_S)
        monkeypatch.setattr(clients, "LIST_TIMEOUT_S", 10.0)
        await asyncio.wait_for(client.list_page("/", "", 10), SOON_S)


async def test_a_stream_that_works_is_not_cut_because_a_call_took_too_long(
    weed: WeedServer, folder: str
) -> None:
    async with line_to(weed.filer_port + 10_000) as line, filer_behind(line, weed) as client:
        stream = Subscription(client, "goes-on", f"/{folder}/")
        async with aclosing(stream.events(await client.now_ns(), None)) as events:
            await asyncio.to_thread(weed.put, f"/{folder}/first", b"x")
            await names_of(events, "first")
            with contextlib.suppress(SourceUnreachable):
                await client.call(lambda stub: stub.Ping, pb.PingRequest(), 0.000_001)
            await asyncio.to_thread(weed.put, f"/{folder}/second", b"x")
            await asyncio.wait_for(names_of(events, "second"), SOON_S)


@pytest.mark.parametrize("size", [1000, 3 << 20])
async def test_a_volume_server_goes_silent_in_mid_body(
    weed: WeedServer, folder: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SILENCE_TIMEOUT_S", 0.3)
    direct = FilerClient([weed.filer])
    chunk = put_needle(weed, bytes(size))
    entry = await create_entry(direct, f"/{folder}/file", pb.Entry(chunks=[chunk]))
    async with line_to(weed.volume_port) as line:

        async def look_up(volume_ids: Sequence[str]) -> dict[str, list[str]]:
            return {volume_id: [f"127.0.0.1:{line.port}"] for volume_id in volume_ids}

        volumes = Volumes(look_up)
        try:
            assert await FileContent(entry, volumes).read() == bytes(size)
            line.become(State.HALF_OPEN)
            with pytest.raises(SourceUnreachable, match="in time"):
                await asyncio.wait_for(FileContent(entry, volumes).read(), SOON_S)
            line.become(State.WHOLE)
            assert await FileContent(entry, volumes).read() == bytes(size)
        finally:
            await volumes.close()
            await direct.close()


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port that lets nobody in: its queue is full and nobody takes from it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        yield port


async def test_a_connection_that_is_never_made(
    weed: WeedServer, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "CONNECT_TIMEOUT_S", 0.3)
    direct = FilerClient([weed.filer])
    with full_backlog() as port:
        for size in (1000, 1 << 20):
            path = f"/{folder}/file{size}"
            await create_entry(direct, path, pb.Entry(chunks=[put_needle(weed, bytes(size))]))

            async def look_up(volume_ids: Sequence[str]) -> dict[str, list[str]]:
                return {volume_id: [f"127.0.0.1:{port}"] for volume_id in volume_ids}

            volumes = Volumes(look_up)
            began = time.monotonic()
            with pytest.raises(SourceUnreachable):
                await asyncio.wait_for(FileContent(await live_entry(direct, path), volumes).read(), SOON_S)
            assert time.monotonic() - began < SOON_S
            await volumes.close()
        client = FilerClient([f"127.0.0.1:1.{port}"])
        with pytest.raises(SourceUnreachable):
            await asyncio.wait_for(client.call(lambda stub: stub.Ping, pb.PingRequest(), 0.3), SOON_S)
        await client.close()
    await direct.close()
