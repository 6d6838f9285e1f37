"""Content that says how much of it has been read, for the progress of large files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from filerbackup.content import Content

WORTH_METERING_BYTES = 4 << 20


class MeteredContent:
    """Passes everything through and reports each block. Satisfies `Content`."""

    def __init__(self, content: Content, report: Callable[[int], None]) -> None:
        self._content = content
        self._report = report

    @property
    def size(self) -> int:
        """The content's."""
        return self._content.size

    @property
    def md5(self) -> bytes:
        """The content's."""
        return self._content.md5

    @property
    def memory_bytes(self) -> int:
        """The content's."""
        return self._content.memory_bytes

    async def read(self) -> bytes:
        """Everything at once."""
        return await self._content.read()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Block by block."""
        async with aclosing(self._content.stream()) as blocks:
            async for block in blocks:
                self._report(len(block))
                yield block
