"""Deleting and moving: exactly what is named, and harmless when it is done twice."""

from __future__ import annotations

import dataclasses

import pytest

from filerbackup.content import InlineContent
from filerbackup.events import Entry
from filerbackup.sinks.base import Sink
from tests.contract.contents import MTIME_NS, NOTHING, directory_entry, file_entry, symlink_entry
from tests.contract.place import Place


async def write(sink: Sink, key: str, data: bytes = b"data") -> Entry:
    entry = file_entry(key, len(data))
    await sink.write(key, entry, InlineContent(data))
    return entry


async def test_deleting_one_object(sink: Sink, place: Place) -> None:
    await write(sink, "d/one")
    await write(sink, "d/one.txt")
    for _ in range(2):
        await sink.delete("d/one")
        assert {key for key in await place.keys() if not key.endswith("/")} == {"d/one.txt"}


async def test_deleting_what_never_was(sink: Sink, place: Place) -> None:
    await write(sink, "file")
    for key in ("absent", "d/absent", "file/below"):
        await sink.delete(key)
        await sink.delete_tree(key)

    assert await place.keys() == {"file"}


async def test_deleting_an_empty_directory(sink: Sink, place: Place) -> None:
    if not sink.capabilities.directories:
        pytest.skip("keeps no directories")
    await sink.write("d/empty", directory_entry("d/empty"), NOTHING)
    await sink.delete("d/empty")

    assert await place.keys() == {"d/"}


async def test_a_full_directory_is_not_deleted_as_one_object(sink: Sink, place: Place) -> None:
    await write(sink, "d/file")
    await sink.delete("d")

    assert await place.content("d/file") == b"data"


async def test_deleting_a_tree_spares_its_neighbours(sink: Sink, place: Place) -> None:
    for key in ("t/a", "t/b/c/d", "t/b-c", "t-1", "t.txt", "tt/x", "s/t/y"):
        await write(sink, key)
    if sink.capabilities.directories:
        await sink.write("t/empty/er", directory_entry("t/empty/er"), NOTHING)
    if sink.capabilities.symlinks:
        await sink.write("t/link", symlink_entry("t/link", "../t-1"), NOTHING)
    for _ in range(2):
        await sink.delete_tree("t")
        files = {key for key in await place.keys() if not key.endswith("/")}
        assert files == {"t-1", "t.txt", "tt/x", "s/t/y"}
        assert "t/" not in await place.keys()


async def test_deleting_the_tree_of_a_file(sink: Sink, place: Place) -> None:
    await write(sink, "file")
    await write(sink, "file.txt")
    await sink.delete_tree("file")

    assert await place.keys() == {"file.txt"}


async def test_deleting_a_symlink_spares_its_target(sink: Sink, place: Place) -> None:
    if not sink.capabilities.symlinks:
        pytest.skip("keeps no symlinks")
    await write(sink, "victim/file")
    for delete in (sink.delete, sink.delete_tree):
        await sink.write("link", symlink_entry("link", "victim"), NOTHING)
        await delete("link")
        assert {key for key in await place.keys() if not key.endswith("/")} == {"victim/file"}


async def test_moving_a_file(sink: Sink, place: Place) -> None:
    entry = await write(sink, "old/file", b"moved")
    moved = await sink.move("old/file", "new/place/file", entry)

    assert moved is sink.capabilities.move
    there, gone = ("new/place/file", "old/file") if moved else ("old/file", "new/place/file")
    assert await place.content(there) == b"moved"
    assert await place.content(gone) is None
    assert await place.mtime_ns(there) in (MTIME_NS, None)


async def test_moving_over_another_file(sink: Sink, place: Place) -> None:
    entry = await write(sink, "old", b"moved")
    await write(sink, "new", b"in the way")

    if await sink.move("old", "new", entry):
        assert (await place.content("new"), await place.content("old")) == (b"moved", None)
    else:
        assert (await place.content("new"), await place.content("old")) == (b"in the way", b"moved")


@pytest.mark.parametrize(
    "difference", [{"size": 6}, {"mtime_ns": MTIME_NS + 1}, {"kind": directory_entry("x").kind}]
)
async def test_only_what_is_equal_is_moved(sink: Sink, place: Place, difference: dict[str, object]) -> None:
    entry = await write(sink, "old/file", b"moved")

    assert not await sink.move("old/file", "new/file", dataclasses.replace(entry, **difference))
    assert {key for key in await place.keys() if not key.endswith("/")} == {"old/file"}
    assert "new/" not in await place.keys()


async def test_what_is_absent_is_not_moved(sink: Sink, place: Place) -> None:
    assert not await sink.move("absent", "new/file", file_entry("absent", 4))
    assert not await sink.move("d/absent", "new/file", file_entry("d/absent", 4))
    assert await place.keys() == set()


async def test_moving_a_symlink(sink: Sink, place: Place) -> None:
    if not (sink.capabilities.symlinks and sink.capabilities.move):
        pytest.skip("keeps no symlinks, or cannot move")
    await sink.write("old", symlink_entry("old", "target"), NOTHING)
    assert not await sink.move("old", "new", symlink_entry("old", "another"))

    if await sink.move("old", "new", symlink_entry("old", "target")):
        assert await place.symlink_target("new") == "target"
        assert await place.symlink_target("old") is None


async def test_moving_a_tree(sink: Sink, place: Place) -> None:
    await write(sink, "old/a/b", b"below")
    await write(sink, "older", b"beside")
    directory = directory_entry("old", mode=0o750)
    if sink.capabilities.directories:
        await sink.write("old", directory_entry("old", mode=0o700), NOTHING)

    moved = await sink.move("old", "far/new", directory)

    assert moved is sink.capabilities.move_tree
    if moved:
        assert await place.keys() == {"far/", "far/new/", "far/new/a/", "far/new/a/b", "older"}
        assert await place.content("far/new/a/b") == b"below"
        assert await place.mode("far/new") in (0o750, None)
    else:
        assert await place.content("old/a/b") == b"below"


async def test_a_tree_is_not_moved_onto_something_or_into_itself(sink: Sink, place: Place) -> None:
    await write(sink, "old/file")
    await write(sink, "new/file", b"in the way")
    directory = directory_entry("old", mode=0o700)
    if sink.capabilities.directories:
        await sink.write("empty", directory_entry("empty"), NOTHING)
        assert not await sink.move("old", "empty", directory)

    assert not await sink.move("old", "new", directory)
    assert not await sink.move("old", "old/below", directory)
    assert await place.content("old/file") == b"data"
    assert await place.content("new/file") == b"in the way"
