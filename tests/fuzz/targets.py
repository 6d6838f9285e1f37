"""What is fuzzed: decoders of what comes from outside, each as a function of bytes.

A target returns for whatever bytes it is given. What a decoder may raise, by its own docstring, is
caught here; anything else that leaves a target is a finding, and so is a broken promise about what
was decoded, which it asserts. Targets are called by hypothesis in CI and by atheris from the command line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from filerbackup.errors import ObjectRejected, Unreadable, UsageError
from filerbackup.events import Chunk, Delete, Entry, Heartbeat, Marker, Rename, Upsert
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.pipeline.filters import Scope
from filerbackup.pipeline.layout import Dated, Mirror
from filerbackup.pipeline.planner import Planner
from filerbackup.settings.load import load_settings
from filerbackup.sinks.azure.dialect import DIALECT as AZURE
from filerbackup.sinks.backblaze.dialect import DIALECT as B2
from filerbackup.sinks.base import Capabilities
from filerbackup.sinks.gcs.dialect import DIALECT as GCS
from filerbackup.sinks.keys import check_key
from filerbackup.sinks.metadata import object_metadata
from filerbackup.sinks.s3.dialect import S3_DIALECT as S3
from filerbackup.source.chunks import Interval, visible_intervals
from filerbackup.source.content import FileContent
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.manifests import resolved_intervals
from filerbackup.source.subscribe import _events
from filerbackup.source.volumes import Volumes

T = TypeVar("T")
Target = Callable[[bytes], None]

ROOT = "/buckets/b"
DIALECTS = (S3, GCS, AZURE, B2)
_SCOPE = Scope(ROOT, exclude_paths=["/buckets/b/x*", "*.tmp"])
_LAYOUTS = (Mirror(_SCOPE.relative), Dated(_SCOPE.relative, "Europe/Berlin"))
_EVERYTHING = Capabilities(directories=True, symlinks=True, move=True, move_tree=True, write_buffer_bytes=0)
_PLANNERS = [Planner(layout, _EVERYTHING) for layout in _LAYOUTS]
_LARGEST_LIST = 2000
_FIRST_NS, _LAST_NS = -(1 << 66), 1 << 68


def settled(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise AssertionError("it waits for something")


# -- events and entries ------------------------------------------------------------------------------


def events(data: bytes) -> None:
    """A message of the change stream, all the way to the operations that it asks for."""
    try:
        response = pb.SubscribeMetadataResponse.FromString(data)
    except DecodeError:
        return
    for event in _events(response):
        match event:
            case Heartbeat(ts_ns=ts_ns) | Marker(ts_ns=ts_ns):
                assert isinstance(ts_ns, int)
                continue
            case Upsert(entry=entry):
                look_at(entry)
            case Delete(entry=entry):
                look_at(entry)
            case Rename(old=old, new=new):
                look_at(old)
                look_at(new)
        clipped = _SCOPE.clip(event)
        if clipped is None:
            continue
        for planner in _PLANNERS:
            operation = planner.plan(clipped)
            if operation is not None:
                try:
                    check_key(operation.key)
                except ObjectRejected:
                    continue
                assert not operation.key.startswith("/")
                assert ".." not in operation.key.split("/")


def look_at(entry: Entry) -> None:
    """What a sink asks of an entry before it reads the content."""
    assert _FIRST_NS < entry.mtime_ns < _LAST_NS
    assert entry.size >= 0
    assert entry.size >= len(entry.content)
    assert entry.bytes_end_ns is None or isinstance(entry.bytes_end_ns, int)
    assert len(entry.md5) in (0, 16)
    for dialect in DIALECTS:
        metadata = object_metadata(entry, dialect, storage_class="source")
        shown = [metadata.content_type, metadata.storage_class, metadata.cache_control, metadata.expires]
        shown += [*metadata.user, *metadata.user.values(), metadata.content_disposition]
        assert not any(character in text for text in shown for character in "\r\n\0"), shown
    content = FileContent(entry, _NO_VOLUMES)
    assert content.memory_bytes >= 0
    assert len(content.md5) in (0, 16)


async def _nowhere(_volume_ids: object) -> dict[str, list[str]]:
    return {}


_NO_VOLUMES = Volumes(_nowhere)


def chunks(data: bytes) -> None:
    """An entry's chunk list; its manifests hold what stands behind the first zero byte of the data."""
    first, _, rest = data.partition(b"\0\0\0")
    try:
        entry = entry_from_pb("/", pb.Entry.FromString(first))
    except DecodeError:
        return
    shown = visible_intervals(entry.chunks, min(entry.size, 1 << 62))
    _check_tiling(shown, min(entry.size, 1 << 62))
    _check_newest(shown, entry.chunks)
    stored = rest.split(b"\0\0\0")
    reads = 0

    async def read_stored(chunk: Chunk, _limit: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads <= _LARGEST_LIST, "manifests are read without end"
        return stored[hash(chunk.file_id) % len(stored)]

    if entry.size < 1 << 62:
        _read_resolved(entry, read_stored)


def _read_resolved(entry: Entry, read_stored: Callable[[Chunk, int], Awaitable[bytes]]) -> None:
    async def collect() -> list[Interval]:
        return [each async for each in resolved_intervals(entry.chunks, entry.size, read_stored)]

    try:
        _check_tiling(settled(collect()), entry.size)
    except Unreadable:
        return


def _check_tiling(intervals: list[Interval], size: int) -> None:
    assert sum(each.size for each in intervals) == size
    assert all(each.size > 0 for each in intervals)
    assert all(one.offset + one.size == other.offset for one, other in pairwise(intervals))
    for each in intervals:
        if each.chunk is not None:
            assert each.chunk_offset >= 0
            assert each.chunk_offset + each.size <= each.chunk.size


def _check_newest(intervals: list[Interval], listed: tuple[Chunk, ...]) -> None:
    if len(listed) > 50:
        return
    for each in intervals:
        over = [one for one in listed if one.offset <= each.offset < one.offset + one.size]
        newest = max((one.modified_ts_ns for one in over), default=None)
        assert (each.chunk.modified_ts_ns if each.chunk else None) == newest


# -- files of the operator ---------------------------------------------------------------------------


def settings(data: bytes) -> None:
    """`replication.toml`, and behind a NUL `security.toml`."""
    replication, _, security = data.partition(b"\0")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        place = Path(name)
        (place / "replication.toml").write_bytes(replication)
        if security:
            (place / "security.toml").write_bytes(security)
        try:
            found = load_settings(config=name, flags={}, environ={}, home=place, cwd=place, system=())
        except UsageError as error:
            assert len(str(error)) < 100_000
            return
        assert found.sinks
        repr(found)
