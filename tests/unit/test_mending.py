"""What a snapshot, a comparison and a repeated log make right in a sink that is not empty."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from unittest.mock import patch

import pytest

from filerbackup.content import Content
from filerbackup.events import Entry, EntryKind, Upsert
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.pipeline import start
from filerbackup.pipeline.start import require_log
from filerbackup.settings.model import DeleteGuard
from filerbackup.sinks.base import Capabilities, Listed
from filerbackup.sinks.memory import MemorySink
from filerbackup.source.subscribe import _events
from filerbackup.state.base import COMPARISON_WANTED, Checkpoint, Phase
from tests.property.test_pipeline import NO_LINKS, OBJECTS, TREES, World
from tests.support.model_filer import DAY_NS, ROOT


class BlindToModes(MemorySink):
    """Compares as a bucket does: a listing shows size, time and content, but no mode."""

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        found = self.objects.get(listed.key)
        if thorough:
            return await super().matches(listed, entry)
        return found is not None and found.mtime_ns == entry.mtime_ns and len(found.data) == entry.size


@pytest.mark.parametrize("content", [b"", b"content"])
async def test_a_mode_that_changed_while_a_snapshot_was_taken(content: bytes) -> None:
    """Another look would see the same file there."""
    world = World(random.Random(1), OBJECTS, dated=False)
    world.sink = BlindToModes(capabilities=OBJECTS)
    world.filer.write(f"{ROOT}/f", content)
    world.filer.mkdir(f"{ROOT}/later")
    await world.live(None)
    world.filer.chmod(f"{ROOT}/f", 0o600)
    with patch.object(start, "WALK_MARGIN_NS", 10 * DAY_NS):
        await world.live(None, wish="snapshot")
    assert world.sink.objects["f"].mode == 0o600


@pytest.mark.parametrize("by", ["snapshot", "comparison"])
@pytest.mark.parametrize("updates", [True, False])
async def test_a_change_of_attributes_that_the_log_has_lost(by: str, updates: bool) -> None:
    """Where something may be missing in the log, more is looked at than a listing shows."""
    capabilities = replace(OBJECTS, update=updates)
    world = World(random.Random(1), capabilities, dated=False)
    world.sink = BlindToModes(capabilities=capabilities)
    for name in ("f", "g"):
        world.filer.write(f"{ROOT}/{name}", b"content")
    await world.live(None)
    writes = world.sink.calls["write"]
    world.filer.chmod(f"{ROOT}/f", 0o600)
    world.filer.log.clear()
    if by == "snapshot":
        await world.live(None, wish="snapshot")
    else:
        await world.live(None, compare=True)
    world.check_equal()
    assert world.sink.calls["write"] == writes + (not updates)


class RoomForBoth(MemorySink):
    """As a bucket has it: `d` and `d/` are two objects."""

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        there = self.objects.get(key)
        assert there is None or (there.kind is EntryKind.DIRECTORY) == entry.is_directory
        await super().write(key, entry, content)


@pytest.mark.parametrize("becomes", ["file", "directory"])
async def test_what_became_a_directory_or_a_file_unseen_leaves_nothing_behind(becomes: str) -> None:
    capabilities = replace(OBJECTS, directories=True)
    world = World(random.Random(1), capabilities, dated=False)
    world.sink = RoomForBoth(capabilities=capabilities)
    steps = [("mkdir", f"{ROOT}/d"), ("write", f"{ROOT}/d", b"1")]
    before, after = steps if becomes == "file" else reversed(steps)
    world.do([before])
    await world.live(None)
    world.do([("delete", f"{ROOT}/d"), after])
    world.filer.log.clear()
    await world.live(None, compare=True)
    assert world.sink.objects["d"].kind.value == becomes


@pytest.mark.parametrize("by", ["snapshot", "comparison"])
async def test_a_file_that_became_a_symlink_unseen(by: str) -> None:
    """Where symlinks are skipped, the file must not stay."""
    world = await world_with_links(NO_LINKS)
    if by == "snapshot":
        await world.live(None, wish="snapshot")
    else:
        await world.live(None, compare=True)
    world.check_equal()
    assert set(world.sink.objects) == {"x"}


async def test_the_delete_guard_counts_files_that_became_symlinks() -> None:
    world = await world_with_links(NO_LINKS)
    world.limits = DeleteGuard(limit=2, window_s=1e9)
    await world.live(None, wish="snapshot")
    assert set(world.sink.objects) == {"f2", "f3", "x"}


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_symlinks_that_are_kept_stay(capabilities: Capabilities) -> None:
    world = await world_with_links(capabilities)
    await world.live(None, wish="snapshot")
    world.check_equal()


async def world_with_links(capabilities: Capabilities) -> World:
    """Four files are copied, then become symlinks in a part of the log that nobody reads."""
    world = World(random.Random(1), capabilities, dated=False)
    for i in range(4):
        world.filer.write(f"{ROOT}/f{i}", b"%d" % i)
    world.filer.write(f"{ROOT}/x", b"x")
    await world.live(None)
    for i in range(4):
        world.filer.symlink(f"{ROOT}/f{i}", "x")
    world.filer.log.clear()
    return world


def upsert(old: pb.Entry, new: pb.Entry) -> Upsert:
    note = pb.EventNotification(old_entry=old, new_entry=new)
    (event,) = _events(pb.SubscribeMetadataResponse(directory="/d", ts_ns=5, event_notification=note))
    assert isinstance(event, Upsert)
    return event


def entry(*, mode: int = 0o644, size: int = 0, target: str = "", is_directory: bool = False) -> pb.Entry:
    attributes = pb.FuseAttributes(file_mode=mode, file_size=size, symlink_target=target)
    return pb.Entry(name="f", attributes=attributes, is_directory=is_directory)


def test_an_empty_file_has_the_same_content_as_before() -> None:
    assert upsert(entry(), entry(mode=0o600)).same_content


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (entry(size=1), entry()),
        (entry(), entry(size=1)),
        (entry(size=7), entry(size=7)),
        (entry(target="a"), entry(target="b")),
        (entry(is_directory=True), entry()),
        (entry(), pb.Entry(name="f", remote_entry=pb.RemoteEntry(remote_size=5))),
    ],
)
def test_other_content_or_content_that_is_not_there(old: pb.Entry, new: pb.Entry) -> None:
    assert not upsert(old, new).same_content


@pytest.mark.parametrize("capabilities", [TREES, OBJECTS])
async def test_a_directory_that_is_renamed_and_made_again_behind_the_back_of_a_snapshot(
    capabilities: Capabilities,
) -> None:
    """The log repeats a rename when the old name holds what came later, which must not move along."""
    world = World(random.Random(1), capabilities, dated=False)
    filer = world.filer
    for path in ("m", "t/c"):
        filer.write(f"{ROOT}/{path}", path.encode())
    walk = filer.walk

    async def overtaken(after: str = "") -> AsyncGenerator[Entry, None]:
        """The walk is behind `b` and before `t` when one becomes the other."""
        async for found in walk(after):
            yield found
            if found.path == f"{ROOT}/m":
                break
        filer.rename(f"{ROOT}/t", f"{ROOT}/b")
        filer.write(f"{ROOT}/t/q", b"new")
        async for found in walk("m"):
            yield found

    filer.walk = overtaken  # type: ignore[method-assign]
    await world.live(None)
    world.check_equal()


async def test_a_repeated_move_of_a_directory_leaves_what_came_later_below_its_old_name() -> None:
    """A crash after the newer file was durable, and before the directory's move was."""
    world = World(random.Random(1), TREES, dated=False)
    world.filer.write(f"{ROOT}/a/f", b"1")
    await world.live(None)
    before = dict(world.sink.objects)
    stored: list[Checkpoint] = []
    world.checkpoints.check = stored.append
    world.filer.rename(f"{ROOT}/a", f"{ROOT}/b")
    moved_ns = world.filer.log[-2].ts_ns
    world.filer.write(f"{ROOT}/a/new", b"2")
    await world.live(None)
    world.check_equal()

    world.sink.objects = {**before, "a/new": world.sink.objects["a/new"]}
    world.checkpoints.stored = [mark for mark in stored if mark.offset_ns < moved_ns][-1]
    await world.live(None)
    world.check_equal()


async def test_a_comparison_that_is_wanted_is_not_forgotten_when_the_process_ends() -> None:
    """The filer may have lost some of its log, and no event will tell of it."""
    world = World(random.Random(1), TREES, dated=False)
    world.filer.write(f"{ROOT}/f", b"1")
    await world.live(None)
    for objects in (world.sink.objects, world.sink.durable):
        del objects["f"]
    await world.live(6, compare=True)
    assert world.checkpoints.stored is not None
    assert world.checkpoints.stored.compared_ns == COMPARISON_WANTED
    await world.live(None)
    world.check_equal()
    assert world.checkpoints.stored.compared_ns > 0


async def test_a_snapshot_that_goes_on_never_stores_that_it_is_at_the_beginning() -> None:
    world = World(random.Random(1), TREES, dated=False)
    for name in ("a", "b", "c"):
        world.filer.write(f"{ROOT}/{name}", b"1")
    stored: list[Checkpoint] = []
    world.checkpoints.check = stored.append
    world.checkpoints.stored = Checkpoint(offset_ns=0, phase=Phase.SNAPSHOT, cursor="b")
    await world.live(None)
    assert next(mark.cursor for mark in stored if mark.phase is Phase.SNAPSHOT) == "b"


async def test_from_the_first_entry_of_the_log_is_no_gap() -> None:
    """Also for whoever goes on with it."""
    world = World(random.Random(1), TREES, dated=False)
    world.filer.write(f"{ROOT}/f", b"1")
    await world.live(3, wish="log")
    assert world.checkpoints.stored is not None
    assert world.checkpoints.stored.phase is Phase.FOLLOW
    await require_log(world.filer, world.checkpoints.stored.offset_ns)
