"""A backup directory that somebody else tampers with: nothing outside of it is ever touched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from filerbackup.errors import SinkError, SinkRefused
from filerbackup.sinks.local import LocalSink
from filerbackup.sinks.local.tree import Tree
from tests.contract.contents import NOTHING, StreamedContent, directory_entry, file_entry, symlink_entry
from tests.integration.local_support import files_below, keys, opened, write

VICTIMS = {"file": b"precious", "d/file": b"precious too", "d/e/file": b"and this"}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Files beside the sink, and the check that they are just as they were."""
    directory = tmp_path / "outside"
    for name, data in VICTIMS.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    before = state_of(directory)
    yield directory
    assert files_below(directory) == VICTIMS
    assert state_of(directory) == before


def state_of(directory: Path) -> list[tuple[str, int, int]]:
    """Names, modes and times of everything there."""
    paths = sorted([directory, *directory.rglob("*")])
    return [(str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in paths]


async def everything(sink: LocalSink, below: str) -> None:
    """Every operation of a sink on keys below `below`; what fails may fail, with an error of the tree."""
    for name in ("file", "d/file", "d/e/file", "new"):
        key = f"{below}/{name}"
        with contextlib.suppress(SinkError, FileNotFoundError):
            assert [block async for block in sink.read(key)] != [VICTIMS.get(name)]
        with contextlib.suppress(SinkError):
            assert not await sink.move(key, "stolen", file_entry(key, len(VICTIMS.get(name, b""))))
        for change in (
            lambda key=key: sink.delete(key),
            lambda key=key: sink.delete_tree(key),
            lambda key=key: write(sink, key, b"written"),
            lambda key=key: sink.write(key, file_entry(key, 1 << 20), StreamedContent(1 << 20)),
            lambda key=key: sink.write(key, symlink_entry(key, "x"), NOTHING),
            lambda key=key: sink.write(key, directory_entry(key, mode=0o700), NOTHING),
            lambda key=key: sink.update(key, file_entry(key, 8, mode=0o666)),
            lambda key=key: sink.stat(key),
            lambda: keys(sink, f"{below}/"),
            lambda: sink.move("stolen", f"{below}/stolen", file_entry("stolen", 8)),
            lambda: sink.delete_tree(below),
            sink.flush,
        ):
            with contextlib.suppress(SinkError):
                await change()


async def test_a_planted_symlink_on_the_way_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    copies = tmp_path / "copies"
    async with opened(copies) as sink:
        for target in (str(outside), "../outside", "/", "..", "."):
            (copies / "planted").symlink_to(target)
            assert await sink.stat("planted/file") is None
            assert await keys(sink) == ["planted"]
            assert await keys(sink, "planted/") == []
            with pytest.raises(FileNotFoundError):
                await anext(sink.read("planted/file"))
            await sink.delete("planted/file")
            await sink.delete_tree("planted/d")
            assert not await sink.move("planted/file", "stolen", file_entry("file", 8))
            assert (copies / "planted").is_symlink()

            await write(sink, "planted/file", b"copy")
            assert files_below(copies / "planted") == {"file": b"copy"}
            assert not (copies / "planted").is_symlink()
            await sink.delete_tree("planted")


async def test_a_planted_symlink_at_the_key_is_replaced(tmp_path: Path, outside: Path) -> None:
    copies = tmp_path / "copies"
    async with opened(copies) as sink:
        for target in (outside / "file", outside):
            for make in (
                lambda: write(sink, "key", b"copy"),
                lambda: sink.write("key", file_entry("key", 1 << 20), StreamedContent(1 << 20)),
                lambda: sink.write("key", directory_entry("key", mode=0o711), NOTHING),
                lambda: sink.delete("key"),
                lambda: sink.delete_tree("key"),
            ):
                (copies / "key").symlink_to(target)
                await make()
                assert not (copies / "key").is_symlink()
                await sink.delete_tree("key")


async def test_a_symlink_in_a_deleted_tree_is_not_followed(tmp_path: Path, outside: Path) -> None:
    copies = tmp_path / "copies"
    async with opened(copies) as sink:
        await write(sink, "d/e/file")
        (copies / "d" / "e" / "link").symlink_to(outside)
        (copies / "d" / "link").symlink_to(outside / "d")
        await sink.delete_tree("d")
        assert await keys(sink) == []


@pytest.mark.parametrize("level", [0, 1])
async def test_a_symlink_swapped_in_at_any_moment_leads_nowhere(
    tmp_path: Path, outside: Path, level: int
) -> None:
    """Two names change places as fast as they can: a directory, and a symlink to the outside."""
    copies = tmp_path / "copies"
    above = copies if level == 0 else copies / "above"
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        link, path, aside = above / "link", above / "swapped", above / "aside"
        while not stop.is_set():
            with contextlib.suppress(OSError):
                link.symlink_to(outside)
            with contextlib.suppress(OSError):
                path.rename(aside)
            with contextlib.suppress(OSError):
                link.rename(path)
                swaps += 1
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(OSError):
                aside.rename(path)

    async with opened(copies) as sink:
        above.mkdir(exist_ok=True)
        thread = threading.Thread(target=swap)
        thread.start()
        below = "swapped" if level == 0 else "above/swapped"
        try:
            async with asyncio.timeout(20):
                rounds = 0
                while rounds < 12 or swaps < 50:
                    await everything(sink, below)
                    rounds += 1
        finally:
            stop.set()
            thread.join()
        assert await sink.stat("stolen") is None


@pytest.mark.parametrize("name", [".filerbackup", ".filerbackup/tmp"])
async def test_own_directories_are_not_followed_either(tmp_path: Path, outside: Path, name: str) -> None:
    copies = tmp_path / "copies"
    (copies / name).parent.mkdir(parents=True)
    (copies / name).symlink_to(outside)
    with pytest.raises(SinkRefused):
        async with opened(copies):
            pass


async def test_own_files_are_not_followed_either(tmp_path: Path, outside: Path) -> None:
    copies = tmp_path / "copies"
    async with opened(copies) as sink:
        (copies / ".filerbackup" / "sink.json").symlink_to(outside / "file")
        assert await sink.read_own(".filerbackup/sink.json") is None
        await sink.write_own(".filerbackup/sink.json", b"{}")
        assert await sink.read_own(".filerbackup/sink.json") == b"{}"
        (copies / ".filerbackup" / "more").symlink_to(outside)
        assert await sink.read_own(".filerbackup/more/file") is None
        await sink.write_own(".filerbackup/more/file", b"own")
        assert files_below(copies / ".filerbackup" / "more") == {"file": b"own"}


async def test_a_planted_workspace_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    """What looks like leftovers of a killed process is removed, but only what can be ours."""
    copies = tmp_path / "copies"
    async with opened(copies) as sink:
        await write(sink, "keep")
        await write(sink, "d/keep")
    planted = copies / ".filerbackup" / "tmp" / "0123456789abcdef"
    planted.mkdir()
    (planted / "lock").touch()
    for number, target in enumerate(
        [
            outside / "file",
            "../outside/file",
            "../outside/.filerbackup-tmp-1",
            "/.filerbackup-tmp-1",
            "keep",
            "d/../keep",
            "d/keep",
            "",
        ]
    ):
        if target:
            (planted / f"note-{number}").symlink_to(str(target))
    (planted / "link").symlink_to(outside)
    (planted / "directory").symlink_to(outside / "d")
    (copies / ".filerbackup" / "tmp" / "linked").symlink_to(outside)

    async with opened(copies) as sink:
        assert await keys(sink) == ["d", "d/keep", "keep"]
    assert os.listdir(copies / ".filerbackup" / "tmp") == []


async def test_a_tree_of_any_depth_is_listed_and_removed(tmp_path: Path) -> None:
    depth = 400
    async with opened(tmp_path / "copies") as sink:
        fd = os.open(tmp_path / "copies", os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("deep-and-deeper", dir_fd=fd)
            below = os.open("deep-and-deeper", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)

        assert len(await keys(sink)) == depth
        await sink.delete_tree("deep-and-deeper")
        assert await keys(sink) == []


async def test_a_tree_that_grows_while_it_is_removed_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "d/file")
        original = os.rmdir

        def grow(name: bytes, *, dir_fd: int) -> None:
            (tmp_path / "copies" / "d" / "again").touch()
            original(name, dir_fd=dir_fd)

        monkeypatch.setattr(os, "rmdir", grow)
        with pytest.raises(SinkError, match="being removed"):
            await sink.delete_tree("d")


def test_a_path_cannot_climb(tmp_path: Path, outside: Path) -> None:
    """Below the checks of keys there is one more."""
    (tmp_path / "copies" / "d").mkdir(parents=True)
    tree = Tree(str(tmp_path / "copies"))
    try:
        for path in (b"../outside/file", b"d/../../outside/file", b"/etc/passwd", b"d//file", b"./file"):
            with pytest.raises(OSError, match="Invalid argument"):
                tree.remove(path)
            with pytest.raises(OSError, match="Invalid argument"):
                tree.look(path)
            with pytest.raises(OSError, match="Invalid argument"):
                tree.write_small(path, file_entry("x", 1), b"x")
    finally:
        tree.close()
