"""Who may look at the copies: at no moment more people than at the source, whatever the umask."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from filerbackup.errors import ObjectRejected
from filerbackup.events import Entry, EntryKind
from tests.contract.contents import NOTHING, StreamedContent, directory_entry, file_entry, symlink_entry
from tests.integration.local_support import mode_of, needs_root, only, opened, write

CALLS = (
    "open", "rename", "mkdir", "symlink", "chown", "fchown", "fchmod", "utime", "unlink", "write", "setxattr",
)  # fmt: skip
OTHERS = 0o077
OLD = (1234, 4321, 0o660)
NEW = (1235, 4320, 0o604)
"""User, group and mode; the new group may read nothing, though the old mode let a group write."""
ROOT = (0, 0, 0o604)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask-{mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@contextlib.contextmanager
def looked_at_after_every_call(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[], None]
) -> Iterator[list[str]]:
    """What `look` finds wrong, after any system call that the sink makes."""
    wrong: list[str] = []

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            try:
                look()
            except AssertionError as error:
                wrong.append(f"after {name}: {error}")
            return result

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, watched(name, getattr(os, name)))
        yield wrong


def visible(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What somebody else can reach there: nothing of it lies below a directory that is closed to them."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(directory.iterdir()):
            status = path.lstat()
            yield path.name, status
            if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o011:
                yield from visible(path)


def owned(entry: Entry, whose: tuple[int, int, int]) -> Entry:
    uid, gid, mode = whose
    return dataclasses.replace(
        entry, uid=uid, gid=gid, mode=stat.S_IFMT(entry.mode) | mode, md5=b"0123456789abcdef"
    )


def whose(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


async def test_nobody_sees_more_than_at_the_source_at_any_moment(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    wanted = {"d": 0o750, "small": 0o640, "large": 0o604, "secret": 0o600, "deep": 0o700, "moved": 0o640}

    def look() -> None:
        for name, status in visible(copies):
            if not stat.S_ISLNK(status.st_mode):
                allowed = wanted.get(name, 0)
                shown = stat.S_IMODE(status.st_mode)
                assert not shown & OTHERS & ~allowed, f"{name} has mode {shown:04o}"

    with looked_at_after_every_call(monkeypatch, look) as wrong:
        async with opened(copies) as sink:
            await sink.write("d", directory_entry("d", mode=0o750), NOTHING)
            copies.chmod(0o755)  # as an operator may do: what is below has to be closed by itself
            await write(sink, "d/small", b"x", file_entry("d/small", 1, mode=0o640))
            large = file_entry("d/large", 600_000, mode=0o604)
            await sink.write("d/large", large, StreamedContent(600_000))
            await write(sink, "deep/er/secret", b"x", file_entry("secret", 1, mode=0o600))
            await sink.write("link", symlink_entry("link", "d"), NOTHING)
            assert await sink.move("d/small", "d/moved", file_entry("d/moved", 1, mode=0o640))
            await sink.write_own(".filerbackup/sink.json", b"{}")
            await sink.flush()
    assert wrong == []
    assert (mode_of(copies / "d"), mode_of(copies / "d" / "large")) == (0o750, 0o604)
    for path in (copies / ".filerbackup", *(copies / ".filerbackup").rglob("*")):
        assert not mode_of(path) & OTHERS, path


@needs_root
@pytest.mark.parametrize(
    ("old", "new", "in_place"),
    [
        pytest.param(OLD, NEW, False, id="another-user"),
        pytest.param(OLD, ROOT, False, id="to-root"),
        pytest.param(OLD, (*OLD[:1], *NEW[1:]), True, id="another-group"),
        pytest.param((0, *OLD[1:]), ROOT, True, id="another-group-of-root"),
        pytest.param((0, 0, 0o640), NEW, True, id="from-root"),
        pytest.param((0, *OLD[1:]), NEW, False, id="from-root-and-a-group-that-may-write"),
    ],
)
async def test_a_change_of_owner_and_mode_has_no_moment_of_both(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: tuple[int, int, int],
    new: tuple[int, int, int],
    in_place: bool,
) -> None:
    copies = tmp_path / "copies"
    names = {"file": file_entry("file", 1), "folder": directory_entry("folder")}
    modes = {old[:2]: old[2], new[:2]: new[2]}

    def look() -> None:
        for name in names:
            status = (copies / name).lstat()
            shown = stat.S_IMODE(status.st_mode)
            assert not shown & OTHERS & ~modes[status.st_uid, status.st_gid], f"{name} has {shown:04o}"

    async with opened(copies) as sink:
        await write(sink, "file", b"x", owned(names["file"], old))
        await sink.write("folder", owned(names["folder"], old), NOTHING)
        with looked_at_after_every_call(monkeypatch, look) as wrong:
            assert await sink.update("file", owned(names["file"], new)) is in_place
            if not in_place:
                assert whose(copies / "file") == old
                await write(sink, "file", b"x", owned(names["file"], new))
            await sink.write("folder", owned(names["folder"], new), NOTHING)
        assert wrong == []
        assert whose(copies / "file") == whose(copies / "folder") == new
        for name, entry in names.items():
            assert await sink.matches(await only(sink, name), owned(entry, new))


@needs_root
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param((1234, 4321, 0o755), (1235, 4320, 0o4755), id="set-uid-of-another"),
        pytest.param((1234, 4321, 0o755), (0, 0, 0o4755), id="set-uid-of-root"),
        pytest.param((1234, 4321, 0o755), (1234, 4321, 0o2755), id="set-gid-of-a-group-of-others"),
        pytest.param((0, 4321, 0o775), (0, 4321, 0o4775), id="set-uid-where-a-group-may-write"),
        pytest.param((1234, 4321, 0o755), (1235, 4320, 0o755), id="another-user"),
        pytest.param((0, 4321, 0o775), (1235, 4320, 0o755), id="another-user-where-a-group-may-write"),
    ],
)
async def test_bytes_that_others_could_exchange_get_nobody_elses_rights(
    tmp_path: Path, old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    """Size, modified time and attribute can all be forged by the owner, and nearly so by who may write."""
    copy = tmp_path / "copies" / "file"
    entry = file_entry("file", 4)
    async with opened(tmp_path / "copies", keep_set_id=True) as sink:
        await write(sink, "file", b"good", owned(entry, old))
        times = copy.stat().st_mtime_ns
        copy.write_bytes(b"evil")
        os.utime(copy, ns=(times, times))
        assert whose(copy) == old
        assert not await sink.update("file", owned(entry, new))
        assert whose(copy) == old
        await write(sink, "file", b"good", owned(entry, new))
    assert copy.read_bytes() == b"good"
    assert whose(copy) == new


@needs_root
async def test_an_owner_that_cannot_be_given_leaves_a_copy_to_us_and_not_to_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, original = directory_entry("d"), os.fchown
    nobody = owned(folder, (0xFFFFFFFF, 4320, 0o2700))

    def refuses(fd: int, uid: int, gid: int) -> None:
        if uid == NEW[0]:
            raise PermissionError(errno.EPERM, "no such user here")
        original(fd, uid, gid)

    async with opened(tmp_path / "copies", keep_set_id=True) as sink:
        await sink.write("d", owned(folder, OLD), NOTHING)
        await sink.write("d", nobody, NOTHING)
        assert whose(tmp_path / "copies" / "d") == (0, 0, 0o700)
        assert await sink.matches(await only(sink, "d"), nobody)
        link = dataclasses.replace(symlink_entry("l", "d"), uid=0xFFFFFFFF)
        await sink.write("l", link, NOTHING)
        assert await sink.matches(await only(sink, "l"), link)

        await sink.write("d", owned(folder, OLD), NOTHING)
        monkeypatch.setattr(os, "fchown", refuses)
        await sink.write("d", owned(folder, NEW), NOTHING)
        assert whose(tmp_path / "copies" / "d") == (0, 0, NEW[2])


async def test_the_way_to_a_new_directory_is_for_us_only(tmp_path: Path, umask: int) -> None:
    async with opened(tmp_path / "a" / "b" / "copies"):
        pass
    for name in ("a", "a/b", "a/b/copies", "a/b/copies/.filerbackup"):
        assert mode_of(tmp_path / name) == 0o700


async def test_a_directory_of_our_own_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    for name in (".filerbackup", ".filerbackup/tmp"):
        (tmp_path / "copies" / name).mkdir(parents=True)
        (tmp_path / "copies" / name).chmod(0o777)
    async with opened(tmp_path / "copies"):
        assert mode_of(tmp_path / "copies" / ".filerbackup") == 0o700
        assert mode_of(tmp_path / "copies" / ".filerbackup" / "tmp") == 0o700


async def test_a_directory_that_everybody_may_write_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path):
        assert caplog.messages == []
    tmp_path.chmod(0o1777)
    async with opened(tmp_path):
        assert "may be written by every user" in caplog.text


async def test_a_symlink_to_the_directory_is_the_operators_choice(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "copies").symlink_to(tmp_path / "disk")
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "file")
        await sink.flush()
    assert (tmp_path / "disk" / "file").read_bytes() == b"data"


async def test_set_id_bits_are_left_out_unless_they_are_wanted(tmp_path: Path) -> None:
    entry = dataclasses.replace(file_entry("f", 4, mode=0o7755), md5=b"0123456789abcdef")
    folder = directory_entry("d", mode=0o3770)
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "f", entry=entry)
        await sink.write("d", folder, NOTHING)
        assert mode_of(tmp_path / "copies" / "f") == 0o1755
        assert mode_of(tmp_path / "copies" / "d") == 0o1770
        assert await sink.matches(await only(sink, "f"), entry)
        assert await sink.matches(await only(sink, "d"), folder)
        assert await sink.update("f", dataclasses.replace(entry, mode=stat.S_IFREG | 0o6711))
        assert mode_of(tmp_path / "copies" / "f") == 0o711


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
async def test_no_device_is_ever_made(tmp_path: Path, kind: int) -> None:
    entry = Entry("/null", EntryKind.SPECIAL, mode=kind | 0o666, mtime_ns=1)
    async with opened(tmp_path / "copies", keep_set_id=True) as sink:
        with pytest.raises(ObjectRejected):
            await sink.write("null", entry, NOTHING)
        # Nor does a file become one through its mode.
        await write(sink, "file", b"data", dataclasses.replace(file_entry("file", 4), mode=kind | 0o666))
        assert stat.S_ISREG((tmp_path / "copies" / "file").lstat().st_mode)
        assert not (tmp_path / "copies" / "null").exists()
