"""Whether something that the sink fails on is needless, because the source has something else there by now.

A sink that a walk or a broken-off run has filled is ahead of the log: a file may be written where
objects lie below it by now, which not every service can hold. The change that replaced the file is
still to come, and is what matters.
"""

from __future__ import annotations

import time

from filerbackup.errors import FilerBackupError, SinkFull, SinkThrottled, SinkUnavailable
from filerbackup.pipeline.clocks import PEERS_DIFFER_NS
from filerbackup.pipeline.planner import Move, Operation, Write
from filerbackup.source.base import Source

_TRIES = 2
"""A first failure says little, and asking costs a call."""


async def is_overtaken(
    source: Source, operation: Operation, number: int, error: FilerBackupError, *, ahead_to_ns: int
) -> bool:
    """For a mirror. `number`: of the try that failed with `error`.

    `ahead_to_ns`: the sink may hold what came in the log up to there. Another version of a file does
    not count: the event that brought it may bear another name (hard links), or be none (remote storage).
    """
    if not isinstance(operation, Write | Move) or number < _TRIES:
        return False
    if isinstance(operation, Move) and (operation.overtaken or operation.entry.is_directory):
        return False
    if not isinstance(error, SinkUnavailable) or isinstance(error, SinkThrottled | SinkFull):
        return False
    is_repeated = operation.ts_ns <= ahead_to_ns or (isinstance(operation, Move) and operation.repeated)
    # A filer that has not heard of it yet knows what was there before.
    if (source.may_lag or not is_repeated) and time.time_ns() - operation.ts_ns <= PEERS_DIFFER_NS:
        return False
    try:
        live = await source.lookup(operation.entry.path)
    except FilerBackupError:
        return False
    return live is None or live.kind is not operation.entry.kind
