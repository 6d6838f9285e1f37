"""A stream of blocks of any size, cut into pieces without copying."""

from __future__ import annotations

from collections.abc import AsyncIterator


class Cutter:
    """Reads a stream; `taken` counts the bytes that were given out."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._rest = memoryview(b"")
        self.taken = 0

    async def next(self, most: int) -> memoryview | None:
        """The next 1 to `most` bytes, None at the end."""
        while not self._rest:
            block = await anext(self._stream, None)
            if block is None:
                return None
            self._rest = memoryview(block)
        piece, self._rest = self._rest[:most], self._rest[most:]
        self.taken += len(piece)
        return piece

    async def take(self, size: int) -> list[memoryview]:
        """The next `size` bytes in pieces, fewer only at the end."""
        pieces: list[memoryview] = []
        while size and (piece := await self.next(size)) is not None:
            pieces.append(piece)
            size -= len(piece)
        return pieces

    async def aclose(self) -> None:
        """Close the stream."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
