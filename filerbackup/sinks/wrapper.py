"""What a sink around another one begins with: reads go through, changes are its own affair."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from filerbackup.events import Entry
from filerbackup.sinks.base import Capabilities, Listed, Sink, SinkIdentity


class ReadsThrough:
    """`_sink` is the real one. Satisfies the reading half of `Sink`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def identity(self) -> SinkIdentity:
        """The real sink's."""
        return self._sink.identity

    @property
    def capabilities(self) -> Capabilities:
        """The real sink's."""
        return self._sink.capabilities

    async def open(self) -> None:
        """Open the real sink."""
        await self._sink.open()

    def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """What is really there."""
        return self._sink.list(prefix, start_after)

    async def stat(self, key: str) -> Listed | None:
        """What is really there."""
        return await self._sink.stat(key)

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        """Compare with what is really there."""
        return await self._sink.matches(listed, entry, thorough=thorough)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """What is really there."""
        return self._sink.read(key, offset, length)

    async def read_own(self, key: str) -> bytes | None:
        """What is really there."""
        return await self._sink.read_own(key)

    async def close(self) -> None:
        """Close the real sink."""
        await self._sink.close()
