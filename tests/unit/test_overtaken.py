"""What the live filer's answer says about something that the sink fails on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import SinkError, SinkFull, SinkThrottled, SinkUnavailable, SourceUnreachable
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.pipeline.overtaken import is_overtaken
from filerbackup.pipeline.planner import Move, Operation, Refresh, Write
from filerbackup.pipeline.room import make_room
from filerbackup.sinks.base import Capabilities
from filerbackup.sinks.memory import MemorySink

FILE = Entry("/w/d", EntryKind.FILE, mtime_ns=5, size=1, chunks=(Chunk("3,01", 0, 1, 5),))
DIRECTORY = Entry("/w/d", EntryKind.DIRECTORY)
NOW_NS = time.time_ns()
OLD_NS = NOW_NS - 61_000_000_000
DOWN = SinkUnavailable("500")


class Source:
    """Answers with these entries, or not at all."""

    def __init__(self, *entries: Entry, away: bool = False, may_lag: bool = False) -> None:
        self.may_lag = may_lag
        self._entries = {entry.path: entry for entry in entries}
        self._away = away

    async def lookup(self, path: str) -> Entry | None:
        if self._away:
            raise SourceUnreachable("away")
        return self._entries.get(path)


def write(ts_ns: int = OLD_NS, entry: Entry = FILE) -> Write:
    return Write(claims=(), ts_ns=ts_ns, path=entry.path, key="d", entry=entry)


def move(ts_ns: int = OLD_NS, *, repeated: bool = False, entry: Entry = FILE) -> Move:
    return Move(
        claims=(), ts_ns=ts_ns, path=entry.path, key="d", entry=entry, old_key="c", old_path="/w/c",
        repeated=repeated,
    )  # fmt: skip


async def asked(
    source: Source, operation: Operation, *, number: int = 2, error: SinkError = DOWN, ahead_to_ns: int = 0
) -> bool:
    found: Any = source
    return await is_overtaken(found, operation, number, error, ahead_to_ns=ahead_to_ns)


@pytest.mark.parametrize("operation", [write(), move(), write(NOW_NS), move(NOW_NS)])
async def test_another_kind_or_nothing_is_there_by_now(operation: Operation) -> None:
    assert await asked(Source(DIRECTORY), operation, ahead_to_ns=NOW_NS)
    assert await asked(Source(), operation, ahead_to_ns=NOW_NS)
    assert not await asked(Source(FILE), operation, ahead_to_ns=NOW_NS)
    assert not await asked(Source(away=True), operation, ahead_to_ns=NOW_NS)


async def test_what_is_new_may_not_have_reached_the_filer_that_answers() -> None:
    for source in (Source(), Source(DIRECTORY)):
        assert not await asked(source, write(NOW_NS))
        assert not await asked(source, move(NOW_NS))
        assert await asked(source, move(NOW_NS, repeated=True))
        assert await asked(source, write(OLD_NS))
    assert not await asked(Source(may_lag=True), write(NOW_NS), ahead_to_ns=NOW_NS)
    assert await asked(Source(may_lag=True), write(OLD_NS))


async def test_another_version_of_the_file_is_no_reason() -> None:
    """Nothing may follow: the filer dropped its copy of a remote file, a hard link was written elsewhere."""
    for live in (replace(FILE, chunks=()), replace(FILE, mtime_ns=9, hard_link_id="1")):
        assert not await asked(Source(live), write())
        assert not await asked(Source(live), move())


async def test_only_what_the_sink_fails_on() -> None:
    for error in (SinkThrottled("slow down"), SinkFull("full")):
        assert not await asked(Source(), write(), error=error)
    assert not await asked(Source(), write(), number=1)
    gone = move()
    gone.overtaken = True
    assert not await asked(Source(), gone)
    assert not await asked(Source(), move(entry=DIRECTORY))
    assert not await asked(Source(), Refresh(claims=(), ts_ns=OLD_NS, path="/w/d", key="d"))


class Guard:
    """Spares some keys, admits some others."""

    def __init__(self, *, spared: Sequence[str] = (), admits: bool = True) -> None:
        self._spared, self._admits = spared, admits

    def spares(self, key: str) -> bool:
        return key in self._spared

    def admits(self, operation: Refresh) -> bool:
        assert operation.guarded and operation.path == f"/w/{operation.key}"
        return self._admits


@pytest.mark.parametrize(
    ("live", "guard", "left"),
    [
        ([FILE], Guard(), ["d-x"]),
        ([FILE], Guard(spared=["d/x"]), ["d-x", "d/x"]),
        ([FILE], Guard(admits=False), ["d-x", "d/deep/y", "d/x"]),
        ([FILE, Entry("/w/d/x", EntryKind.FILE)], Guard(), ["d-x", "d/x"]),
        ([DIRECTORY], Guard(), ["d-x", "d/deep/y", "d/x"]),
        ([], Guard(), ["d-x", "d/deep/y", "d/x"]),
    ],
)
async def test_room_is_made_of_what_the_source_does_not_have(
    live: list[Entry], guard: Guard, left: list[str]
) -> None:
    flat = Capabilities(
        directories=False, symlinks=True, move=True, move_tree=False, write_buffer_bytes=0, update=True
    )
    sink = MemorySink(capabilities=flat)
    await sink.open()
    for key in ("d/x", "d/deep/y", "d-x"):
        await sink.write(key, Entry(f"/w/{key}", EntryKind.FILE, size=1), InlineContent(b"1"))
    source: Any = Source(*live)
    stub: Any = guard
    await make_room(source, sink, stub, write())
    assert sorted(sink.objects) == left
