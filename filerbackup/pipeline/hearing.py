"""What has been heard of the filer's log, and when; times are nanoseconds."""

from __future__ import annotations

import asyncio
import time

from filerbackup.events import Event
from filerbackup.pipeline.watermark import Watermark

SILENT_AFTER_NS = 15_000_000_000
"""A caught-up filer is heard of every 5 s; after this long nobody knows what it has."""
_LOOK_EVERY_S = 0.2


class Hearing:
    """`told_ns`: everything in the log up to this was told of, or there was nothing more."""

    def __init__(self, start_ns: int) -> None:
        self._heard_ns = time.time_ns()
        self.told_ns = start_ns

    def hears(self, event: Event) -> bool:
        """Something came, if only a sign of life. True: the log had got there before, it may be a repeat."""
        self._heard_ns = time.time_ns()
        told_ns, self.told_ns = self.told_ns, max(self.told_ns, event.ts_ns)
        return event.ts_ns <= told_ns

    @property
    def silent_since_ns(self) -> int | None:
        """When the filer was heard of last, if that is too long ago; by the clock of this host."""
        return self._heard_ns if time.time_ns() - self._heard_ns > SILENT_AFTER_NS else None

    async def until_done(self, ts_ns: int, watermark: Watermark, *, within_s: float) -> bool:
        """Wait until all of the log up to `ts_ns` is done; False when that takes too long."""
        ends_at = time.monotonic() + within_s
        while not self._is_done(ts_ns, watermark):
            if time.monotonic() > ends_at:
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
        return True

    def _is_done(self, ts_ns: int, watermark: Watermark) -> bool:
        oldest_ns = watermark.oldest_unfinished_ns
        return self.told_ns >= ts_ns and (oldest_ns is None or oldest_ns > ts_ns)
