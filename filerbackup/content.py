"""Content that can be opened again: what a source offers and a sink writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class Content(Protocol):
    """The bytes of one file, checked while they are read.

    A retry opens it again from the start. `size` is exact. `md5` is the source's own digest of the
    whole content, or empty where the source has none.
    """

    @property
    def size(self) -> int:
        """Length in bytes; reading yields exactly this many or raises."""
        ...

    @property
    def md5(self) -> bytes:
        """16 raw bytes, or empty when the source does not know."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The most that one open stream holds in memory at a time."""
        ...

    async def read(self) -> bytes:
        """Everything at once, checked. For small content: the caller answers for the memory.

        Raises ChunkGone, Unreadable, SourceRefused, SourceUnreachable.
        """
        ...

    def stream(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order, in blocks of the source's choosing (never empty ones).

        The length, and the MD5 where known, are checked before the iterator ends: content counts
        as good only when it has ended without an error. Close it (`contextlib.aclosing`) when you
        leave early. Raises as `read`.
        """
        ...


class InlineContent:
    """Content that is already in memory."""

    __slots__ = ("_data", "md5")

    def __init__(self, data: bytes, md5: bytes = b"") -> None:
        self._data = data
        self.md5 = md5

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    @property
    def memory_bytes(self) -> int:
        """What is held in memory: everything."""
        return len(self._data)

    async def read(self) -> bytes:
        """The bytes."""
        return self._data

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The bytes as one block, or nothing for empty content."""
        if self._data:
            yield self._data
