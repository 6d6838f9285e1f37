"""Files in remote storage, times to live and bodies of directories, without a filer."""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest

from filerbackup.events import Chunk, Entry, EntryKind, Marker, Rename, Upsert
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.subscribe import _events
from tests.property.test_pipeline import TREES, World
from tests.support.model_filer import ROOT
from tests.unit.test_isolation import catch_up, world_of

MINUTE_NS = 60 * 10**9


# -- remote storage ---------------------------------------------------------------------------------


def make_remote(world: World, name: str) -> Entry:
    """Turn a file of the model into one whose bytes are elsewhere; returns it as it was."""
    path = f"{ROOT}/{name}"
    whole = world.filer.tree[path]
    bare = replace(whole, chunks=(), remote_size=whole.size)
    # The model's own check knows nothing of bytes elsewhere.
    world.checkpoints.check = lambda _: None
    world.filer.tree[path] = bare
    world.filer.log = [
        Upsert(event.ts_ns, bare) if isinstance(event, Upsert) and event.entry.path == path else event
        for event in world.filer.log
    ]
    return whole


async def test_what_is_only_in_remote_storage_is_fetched() -> None:
    world = world_of(3)
    whole = make_remote(world, "f001")
    fetched: list[str] = []

    async def fetch(entry: Entry) -> Entry | None:
        fetched.append(entry.path)
        return replace(whole, remote_size=whole.size)

    world.filer.fetch = fetch  # type: ignore[method-assign]
    await catch_up(world)
    assert world.sink.objects["f001"].data == b"1"
    assert set(fetched) == {whole.path}
    # The copy is as good as the remote file while size and time are the same.
    fetched.clear()
    await world.live(None, wish="snapshot")
    assert fetched == []


async def test_what_is_to_be_left_out_is_neither_there_nor_a_dead_letter() -> None:
    world = world_of(3)
    make_remote(world, "f001")

    async def fetch(entry: Entry) -> Entry | None:
        return None

    world.filer.fetch = fetch  # type: ignore[method-assign]
    await catch_up(world)
    assert set(world.sink.objects) == {"f000", "f002"}
    assert world.letters.letters == {}


def note(old: pb.Entry, new: pb.Entry) -> list[object]:
    notification = pb.EventNotification(old_entry=old, new_entry=new)
    return list(
        _events(pb.SubscribeMetadataResponse(directory="/d", ts_ns=5, event_notification=notification))
    )


def remote_entry(*, cached: bool, mtime: int = 7, tag: str = "t") -> pb.Entry:
    chunks = [pb.FileChunk(file_id="1,01", size=9)] if cached else []
    remote = pb.RemoteEntry(storage_name="r", remote_size=9, remote_mtime=mtime, remote_e_tag=tag)
    return pb.Entry(name="f", chunks=chunks, remote_entry=remote)


def test_a_copy_that_the_filer_drops_is_no_change() -> None:
    assert note(remote_entry(cached=True), remote_entry(cached=False)) == [Marker(5)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (remote_entry(cached=True), remote_entry(cached=False, mtime=8)),
        (remote_entry(cached=True), remote_entry(cached=False, tag="other")),
        (remote_entry(cached=False), remote_entry(cached=False)),
        (remote_entry(cached=False), remote_entry(cached=True)),
        (pb.Entry(name="f", chunks=[pb.FileChunk(size=9)]), pb.Entry(name="f")),
    ],
)
def test_anything_else_is_one(old: pb.Entry, new: pb.Entry) -> None:
    assert [type(event) for event in note(old, new)] == [Upsert]


# -- times to live ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl_s", "kept_s"),
    [
        (60, 60), (119, 60), (120, 120), (30, 30), (255 * 60 + 59, 255 * 60),
        # Beyond 255 minutes whole hours are kept, and so on.
        (256 * 60, 4 * 3600), (86_400, 86_400), (256 * 3600, 10 * 86_400), (300 * 86_400, 42 * 7 * 86_400),
    ],
)  # fmt: skip
def test_how_long_a_volume_server_keeps_a_chunk(ttl_s: int, kept_s: int) -> None:
    chunks = (Chunk("1,01", 0, 1, 5 * MINUTE_NS), Chunk("1,02", 1, 1, 2 * MINUTE_NS))
    entry = Entry(path="/f", kind=EntryKind.FILE, ttl_s=ttl_s, chunks=chunks)
    assert entry.bytes_end_ns == 2 * MINUTE_NS + kept_s * 10**9


def test_most_files_have_no_end() -> None:
    assert Entry(path="/f", kind=EntryKind.FILE).bytes_end_ns is None
    assert Entry(path="/f", kind=EntryKind.FILE, ttl_s=(1 << 31) - 1).bytes_end_ns is not None


# -- bodies of directories --------------------------------------------------------------------------


def directory(path: str) -> Entry:
    return Entry(
        path=f"{ROOT}/{path}", kind=EntryKind.DIRECTORY, mode=stat.S_IFDIR | 0o755, size=4, content=b"body"
    )


async def test_a_body_that_has_no_place_is_told_of_however_often_the_change_comes() -> None:
    """Also when the directory itself is in the sink already, and when it is renamed."""
    world = World(world_of(0).rng, TREES, dated=False)
    made, moved = directory("made"), directory("moved")
    world.filer.tree[made.path] = made
    world.filer.log = [Upsert(1, made), Upsert(2, made)]
    await catch_up(world)
    assert [letter.path for letter in world.letters.letters.values()] == [made.path]
    await world.live(None, wish="snapshot")
    assert [letter.path for letter in world.letters.letters.values()] == [made.path]
    world.filer.tree = {moved.path: moved}
    world.filer.log = [Upsert(1, made), Upsert(2, made), Rename(1 << 60, made, moved)]
    world.filer._clock = 1 << 40
    await catch_up(world)
    assert moved.path in [letter.path for letter in world.letters.letters.values()]
    assert set(world.sink.objects) == {"moved"}
