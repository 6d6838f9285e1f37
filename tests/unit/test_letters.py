"""Dead letters: what settles them, and that very many of them slow nothing down."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast
from unittest.mock import patch

import pytest

from filerbackup.errors import StateError
from filerbackup.events import Entry, EntryKind
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.pipeline import retries as retries_module
from filerbackup.pipeline.layout import Mirror
from filerbackup.pipeline.lettered import Lettered
from filerbackup.pipeline.planner import Operation, Planner
from filerbackup.pipeline.retries import Retries
from filerbackup.pipeline.watcher import Watcher
from filerbackup.sinks.base import Capabilities
from filerbackup.state.base import DeadLetter
from filerbackup.state.letters import FilerDeadLetters
from filerbackup.state.pair import Pair
from tests.support.model_state import ModelLetters

MANY = 100_000
WATCHER = Watcher(logging.getLogger("filerbackup.test.letters"))
CAPABILITIES = Capabilities(directories=True, symlinks=True, move=True, move_tree=True, write_buffer_bytes=0)
PLANNER = Planner(Mirror(lambda path: path[1:]), CAPABILITIES)


def letter(key: str, **more: Any) -> DeadLetter:
    record = {
        "path": f"/{key}", "action": "write", "reason": "r", "ts_ns": 1, "attempts": 9,
        "first_failed_ns": 1, "last_failed_ns": 1, **more,
    }  # fmt: skip
    return DeadLetter(key=key, **record)


def file(path: str) -> Entry:
    return Entry(path, EntryKind.FILE)


def write(path: str, kind: EntryKind = EntryKind.FILE) -> Operation:
    operation = PLANNER.write(2, Entry(path, kind))
    assert operation is not None
    return operation


def moved(old: str, new: str) -> Operation:
    operation = PLANNER._rename(2, file(old), file(new))
    assert operation is not None
    return operation


def many() -> list[DeadLetter]:
    return [letter(f"tenant{i % 7}/year/d{i % 1000}/f{i:06}", ts_ns=i) for i in range(MANY)]


@pytest.mark.parametrize(
    ("done", "settled"),
    [
        (write("/d"), {"d", "d/f", "d/e/g"}),
        (write("/d", EntryKind.DIRECTORY), {"d"}),
        (write("/d/f"), {"d/f"}),
        (write("/d/none"), set()),
        (PLANNER.remove_key(2, "d", "/d", tree=True), {"d", "d/f", "d/e/g"}),
        (PLANNER.remove_key(2, "d", "/d", tree=False), {"d"}),
        (PLANNER.remove_key(2, "d/e", "/d/e", tree=True), {"d/e/g"}),
        (PLANNER.refresh(2, "d", "/d"), {"d"}),
        (moved("/d/e", "/new"), {"d/e/g", "new"}),
    ],
)
async def test_what_a_success_settles(done: Operation, settled: set[str]) -> None:
    """A directory that is written, or looked at again, does nothing for the files below it."""
    store = ModelLetters()
    kept = [letter(key) for key in ("d", "d/f", "d/e/g", "d-2", "dd/f", "new")]
    for each in kept:
        await store.put(each)
    lettered = Lettered(store, WATCHER)
    lettered.know(kept)
    lettered.settle(done)
    await lettered.forget(lettered.take_settled())
    assert {each.key for each in store.letters.values()} == {each.key for each in kept} - settled
    lettered.settle(done)
    assert lettered.take_settled() == []


async def test_a_key_that_became_a_letter_again_keeps_it() -> None:
    store = ModelLetters()
    lettered = Lettered(store, WATCHER)
    await lettered.give_up(write("/d/f"), 9, StateError("first"))
    lettered.settle(write("/d/f"))
    settled = lettered.take_settled()
    await lettered.give_up(write("/d/f"), 9, StateError("second"))
    await lettered.forget(settled)
    assert [each.reason for each in store.letters.values()] == ["second"]
    lettered.settle(PLANNER.remove_key(3, "d", "/d", tree=True))
    await lettered.forget(lettered.take_settled())
    assert not store.letters


async def test_very_many_letters_cost_an_operation_next_to_nothing() -> None:
    lettered = Lettered(ModelLetters(), WATCHER)
    letters = many()
    began = time.thread_time()
    lettered.know(letters)
    assert time.thread_time() - began < 1.0
    operations = [write(f"/tenant{i % 7}/year/d{i}/other") for i in range(1000)]
    began = time.thread_time()
    for operation in operations:
        lettered.settle(operation)
    assert (time.thread_time() - began) / len(operations) < 50e-6
    assert lettered.take_settled() == []

    for each in letters[:500]:
        lettered.settle(write(each.path))
    settled = lettered.take_settled()
    assert len(settled) == 500
    began = time.thread_time()
    await lettered.forget(settled)
    assert (time.thread_time() - began) / len(settled) < 50e-6


class Listed:
    """A filer with these letters in its tree; of the client only what a list needs."""

    def __init__(self, letters: Sequence[DeadLetter]) -> None:
        entries = [
            pb.Entry(name=f"{each.letter_id}.json", content=json.dumps(asdict(each)).encode())
            for each in letters
        ]
        self.entries = sorted(entries, key=lambda entry: entry.name)
        self.at = {entry.name: number for number, entry in enumerate(self.entries)}

    async def list_page(self, _directory: str, after: str, limit: int) -> list[pb.Entry]:
        begin = self.at[after] + 1 if after else 0
        return self.entries[begin : begin + limit]


async def longest_stall_s(task: asyncio.Future[Any]) -> float:
    """How long the loop did nothing else, in seconds that this thread had the processor."""
    longest, last = 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return longest


async def test_very_many_letters_are_read_without_stopping_the_loop() -> None:
    client: Any = Listed(many())
    store = FilerDeadLetters(client, Pair("/p", "local", "", "", "/d"))
    reading = asyncio.ensure_future(store.all())
    assert await longest_stall_s(reading) < 1.0
    assert [each.ts_ns for each in reading.result()] == list(range(MANY))


async def test_very_many_letters_are_looked_for_less_often() -> None:
    class Slow(ModelLetters):
        def __init__(self) -> None:
            super().__init__()
            self.looks = 0

        async def all(self) -> Sequence[DeadLetter]:
            self.looks += 1
            await asyncio.sleep(0.05)
            return ()

    store, nothing = Slow(), cast(Any, None)
    retries = Retries(store, PLANNER, nothing, WATCHER, lambda: 1)
    with patch.object(retries_module, "EVERY_S", 0.01):
        running = asyncio.create_task(retries.run())
        await asyncio.sleep(0.7)
        running.cancel()
    assert store.looks == 1
