"""Copies whose deletes are held or discarded, and everything that could take them along by accident."""

from __future__ import annotations

import random
from dataclasses import replace
from unittest.mock import patch

import pytest

from filerbackup import retry
from filerbackup.errors import SinkThrottled
from filerbackup.pipeline.filters import Scope
from filerbackup.settings.model import DeleteGuard
from filerbackup.sinks.base import Capabilities
from filerbackup.state.base import Decision, DeleteWish
from tests.property.test_pipeline import OBJECTS, TREES, World
from tests.support.model_filer import ROOT


async def world_of(capabilities: Capabilities = TREES) -> World:
    """A copy of d/f0 to d/f5 and of x; then two deletes a window may go."""
    world = World(random.Random(1), capabilities, dated=False)
    for i in range(6):
        world.filer.write(f"{ROOT}/d/f{i}", b"%d" % i)
    world.filer.write(f"{ROOT}/x", b"x")
    await world.live(None)
    world.limits = DeleteGuard(limit=2, window_s=1e9)
    return world


async def delete_five(world: World) -> None:
    for i in range(5):
        world.filer.delete(f"{ROOT}/d/f{i}")
    await world.live(None)
    assert files(world) == {"d/f2", "d/f3", "d/f4", "d/f5", "x"}


async def decide(world: World, decision: Decision, *, kept: bool = False) -> None:
    asked_ns = world.held.record.answered_ns + 1
    world.held.wished = DeleteWish(decision, asked_ns, kept)
    await world.live(None)


def files(world: World) -> set[str]:
    return {key for key, found in world.sink.objects.items() if found.kind.value == "file"}


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_their_directory_is_renamed(capabilities: Capabilities) -> None:
    world = await world_of(capabilities)
    await delete_five(world)
    world.filer.rename(f"{ROOT}/d", f"{ROOT}/e")
    await world.live(None)
    assert files(world) == {"d/f2", "d/f3", "d/f4", "e/f5", "x"}
    await decide(world, Decision.ALLOW)
    world.check_equal()


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_their_directory_is_deleted_after_a_discard(capabilities: Capabilities) -> None:
    world = await world_of(capabilities)
    await delete_five(world)
    await decide(world, Decision.DISCARD)
    world.filer.delete(f"{ROOT}/d")
    await world.live(None)
    assert files(world) == {"d/f2", "d/f3", "d/f4", "x"}
    await world.live(None, wish="snapshot")
    await world.live(None, wish="log")
    assert files(world) == {"d/f2", "d/f3", "d/f4", "x"}
    await decide(world, Decision.ALLOW, kept=True)
    assert files(world) == {"x"}


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_their_directory_is_renamed_after_a_discard(capabilities: Capabilities) -> None:
    world = await world_of(capabilities)
    await delete_five(world)
    await decide(world, Decision.DISCARD)
    world.filer.rename(f"{ROOT}/d", f"{ROOT}/e")
    await world.live(None)
    await world.live(None, wish="snapshot")
    assert files(world) == {"d/f2", "d/f3", "d/f4", "e/f5", "x"}


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_file_takes_the_name_of_their_directory(renamed: bool) -> None:
    """It has to wait with them where a directory is in its way, and is a dead letter when they stay."""
    for decision in Decision:
        world = await world_of()
        world.filer.delete(f"{ROOT}/d")
        if renamed:
            world.filer.rename(f"{ROOT}/x", f"{ROOT}/d")
        else:
            world.filer.write(f"{ROOT}/d", b"now a file")
        await world.live(None)
        assert {"d/f2", "d/f5", "x"} <= files(world)
        assert "d" in world.held.keys
        await decide(world, decision)
        if decision is Decision.DISCARD:
            await world.live(None, wish="snapshot")
            assert {"d/f2", "d/f5"} <= files(world)
            letters = world.letters.letters
            assert {letter.key for letter in letters.values()} == ({"d", "x"} if renamed else {"d"})
            for letter_id, letter in letters.items():
                assert "deletes allow --kept" in letter.reason
                letters[letter_id] = replace(letter, retry_requested=True)
            await decide(world, Decision.ALLOW, kept=True)
            await world.live(None)
        world.check_equal()


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_a_bucket_that_is_dropped_in_one_event(capabilities: Capabilities) -> None:
    """As filer stores with a table for each bucket tell it."""
    world = await world_of(capabilities)
    world.filer.drop(f"{ROOT}/d")
    # The model of durability knows nothing of one delete that stands for many.
    world.checkpoints.check = lambda _: None
    await world.live(None)
    assert len(files(world)) == 7
    assert world.held.record.held == 1
    await decide(world, Decision.ALLOW)
    world.check_equal()


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_a_source_that_is_suddenly_empty(capabilities: Capabilities) -> None:
    """Nothing in the log; only a comparison sees it. Each comparison finds the same again."""
    world = await world_of(capabilities)
    world.filer.tree.clear()
    world.filer.log.clear()
    for _ in range(3):
        await world.live(None, wish="snapshot")
        assert len(files(world)) == 5
        assert world.held.record.held == (6 if capabilities.directories else 5)
    await decide(world, Decision.ALLOW)
    assert files(world) == set()


async def test_what_was_written_again_survives_and_is_not_copied_twice() -> None:
    world = await world_of()
    await delete_five(world)
    world.filer.write(f"{ROOT}/d/f3", b"written again")
    await world.live(None)
    writes = world.sink.calls["write"]
    await decide(world, Decision.ALLOW)
    assert files(world) == {"d/f3", "d/f5", "x"}
    assert world.sink.calls["write"] == writes
    world.check_equal()


async def test_a_crash_loses_no_allowed_delete() -> None:
    """Killed in the middle of carrying out what was allowed."""
    for steps in range(5, 120, 5):
        world = await world_of()
        await delete_five(world)
        world.held.wished = DeleteWish(Decision.ALLOW, 1)
        await world.live(steps)
        await world.live(None)
        world.check_equal()
        assert not world.held.stored


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
@pytest.mark.parametrize("limit", [2, 7])
async def test_a_tree_is_moved_to_where_it_is_not_copied(capabilities: Capabilities, limit: int) -> None:
    """Its own event comes first, so that one removal of the tree would be all that is counted."""
    world = await world_of(capabilities)
    world.limits = DeleteGuard(limit=limit, window_s=1e9)
    world.scope = Scope(ROOT, exclude_paths=["out"])
    world.checkpoints.check = lambda _: None
    world.filer.rename(f"{ROOT}/d", f"{ROOT}/out")
    await world.live(None)
    if limit == 7:
        assert files(world) == {"x"}
        assert world.held.record.held == 0
        return
    assert len(files(world)) >= 7 - limit
    assert world.held.record.held >= 6 - limit
    await decide(world, Decision.ALLOW)
    assert files(world) == {"x"}


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_a_removal_that_fails_a_few_times_counts_once(capabilities: Capabilities) -> None:
    world = await world_of(capabilities)
    world.limits = DeleteGuard(limit=8, window_s=1e9)
    for operation in ("delete", "delete_tree"):
        world.sink.fail(operation, SinkThrottled("slow down"), times=5)
    world.filer.delete(f"{ROOT}/d")
    with patch.object(retry, "FIRST_DELAY_S", 1e-4):
        await world.live(None)
    assert files(world) == {"x"}
    world.filer.tree.clear()
    world.filer.log.clear()
    world.sink.fail("delete", SinkThrottled("slow down"), times=5)
    with patch.object(retry, "FIRST_DELAY_S", 1e-4):
        await world.live(None, wish="snapshot")
    assert files(world) == set() and world.held.record.held == 0
