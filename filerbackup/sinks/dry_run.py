"""A sink that only says what would be done."""

from __future__ import annotations

import logging

from filerbackup.content import Content
from filerbackup.events import Entry
from filerbackup.sinks.base import Sink
from filerbackup.sinks.wrapper import ReadsThrough

_log = logging.getLogger(__name__)


class DryRunSink(ReadsThrough):
    """Writes become log lines; `open` finds out about credentials all the same. Satisfies `Sink`."""

    def __init__(self, sink: Sink, name: str = "") -> None:
        super().__init__(sink)
        self._name = name or sink.identity.kind

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

    async def write_own(self, key: str, data: bytes) -> None:
        """Nothing."""

    async def flush(self) -> None:
        """Nothing to make durable."""
