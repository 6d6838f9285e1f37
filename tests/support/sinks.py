"""What tests do with any sink or store."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from filerbackup.content import InlineContent
from filerbackup.events import Entry
from filerbackup.sinks.base import Sink
from tests.contract.contents import file_entry


class Openable(Protocol):
    """A sink or a store."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


_T = TypeVar("_T", bound=Openable)


@asynccontextmanager
async def opened(what: _T) -> AsyncIterator[_T]:
    """Open in this block, closed at its end."""
    try:
        await what.open()
        yield what
    finally:
        await what.close()


async def write(sink: Sink, key: str, data: bytes = b"data", **attributes: Any) -> Entry:
    """Write a small file; returns its entry."""
    entry = dataclasses.replace(file_entry(key, len(data)), **attributes)
    await sink.write(key, entry, InlineContent(data, entry.md5))
    return entry


async def keys(sink: Sink, prefix: str = "", start_after: str = "") -> list[str]:
    """The keys that the sink lists."""
    return [listed.key async for listed in sink.list(prefix, start_after)]
