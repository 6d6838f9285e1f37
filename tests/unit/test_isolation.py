"""One bad object among good ones, in every way it can be bad, with a sink in memory."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace
from unittest.mock import patch

import pytest

from filerbackup import retry
from filerbackup.errors import (
    FilerBackupError,
    ObjectRejected,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
    StateError,
)
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import Checkpoint
from tests.property.test_pipeline import TREES, World
from tests.support.model_filer import ROOT


def world_of(files: int) -> World:
    world = World(random.Random(1), TREES, dated=False)
    for i in range(files):
        world.filer.write(f"{ROOT}/f{i:03}", b"%d" % i)
    return world


async def catch_up(world: World, wish: str = "auto") -> None:
    with patch.object(retry, "FIRST_DELAY_S", 1e-4), patch.object(retry, "LONGEST_DELAY_S", 1e-3):
        await world.live(None, wish=wish)


async def test_an_object_that_the_sink_always_fails_on_stops_nobody() -> None:
    """The oldest one at that, while it looks as if the whole sink were down."""
    world = world_of(50)
    world.sink.fail("write", SinkUnavailable("500 for this key only"), key="f000", times=10**9)
    await catch_up(world)
    assert [letter.key for letter in world.letters.letters.values()] == ["f000"]
    assert len(world.sink.objects) == 49


async def test_a_write_that_a_later_change_has_made_needless_is_no_failure() -> None:
    """A repeated file where a directory is by now: some services cannot hold both, and answer 500."""
    world = world_of(5)
    # The log has not told of it yet.
    del world.filer.tree[f"{ROOT}/f002"]
    world.sink.fail("write", SinkUnavailable("500: existing entry is a directory"), key="f002", times=10**9)
    await catch_up(world, "log")
    assert world.letters.letters == {}
    assert sorted(world.sink.objects) == ["f000", "f001", "f003", "f004"]


@pytest.mark.parametrize("kept", ["dated", "live on another filer"])
async def test_a_write_is_not_skipped_where_no_later_change_covers_it(kept: str) -> None:
    """Copies of what is deleted stay; or the filer that was asked has not heard of the file yet."""
    world = World(random.Random(1), TREES, dated=kept == "dated")
    if kept != "dated":
        world.filer.clock_starts_ns, world.filer.may_lag = time.time_ns(), True
    world.filer.write(f"{ROOT}/f", b"1")
    key = str(world.layout.key(world.filer.tree.pop(f"{ROOT}/f")))
    world.sink.fail("write", SinkUnavailable("503"), key=key, times=3)
    await catch_up(world, "log")
    assert key in world.sink.objects


async def test_a_checkpoint_that_cannot_be_stored_for_a_moment_ends_nothing() -> None:
    """Neither the session nor the rename that wants it."""
    world = World(random.Random(1), TREES, dated=False)
    world.filer.write(f"{ROOT}/d/f", b"1")
    await catch_up(world)
    world.filer.rename(f"{ROOT}/d", f"{ROOT}/e")
    refused: list[Checkpoint] = []

    def refuse_once(checkpoint: Checkpoint) -> None:
        if checkpoint.ahead_to_ns and not refused:
            refused.append(checkpoint)
            raise StateError("the filer is away")

    world.checkpoints.check = refuse_once
    await catch_up(world)
    assert refused
    world.check_equal()


async def test_a_rejected_object_is_given_up_at_once() -> None:
    world = world_of(10)
    world.sink.fail("write", ObjectRejected("name too long"), key="f005", times=10**9)
    await catch_up(world)
    [letter] = world.letters.letters.values()
    assert letter.key == "f005"
    assert letter.attempts == 1
    assert "name too long" in letter.reason
    assert len(world.sink.objects) == 9


async def test_a_rename_that_is_given_up_leaves_a_letter_for_either_name() -> None:
    """The copy under the old name is not what the source has any more."""
    world = world_of(3)
    await catch_up(world)
    world.filer.rename(f"{ROOT}/f001", f"{ROOT}/g")
    world.sink.fail("move", ObjectRejected("name too long"), key="g")
    await catch_up(world)
    letters = world.letters.letters
    assert {letter.key: letter.action for letter in letters.values()} == {"g": "move", "f001": "remove"}
    assert "f001" in world.sink.objects

    for letter_id, letter in letters.items():
        letters[letter_id] = replace(letter, retry_requested=True)
    await catch_up(world)
    assert letters == {}
    assert sorted(world.sink.objects) == ["f000", "f002", "g"]


@pytest.mark.parametrize(
    "error",
    [SinkUnavailable("down"), SinkRefused("key expired"), SinkThrottled("slow down"), SinkFull("disk full")],
)
async def test_a_sink_that_is_down_for_a_while_costs_no_dead_letter(error: FilerBackupError) -> None:
    """However many attempts an outage takes; a full disk may still take something small."""
    world = world_of(30)
    world.sink.fail("write", error, times=100)
    if not isinstance(error, SinkFull):
        world.sink.fail("write_own", error, times=10**9)
    await catch_up(world)
    assert world.sink.calls["write"] >= 130
    assert world.letters.letters == {}
    assert len(world.sink.objects) == 30


async def test_a_defect_of_ours_becomes_a_dead_letter_too() -> None:
    world = world_of(10)
    broken = world.filer.content

    def content(entry):  # type: ignore[no-untyped-def]
        if entry.path.endswith("f003"):
            raise ZeroDivisionError("a defect")
        return broken(entry)

    world.filer.content = content  # type: ignore[method-assign]
    await catch_up(world)
    [letter] = world.letters.letters.values()
    assert letter.key == "f003"
    assert len(world.sink.objects) == 9
    await asyncio.sleep(0)


def test_trouble_that_comes_and_goes_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """A nearly full disk takes deletes and small files between two that do not fit."""
    caplog.set_level(logging.INFO, "filerbackup.test")
    watcher = Watcher(logging.getLogger("filerbackup.test"))
    for _ in range(20):
        watcher.trouble("sink-error", SinkFull("disk full"))
        assert watcher.state == "sink-error"
        watcher.recovered()
        assert (watcher.state, watcher.error) == ("following", "")
    assert [record.levelname for record in caplog.records if record.name == "filerbackup.test"] == [
        "ERROR",
        "INFO",
    ]
