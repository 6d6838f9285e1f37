"""Entries with thousands of chunks, many at once: taken in parts, so that memory stays what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc
import grpc.aio
import pytest

from filerbackup.errors import SourceUnreachable
from filerbackup.filer import channels
from filerbackup.filer.client import PAGE_BYTES, FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import Walk
from filerbackup.source.subscribe import MOST_AT_ONCE, Subscription
from tests.support.many_entries import chunked_entry, make_many
from tests.support.weed import WeedServer

CHUNKS = 2000


def entry_of(name: str, chunks: int = CHUNKS) -> pb.Entry:
    chunk = pb.FileChunk(file_id="3,01637037d6", size=1 << 20)
    return chunked_entry(name, chunk, chunks)


async def test_a_directory_of_large_entries_comes_in_small_pages(weed: WeedServer, folder: str) -> None:
    names = [f"f{number:03}" for number in range(45)]
    await asyncio.to_thread(make_many, weed, [(f"/{folder}", entry_of(name)) for name in names])
    client = FilerClient([weed.filer])
    sizes = []

    class Watched(FilerClient):
        async def list_some(self, *arguments: object, **named: object) -> tuple[list[pb.Entry], bool]:
            found = await client.list_some(*arguments, **named)  # type: ignore[arg-type]
            sizes.append(sum(entry.ByteSize() for entry in found[0]))
            return found

    walk = Walk(Watched([weed.filer]), f"/{folder}", lambda _directory, entry: entry.name)
    assert [name async for name in walk.entries()] == names
    assert len(sizes) > 1
    assert max(sizes) < 2 * PAGE_BYTES
    assert len(await client.list_page(f"/{folder}", "", 1000)) == len(names)
    await client.close()


class LargeEvents:
    """A filer that has a backlog of large events; packs them into one message for who can take that."""

    def __init__(self, count: int, chunks: int) -> None:
        self._count, self._chunks = count, chunks

    async def subscribe(
        self, request: pb.SubscribeMetadataRequest, _context: object
    ) -> AsyncIterator[pb.SubscribeMetadataResponse]:
        """What SubscribeMetadata does."""
        events = [
            pb.SubscribeMetadataResponse(
                directory="/w",
                ts_ns=number,
                event_notification=pb.EventNotification(new_entry=entry_of(f"f{number}", self._chunks)),
            )
            for number in range(request.since_ns + 1, self._count + 1)
        ]
        if request.client_supports_batching:
            events[0].events.extend(events[1:])
            del events[1:]
        for event in events:
            yield event


@asynccontextmanager
async def filer_with(backlog: LargeEvents) -> AsyncIterator[FilerClient]:
    server = grpc.aio.server(options=[("grpc.max_send_message_length", 1 << 30)])
    method = grpc.unary_stream_rpc_method_handler(
        backlog.subscribe,
        request_deserializer=pb.SubscribeMetadataRequest.FromString,
        response_serializer=pb.SubscribeMetadataResponse.SerializeToString,
    )
    service = {"SubscribeMetadata": method}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("filer_pb.SeaweedFiler", service),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = FilerClient([f"127.0.0.1:1.{port}"])
    try:
        yield client
    finally:
        await client.close()
        await server.stop(0)


async def test_a_message_that_is_too_large_comes_in_single_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "USUAL_MESSAGE_BYTES", 1 << 20)
    async with filer_with(LargeEvents(30, CHUNKS)) as client:
        stream = Subscription(client, "large", "/w/")
        with pytest.raises(SourceUnreachable, match="larger than max"):
            await _all(stream, since_ns=0, until_ns=30)
        batches = await _all(stream, since_ns=0, until_ns=30)
        assert sum(batches) == 30


async def test_an_event_that_is_too_large_by_itself_is_taken_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels, "USUAL_MESSAGE_BYTES", 64 << 10)
    async with filer_with(LargeEvents(2, CHUNKS)) as client:
        stream = Subscription(client, "large", "/w/")
        for _ in range(2):
            with pytest.raises(SourceUnreachable, match="larger than max"):
                await _all(stream, since_ns=0, until_ns=2)
        assert sum(await _all(stream, since_ns=0, until_ns=2)) == 2


async def test_what_came_at_once_is_handed_on_in_parts() -> None:
    async with filer_with(LargeEvents(30, 1000)) as client:
        batches = await _all(Subscription(client, "parts", "/w/"), since_ns=0, until_ns=30)
        assert sum(batches) == 30
        assert max(batches) * 1000 < 2 * MOST_AT_ONCE


async def _all(stream: Subscription, *, since_ns: int, until_ns: int) -> list[int]:
    """How many events each batch had."""
    async with aclosing(stream.events(since_ns, until_ns)) as batches:
        return [len(batch) async for batch in batches]
