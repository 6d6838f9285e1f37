"""A sink that only says what would be done."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator

from filerbackup.content import Content
from filerbackup.events import Entry
from filerbackup.sinks.base import Capabilities, Listed, Sink, SinkIdentity

_log = logging.getLogger(__name__)


class DryRunSink:
    """Reads go through to the real sink, writes become log lines. Satisfies `Sink`."""

    def __init__(self, sink: Sink, name: str = "") -> None:
        self._sink = sink
        self._name = name or sink.identity.kind

    @property
    def identity(self) -> SinkIdentity:
        """The real sink's."""
        return self._sink.identity

    @property
    def capabilities(self) -> Capabilities:
        """The real sink's."""
        return self._sink.capabilities

    async def open(self) -> None:
        """Open the real sink: a dry run finds out about credentials too."""
        await self._sink.open()

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """Say it."""
        _log.info("would write", extra={"sink": self._name, "key": key, "bytes": content.size})

    async def delete(self, key: str) -> None:
        """Say it."""
        _log.info("would delete", extra={"sink": self._name, "key": key})

    async def delete_tree(self, key: str) -> None:
        """Say it."""
        _log.info("would delete with all below", extra={"sink": self._name, "key": key})

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """Say it."""
        _log.info("would move", extra={"sink": self._name, "key": old_key, "to": new_key})
        return True

    async def update(self, key: str, entry: Entry) -> bool:
        """Say it."""
        _log.info("would change attributes of", extra={"sink": self._name, "key": key})
        return True

    def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """What is really there."""
        return self._sink.list(prefix, start_after)

    async def stat(self, key: str) -> Listed | None:
        """What is really there."""
        return await self._sink.stat(key)

    async def matches(self, listed: Listed, entry: Entry) -> bool:
        """Compare with what is really there."""
        return await self._sink.matches(listed, entry)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """What is really there."""
        return self._sink.read(key, offset, length)

    async def read_own(self, key: str) -> bytes | None:
        """What is really there."""
        return await self._sink.read_own(key)

    async def write_own(self, key: str, data: bytes) -> None:
        """Nothing."""

    async def flush(self) -> None:
        """Nothing to make durable."""

    async def close(self) -> None:
        """Close the real sink."""
        await self._sink.close()
