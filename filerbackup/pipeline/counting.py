"""Walks over the live tree that only count: how large it is, and how much a snapshot has ahead."""

from __future__ import annotations

import contextlib

from filerbackup.errors import SourceUnreachable
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.watcher import Watcher
from filerbackup.source.base import Source


async def tell_guard(guard: Guard, source: Source) -> None:
    """Count all entries when the delete guard needs to know how many there are. Raises SourceUnreachable."""
    if not guard.wants_tree:
        return
    entries = 0
    async for _ in source.walk():
        entries += 1
    guard.tree_is(entries)


async def tell_listener(watcher: Watcher, source: Source, after: str) -> None:
    """For the estimate of the rest; a walk that breaks off only leaves it out."""
    if not watcher.counts_ahead:
        return
    files = size = 0
    with contextlib.suppress(SourceUnreachable):
        async for entry in source.walk(after):
            if not entry.is_directory:
                files, size = files + 1, size + entry.size
        watcher.expect_more(files, size)
