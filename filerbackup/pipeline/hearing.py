"""What has been heard of the filer's log, and when; times are nanoseconds."""

from __future__ import annotations

import asyncio
import enum
import time

from filerbackup.events import Event, Heartbeat
from filerbackup.pipeline.clocks import CLOCKS_DIFFER_NS
from filerbackup.pipeline.watermark import Watermark

SILENT_AFTER_NS = 15_000_000_000
"""A caught-up filer is heard of every 5 s; after this long nobody knows what it has."""
_LOOK_EVERY_S = 0.2


class Clock(enum.Enum):
    """The filer's clock beside its log. CAUGHT_UP: it had been set back, and is where it was again."""

    RIGHT = enum.auto()
    SET_BACK = enum.auto()
    CAUGHT_UP = enum.auto()


class Hearing:
    """`told_ns`: everything in the log up to this was told of, or there was nothing more.

    `clock`: a filer whose clock was set back gives changes positions in the log that it has already
    told of, and so does not tell of them.
    """

    def __init__(self, start_ns: int) -> None:
        self._heard_ns = time.time_ns()
        self.told_ns = start_ns
        self.clock = Clock.RIGHT

    def hears(self, event: Event) -> bool:
        """Something came, if only a sign of life. True: the log had got there before, it may be a repeat."""
        self._heard_ns = time.time_ns()
        if isinstance(event, Heartbeat):
            self.clock = self._clock_at(event.ts_ns)
        told_ns, self.told_ns = self.told_ns, max(self.told_ns, event.ts_ns)
        return event.ts_ns <= told_ns

    def _clock_at(self, now_ns: int) -> Clock:
        if now_ns + CLOCKS_DIFFER_NS < self.told_ns:
            return Clock.SET_BACK
        if self.clock is Clock.SET_BACK:
            return Clock.CAUGHT_UP if now_ns > self.told_ns else Clock.SET_BACK
        return Clock.RIGHT

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
