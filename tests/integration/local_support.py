"""What the tests of the local sink share: sinks on directories, small file systems, another user."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from filerbackup.content import InlineContent
from filerbackup.events import Entry
from filerbackup.settings.model import LocalSettings
from filerbackup.sinks.base import Listed
from filerbackup.sinks.local import LocalSink
from tests.contract.contents import file_entry

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextlib.asynccontextmanager
async def opened(directory: Path, *, keep_set_id: bool = False) -> AsyncIterator[LocalSink]:
    """An open sink on the directory."""
    sink = LocalSink(LocalSettings("local", directory=str(directory), keep_set_id=keep_set_id))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def write(sink: LocalSink, key: str, data: bytes = b"data", entry: Entry | None = None) -> Entry:
    """Write a small file."""
    entry = entry or file_entry(key, len(data))
    await sink.write(key, entry, InlineContent(data))
    return entry


async def keys(sink: LocalSink, prefix: str = "") -> list[str]:
    """What the sink lists."""
    return [found.key async for found in sink.list(prefix)]


async def only(sink: LocalSink, key: str) -> Listed:
    """One object as listed."""
    found = await sink.stat(key)
    assert found is not None
    return found


def mode_of(path: Path) -> int:
    """Permission bits of what stands there, not of where a symlink leads."""
    return stat.S_IMODE(path.lstat().st_mode)


def files_below(directory: Path) -> dict[str, bytes]:
    """Every regular file below a directory with its bytes, not following symlinks."""
    found = {}
    for above, _directories, names in os.walk(directory):
        for name in names:
            path = Path(above) / name
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(directory))] = path.read_bytes()
    return found


@contextlib.contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips the test where none can be mounted."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """Run the test as a user without root's rights; gives a directory that belongs to that user."""
    directory = Path(tempfile.mkdtemp(prefix="filerbackup-user-"))
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(directory, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        if is_root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(directory)
