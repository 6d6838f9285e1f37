"""Whether something that the sink fails on is needless, because the source has something else there by now.

A sink that a walk or a broken-off run has filled is ahead of the log: a file may be written where
objects lie below it by now, which not every service can hold. The change that replaced it is still to
come, and is what matters.
"""

from __future__ import annotations

import time

from filerbackup.errors import FilerBackupError, SinkFull, SinkThrottled, SinkUnavailable
from filerbackup.events import Entry
from filerbackup.pipeline.clocks import PEERS_DIFFER_NS
from filerbackup.pipeline.planner import Move, Operation, Write
from filerbackup.source.base import Source

_TRIES = 2
"""A first failure says little, and asking costs a call."""


async def is_overtaken(source: Source, operation: Operation, number: int, error: FilerBackupError) -> bool:
    """For a mirror. `number`: of the try that failed with `error`."""
    if not isinstance(operation, Write | Move) or number < _TRIES:
        return False
    if isinstance(operation, Move) and (operation.overtaken or operation.entry.is_directory):
        return False
    if not isinstance(error, SinkUnavailable) or isinstance(error, SinkThrottled | SinkFull):
        return False
    entry = operation.entry
    try:
        live = await source.lookup(entry.path)
    except FilerBackupError:
        return False
    if live is not None and live.kind is not entry.kind:
        return True
    # The filer that was asked may not have heard of this version yet.
    is_old = time.time_ns() - operation.ts_ns > PEERS_DIFFER_NS
    return is_old and (live is None or not _is_same_version(live, entry))


def _is_same_version(live: Entry, entry: Entry) -> bool:
    return (live.mtime_ns, live.chunks, live.content, live.symlink_target) == (
        entry.mtime_ns,
        entry.chunks,
        entry.content,
        entry.symlink_target,
    )
