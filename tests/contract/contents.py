"""Entries and contents for tests that write to a sink without a filer."""

from __future__ import annotations

import hashlib
import random
import stat
from collections.abc import AsyncGenerator

from filerbackup.content import InlineContent
from filerbackup.errors import Unreadable
from filerbackup.events import Entry, EntryKind

MTIME_NS = 1_600_000_000_123_456_789
NOTHING = InlineContent(b"")


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that differ from file to file and cannot be compressed."""
    return random.Random(seed).randbytes(size)


def file_entry(key: str, size: int = 0, *, mode: int = 0o644, mtime_ns: int = MTIME_NS) -> Entry:
    """A file of root's, which is what a test runs as or cannot change."""
    return Entry(f"/{key}", EntryKind.FILE, size=size, mode=stat.S_IFREG | mode, mtime_ns=mtime_ns)


def directory_entry(key: str, *, mode: int = 0o755, mtime_ns: int = MTIME_NS) -> Entry:
    """A directory."""
    return Entry(f"/{key}", EntryKind.DIRECTORY, mode=stat.S_IFDIR | mode, mtime_ns=mtime_ns)


def symlink_entry(key: str, target: str, *, mtime_ns: int = MTIME_NS) -> Entry:
    """A symlink."""
    mode = stat.S_IFLNK | 0o777
    return Entry(f"/{key}", EntryKind.SYMLINK, mode=mode, mtime_ns=mtime_ns, symlink_target=target)


class StreamedContent:
    """Content of a given size in blocks, made as it is read; the digest of all of it is known."""

    def __init__(self, size: int, *, block_bytes: int = 1 << 20, seed: int = 0) -> None:
        self.size = size
        self.memory_bytes = block_bytes
        self._block_bytes = block_bytes
        self._seed = seed
        digest = hashlib.md5()
        for block in self._blocks():
            digest.update(block)
        self.md5 = digest.digest()

    async def read(self) -> bytes:
        return b"".join(self._blocks())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        for block in self._blocks():
            yield block

    def _blocks(self) -> list[bytes]:
        starts = range(0, self.size, self._block_bytes)
        return [
            some_bytes(min(self._block_bytes, self.size - start), self._seed + number)
            for number, start in enumerate(starts)
        ]


class BreakingContent:
    """Content that cannot be read to its end."""

    md5 = b""
    memory_bytes = 1 << 16

    def __init__(self, size: int, *, good_bytes: int, error: Exception | None = None) -> None:
        self.size = size
        self._good_bytes = good_bytes
        self._error = error or Unreadable("the second half is gone")

    async def read(self) -> bytes:
        raise self._error

    async def stream(self) -> AsyncGenerator[bytes, None]:
        left = self._good_bytes
        while left > 0:
            yield b"x" * min(left, self.memory_bytes)
            left -= self.memory_bytes
        raise self._error


class ShortContent:
    """Content that ends early and says nothing: a broken source must not become a short copy."""

    md5 = b""
    memory_bytes = 1 << 16

    def __init__(self, size: int, *, comes: int) -> None:
        self.size = size
        self._comes = comes

    async def read(self) -> bytes:
        return b"x" * self._comes

    async def stream(self) -> AsyncGenerator[bytes, None]:
        left = self._comes
        while left > 0:
            yield b"x" * min(left, self.memory_bytes)
            left -= self.memory_bytes
