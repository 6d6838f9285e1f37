"""Sinks whose memory is measured: they can be stopped, go on, and hold copies from the start."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.support.configs import local_sink, s3_sink
from tests.support.many_entries import inline_entry, make_many
from tests.support.s3_tree import make_bucket
from tests.support.weed import WeedServer

_numbers = itertools.count(1)
_DISK_MIB = 200
_BLOCK = 1 << 20


class Place(Protocol):
    """A fresh sink. `section` is its part of replication.toml."""

    name: str
    section: str

    def holds(self, name: str) -> bool:
        """Whether a file is there."""
        ...

    def prefill(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Have copies of these from before, where writing them all would take too long."""
        ...

    def stop(self) -> None:
        """Take nothing any more."""
        ...

    def go_on(self) -> None:
        """Work again."""
        ...


class Disk:
    """A directory; the sink stops when its small disk is full."""

    name = "local"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ballast = directory.with_name(directory.name + "-ballast")
        self.section = local_sink(directory)

    def holds(self, name: str) -> bool:
        return (self._directory / name).exists()

    def prefill(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Nothing: a disk is quick."""

    def stop(self) -> None:
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            for size in (_BLOCK, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def go_on(self) -> None:
        self._ballast.unlink()


class Gateway:
    """A bucket of another weed, which is killed."""

    name = "s3"

    def __init__(self, weed: WeedServer) -> None:
        self._weed = weed
        self._bucket = make_bucket(weed, f"memory{next(_numbers)}")
        self.section = s3_sink(weed, self._bucket)

    def holds(self, name: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return bool(self._weed.get(f"/buckets/{self._bucket}/{name}"))
        return False

    def prefill(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        directory = f"/buckets/{self._bucket}/{folder}"
        make_many(self._weed, ((directory, inline_entry(name, data)) for name, data in files[::2]))
        make_many(self._weed, ((directory, inline_entry(name, data)) for name, data in files[1::2]))

    def stop(self) -> None:
        self._weed.kill()

    def go_on(self) -> None:
        self._weed.start()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path | None]:
    """A small file system in memory; None where this user cannot mount."""
    directory.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "none", str(directory)],
            check=False,
            capture_output=True,
        ).returncode
    )
    try:
        yield directory if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(directory)], check=False, capture_output=True)
