"""How much of the filer's log there is behind our offset: what is left until a gap would open."""

from __future__ import annotations

import contextlib
import time

from filerbackup.errors import SourceRefused, SourceUnreachable
from filerbackup.pipeline.watcher import Watcher
from filerbackup.source.base import Source

LOOK_EVERY_S = 60.0
SHORT_NS = 24 * 3_600_000_000_000
SHORT_SHARE = 4
"""Less than `SHORT_NS` is short when it is no more than this part of what the filer keeps."""


class Horizon:
    """`left_ns`: how far the log reaches further back than the offset; None: not known, or no log yet."""

    def __init__(self, source: Source, watcher: Watcher) -> None:
        self._source, self._watcher = source, watcher
        self._looked_at = -LOOK_EVERY_S
        self.left_ns: int | None = None

    async def look(self, offset_ns: int, *, behind: bool) -> bool:
        """Once a minute; whether it was time, and the filer has answered.

        `behind`: there are changes after the offset that are not in the sink.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S or not offset_ns:
            return False
        self._looked_at = now
        with contextlib.suppress(SourceUnreachable, SourceRefused):
            oldest_ns = await self._source.oldest_log_ns()
            now_ns = await self._source.now_ns()
            self.left_ns = None if oldest_ns is None else offset_ns - oldest_ns
            if oldest_ns is None or not behind:
                return True
            left_ns, kept_ns = offset_ns - oldest_ns, now_ns - oldest_ns
            if left_ns < min(SHORT_NS, kept_ns // SHORT_SHARE):
                self._watcher.log_ends_soon(left_ns / 1e9, kept_ns / 1e9)
            return True
        return False
