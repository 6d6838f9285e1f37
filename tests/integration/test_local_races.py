"""Somebody exchanges files and directories of the sink at any moment: before each single system call.

The calls that a sink makes with names are counted, and the exchange happens before the first, then before
the second, and so on, until an operation ends before its turn. So every moment of every operation is tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from filerbackup.errors import SinkError
from filerbackup.events import Entry
from filerbackup.sinks.local import LocalSink
from tests.contract.contents import NOTHING, StreamedContent, directory_entry, file_entry, symlink_entry
from tests.integration.local_support import needs_root, opened, tmpfs, write

CALLS = (
    "open", "stat", "rename", "unlink", "rmdir", "mkdir", "symlink", "readlink", "utime", "getxattr", "chown",
    "fchown", "fchmod", "scandir", "fsync",
)  # fmt: skip
DATA = b"the bytes"
MOST_CALLS = 200
OWNER = (1234, 4321) if os.geteuid() == 0 else (0, 0)
Exchange = Callable[[Path, Path], None]


def anothers(entry: Entry) -> Entry:
    """The entry as another user's, where we may give files away; its content has a name (a hash)."""
    uid, gid = OWNER
    return dataclasses.replace(entry, uid=uid, gid=gid, md5=b"0123456789abcdef")


def entry(key: str, *, mode: int = 0o644, size: int = len(DATA)) -> Entry:
    return anothers(file_entry(key, size, mode=mode))


class Adversary:
    """Acts once, before the n-th call of the operation; then counts on."""

    def __init__(self) -> None:
        self.turn = MOST_CALLS
        self.calls = 0
        self.act: Callable[[], None] | None = None

    @property
    def has_acted(self) -> bool:
        return self.act is None

    def sees(self) -> None:
        self.calls += 1
        if self.calls > self.turn and self.act is not None:
            act, self.act = self.act, None
            with contextlib.suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
                act()


@pytest.fixture
def adversary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Adversary]:
    found = Adversary()

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if found.act is not None:
                found.sees()
            return original(*arguments, **named)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    yield found
    found.act = None


def directory_for_symlink(copies: Path, outside: Path) -> None:
    (copies / "d").rename(copies / "aside")
    (copies / "d").symlink_to(outside / "d")


def lower_directory_for_symlink(copies: Path, outside: Path) -> None:
    (copies / "d" / "e").rename(copies / "aside")
    (copies / "d" / "e").symlink_to("../../outside/d/e")


def file_for_symlink(copies: Path, outside: Path) -> None:
    (copies / "d" / "file").unlink()
    (copies / "d" / "file").symlink_to(outside / "d" / "file")


def file_for_hard_link(copies: Path, outside: Path) -> None:
    (copies / "d" / "file").unlink()
    (copies / "d" / "file").hardlink_to(outside / "d" / "file")


def own_directory_for_symlink(copies: Path, outside: Path) -> None:
    (copies / ".filerbackup").rename(copies / "aside")
    (copies / ".filerbackup").symlink_to(outside / "own")


async def read_all(sink: LocalSink, key: str) -> bytes:
    return b"".join([block async for block in sink.read(key)])


async def list_all(sink: LocalSink) -> list[str]:
    return [listed.key async for listed in sink.list("d/")]


OPERATIONS: dict[str, Callable[[LocalSink], Awaitable[object]]] = {
    "small": lambda sink: write(sink, "d/file", b"new", entry("d/file", size=3)),
    "deep": lambda sink: write(sink, "d/e/f/file", b"new", entry("d/e/f/file", size=3)),
    "large": lambda sink: sink.write("d/e/file", entry("d/e/file", size=300_000), StreamedContent(300_000)),
    "symlink": lambda sink: sink.write("d/link", symlink_entry("d/link", "x"), NOTHING),
    "directory": lambda sink: sink.write("d/e", anothers(directory_entry("d/e", mode=0o711)), NOTHING),
    "over-a-directory": lambda sink: write(sink, "d/e", b"new", entry("d/e", size=3)),
    "delete": lambda sink: sink.delete("d/file"),
    "delete-tree": lambda sink: sink.delete_tree("d"),
    "move-file": lambda sink: sink.move("d/file", "d/e/moved", entry("d/e/moved")),
    "move-tree": lambda sink: sink.move("d/e", "moved", anothers(directory_entry("moved", mode=0o711))),
    "update": lambda sink: sink.update("d/file", entry("d/file", mode=0o666)),
    "stat": lambda sink: sink.stat("d/e/file"),
    "list": list_all,
    "read": lambda sink: read_all(sink, "d/file"),
    "read-own": lambda sink: sink.read_own(".filerbackup/sink.json"),
    "write-own": lambda sink: sink.write_own(".filerbackup/sink.json", b"{}"),
    "flush": lambda sink: sink.flush(),
}


def make_outside(outside: Path) -> None:
    """The same names as in the sink, so that whoever is led astray finds something to harm."""
    for name in ("d/file", "d/e/file", "own/sink.json"):
        path = outside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious!")
        path.chmod(0o640)
    (outside / "own" / "tmp").mkdir()


def state_of(directory: Path) -> dict[str, object]:
    """Kind, mode, owner, times and content of everything; not how many names it has."""
    found: dict[str, object] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        attributes = os.listxattr(path, follow_symlinks=False)
        owner_and_time = (status.st_uid, status.st_gid, status.st_mtime_ns)
        found[str(path)] = (status.st_mode, owner_and_time, content, attributes)
    return found


def put_back_own(copies: Path) -> None:
    """What the sink has open goes back to its place; it may have made itself another there."""
    own = copies / ".filerbackup"
    if (copies / "aside" / "tmp").is_dir():
        if own.is_symlink():
            own.unlink()
        else:
            shutil.rmtree(own)
        (copies / "aside").rename(own)


async def fill(sink: LocalSink, copies: Path) -> None:
    """The sink as it was before anybody came."""
    for path in copies.iterdir():
        if path.name == ".filerbackup" and not path.is_symlink():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    await write(sink, "d/file", DATA, entry("d/file"))
    await write(sink, "d/e/file", DATA, entry("d/e/file"))
    await sink.write_own(".filerbackup/sink.json", b"{}")
    assert await sink.update("d/file", entry("d/file", mode=0o640))


@contextlib.asynccontextmanager
async def filled(copies: Path) -> AsyncIterator[LocalSink]:
    async with opened(copies) as sink:
        await fill(sink, copies)
        yield sink


@pytest.mark.parametrize(
    "exchange",
    [
        directory_for_symlink,
        lower_directory_for_symlink,
        file_for_symlink,
        file_for_hard_link,
        own_directory_for_symlink,
    ],
    ids=lambda exchange: exchange.__name__,
)
async def test_an_exchange_before_any_system_call_harms_nobody(
    tmp_path: Path, adversary: Adversary, exchange: Exchange
) -> None:
    copies, outside = tmp_path / "copies", tmp_path / "outside"
    make_outside(outside)
    before = state_of(outside)
    tried = 0
    async with filled(copies) as sink:
        for name, operation in OPERATIONS.items():
            for turn in range(MOST_CALLS):
                adversary.turn, adversary.calls = turn, 0
                adversary.act = lambda: exchange(copies, outside)
                result: object = None
                with contextlib.suppress(SinkError, FileNotFoundError):
                    result = await operation(sink)
                is_over = not adversary.has_acted
                adversary.act = None
                if name == "read" and exchange is not file_for_hard_link:
                    assert result != b"precious!"
                assert state_of(outside) == before, f"{name}, exchanged before call {turn + 1}"
                put_back_own(copies)
                await fill(sink, copies)
                if is_over:
                    break
                tried += 1
            else:
                pytest.fail(f"{name} never ended")
    assert tried > len(OPERATIONS) * 2


@needs_root
async def test_a_symlink_on_another_file_system_is_exchanged_as_it_is_made(
    tmp_path: Path, adversary: Adversary
) -> None:
    """There the temporary symlink stands where its owner may exchange it for a name of a file outside."""
    copies = tmp_path / "copies"
    with tmpfs(tmp_path / "disk", "size=4m") as disk:
        (disk / "in").mkdir()
        (disk / "victim").write_bytes(b"precious!")
        async with opened(copies) as sink:
            (copies / "mounted").mkdir()
            subprocess.run(["mount", "--bind", str(disk / "in"), str(copies / "mounted")], check=True)
            try:
                before = state_of(disk / "victim")
                link = anothers(symlink_entry("mounted/l", "x"))

                def exchange() -> None:
                    for path in (disk / "in").iterdir():
                        path.unlink()
                        path.hardlink_to(disk / "victim")

                exchanged = 0
                for turn in range(MOST_CALLS):
                    adversary.turn, adversary.calls, adversary.act = turn, 0, exchange
                    with contextlib.suppress(SinkError):
                        await sink.write("mounted/l", link, NOTHING)
                    is_over = not adversary.has_acted
                    adversary.act = None
                    assert state_of(disk / "victim") == before, f"exchanged before call {turn + 1}"
                    exchanged += (disk / "victim").stat().st_nlink > 1
                    for path in (disk / "in").iterdir():
                        path.unlink()
                    if is_over:
                        break
                assert exchanged
                await sink.write("mounted/l", link, NOTHING)
                status = (copies / "mounted" / "l").lstat()
                assert (status.st_uid, status.st_mtime_ns) == (link.uid, link.mtime_ns)
            finally:
                subprocess.run(["umount", "-l", str(copies / "mounted")], check=True)


async def test_a_file_with_a_second_name_is_written_anew_and_never_changed_in_place(tmp_path: Path) -> None:
    """`cp -al` of a sink makes a cheap copy of one day: later changes of attributes stay out of it."""
    async with filled(tmp_path / "copies") as sink:
        (tmp_path / "kept").hardlink_to(tmp_path / "copies" / "d" / "file")
        before = state_of(tmp_path / "kept")
        assert not await sink.update("d/file", entry("d/file", mode=0o600))
        await write(sink, "d/file", b"other", entry("d/file", mode=0o600, size=5))
        await sink.delete_tree("d")
        assert state_of(tmp_path / "kept") == before
