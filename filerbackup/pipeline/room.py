"""Room for a file where the sink still holds something below its name.

Some services over a file system take no object there. In the log the removals come before the file;
but what a walk finds is written before the sweep, and what is to be swept may be just that.
"""

from __future__ import annotations

import time
from contextlib import aclosing

from filerbackup.events import EntryKind
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.planner import Move, Operation, Refresh, Write
from filerbackup.sinks.base import Sink
from filerbackup.source.base import Source


async def make_room(source: Source, sink: Sink, guard: Guard, operation: Operation) -> int:
    """Remove from a mirror that is ours what is below the operation's key, where the live filer has a file.

    Each only when the live filer confirms it and the delete guard admits it; returns how many. The
    operation holds the claim on its key, so nothing else is at work below. Raises what source and
    sink raise.
    """
    path = operation.entry.path if isinstance(operation, Write | Move) else operation.path
    live = await source.lookup(path)
    if live is None or live.kind not in (EntryKind.FILE, EntryKind.SYMLINK):
        return 0
    removed = 0
    async with aclosing(sink.list(operation.key + "/")) as objects:
        async for listed in objects:
            below = path + listed.key[len(operation.key) :]
            if guard.spares(listed.key) or await source.lookup(below) is not None:
                continue
            removal = Refresh(
                claims=(), ts_ns=time.time_ns(), path=below, key=listed.key, guarded=True, tree=False
            )
            if guard.admits(removal):
                await sink.delete(listed.key)
                removed += 1
    return removed
