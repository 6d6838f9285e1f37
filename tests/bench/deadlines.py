"""`python -m tests.bench.deadlines`: the real deadlines, in real time, all at once; it takes a minute.

A line to each server goes half-open: it takes everything and gives nothing back. What is measured is
the time until it is noticed, and for the filer until things work again over a new connection.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import grpc.aio

from filerbackup.content import InlineContent
from filerbackup.errors import SinkUnavailable, SourceUnreachable
from filerbackup.filer.channels import Channels
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.s3 import S3Sink
from filerbackup.source.content import FileContent
from filerbackup.source.subscribe import Subscription
from filerbackup.source.volumes import Volumes
from tests.contract.contents import StreamedContent, file_entry
from tests.support.line import Line, State
from tests.support.needles import create_entry, put_needle
from tests.support.s3_tree import make_bucket
from tests.support.weed import WeedServer, running_weed, scratch_directory

_MIB = 1 << 20
_MOST_S = 120.0
Probe = Callable[[WeedServer], Awaitable[float]]


async def _line(port: int) -> Line:
    line = Line("line", port)
    await line.open()
    return line


def _break(line: Line) -> None:
    """What is open is dead; a new connection works."""
    line.become(State.HALF_OPEN)
    line.state = State.WHOLE


def _client(weed: WeedServer, line: Line) -> FilerClient:
    return FilerClient([f"127.0.0.1:{weed.filer_port}.{line.port}"])


async def _until_it_works(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await call()
        except SourceUnreachable:
            await asyncio.sleep(0.2)
        else:
            return


async def stream_is_silent(weed: WeedServer) -> float:
    """Until the stream of changes has ended and its successor has told of a change."""
    line = await _line(weed.filer_port + 10_000)
    client = _client(weed, line)
    stream, since_ns = Subscription(client, "deadlines", "/stream/"), await client.now_ns()
    await asyncio.to_thread(weed.put, "/stream/file", b"x")
    began = 0.0
    try:
        async with aclosing(stream.events(since_ns, None)) as events:
            await anext(events)
            _break(line)
            began = time.monotonic()
            async for _ in events:
                pass
    except SourceUnreachable:

        async def again() -> None:
            async with aclosing(stream.events(since_ns, None)) as events:
                await anext(events)

        await _until_it_works(again)
    seconds = time.monotonic() - began
    await client.close()
    await line.close()
    return seconds


async def call_is_silent(weed: WeedServer) -> float:
    """Until a unary call has failed and the next one worked."""
    line = await _line(weed.filer_port + 10_000)
    client = _client(weed, line)
    await client.configuration()
    _break(line)
    began = time.monotonic()
    await _until_it_works(client.configuration)
    seconds = time.monotonic() - began
    await client.close()
    await line.close()
    return seconds


async def grpc_notices(weed: WeedServer) -> float:
    """Until gRPC itself ends a call without a deadline, by its pings."""
    line = await _line(weed.filer_port + 10_000)
    channels = Channels(None)
    stub = SeaweedFilerStub(channels.open(f"127.0.0.1:{line.port}"))
    call = stub.SubscribeMetadata(
        pb.SubscribeMetadataRequest(client_name="pings", client_id=7, client_epoch=1)
    )
    await call.read()
    _break(line)
    began = time.monotonic()
    try:
        while True:
            await call.read()
    except grpc.aio.AioRpcError:
        seconds = time.monotonic() - began
    await channels.close()
    await line.close()
    return seconds


async def volume_is_silent(weed: WeedServer) -> float:
    """Until a read from a volume server has failed (two tries)."""
    line, client = await _line(weed.volume_port), FilerClient([weed.filer])
    chunk = await asyncio.to_thread(put_needle, weed, bytes(3 * _MIB))
    entry = await create_entry(client, "/volume/file", pb.Entry(chunks=[chunk]))

    async def look_up(volume_ids: Sequence[str]) -> dict[str, list[str]]:
        return {volume_id: [f"127.0.0.1:{line.port}"] for volume_id in volume_ids}

    volumes = Volumes(look_up)
    line.become(State.HALF_OPEN)
    began = time.monotonic()
    try:
        await FileContent(entry, volumes).read()
    except SourceUnreachable:
        seconds = time.monotonic() - began
    await volumes.close()
    await client.close()
    await line.close()
    return seconds


def s3_is_silent(what: str) -> Probe:
    """Until a call to a sink has failed."""

    async def probe(weed: WeedServer) -> float:
        line = await _line(weed.s3_port)
        settings = S3Settings(
            "s3",
            directory=f"/{what}",
            bucket="deadlines",
            region="us-east-1",
            endpoint=f"http://127.0.0.1:{line.port}",
            access_key_id="any",
            secret_access_key=Secret("any-secret"),
            part_size_bytes=5 * _MIB,
        )
        sink = S3Sink(settings)
        await sink.open()
        await sink.write("before", file_entry("before", 1), InlineContent(b"x"))
        line.become(State.HALF_OPEN)
        began = time.monotonic()
        try:
            match what:
                case "small":
                    await sink.write("file", file_entry("file", 4096), InlineContent(bytes(4096)))
                case "parts":
                    large = StreamedContent(24 * _MIB)
                    await sink.write("large", file_entry("large", large.size), large)
                case _:
                    async for _ in sink.list():
                        break
        except SinkUnavailable:
            seconds = time.monotonic() - began
        await sink.close()
        await line.close()
        return seconds

    return probe


PROBES: dict[str, tuple[Probe, float]] = {
    "stream of changes, silent, until the next one works": (stream_is_silent, 40.0),
    "unary call, until the next one works": (call_is_silent, 20.0),
    "gRPC's own pings": (grpc_notices, 60.0),
    "read of a chunk, two tries": (volume_is_silent, 65.0),
    "S3: put of 4 KiB": (s3_is_silent("small"), 62.0),
    "S3: parts of 5 MiB, in mid-upload": (s3_is_silent("parts"), 62.0),
    "S3: listing": (s3_is_silent("listing"), 62.0),
}
"""With the most seconds that each may take."""


async def _measure(weed: WeedServer) -> dict[str, float]:
    async def within(probe: Probe) -> float:
        try:
            return await asyncio.wait_for(probe(weed), _MOST_S)
        except TimeoutError:
            return _MOST_S

    seconds = await asyncio.gather(*(within(probe) for probe, _ in PROBES.values()))
    return dict(zip(PROBES, seconds, strict=True))


def main() -> int:
    """0 when everything was noticed in time, else 1."""
    scratch: Path = scratch_directory("deadlines")
    try:
        with running_weed(scratch / "weed") as weed:
            make_bucket(weed, "deadlines")
            found = asyncio.run(_measure(weed))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("| half-open line to | seconds | at most | |\n| --- | ---: | ---: | --- |")
    late = False
    for name, seconds in found.items():
        most = PROBES[name][1]
        late = late or seconds > most
        print(f"| {name} | {seconds:.1f} | {most:.0f} | {'LATE' if seconds > most else 'in time'} |")
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
