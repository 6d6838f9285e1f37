"""How long a put may take, by how long others took: obstore tells of no progress within one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from filerbackup.sinks.objects.http import SLOWEST_BYTES_PER_S, STALL_S

_SLOWER = 8.0
"""A put may take so many times what others of its size have taken."""
_FORGETS = 0.8
"""A slow put counts this much less after each that was quicker."""
_TELLING_BYTES = 64 << 10
"""The time of a smaller one is that of the service, not of the line."""


class Pace:
    """Of one bucket. Begins with the slowest line that there may be, and goes back to it when puts fail."""

    def __init__(self) -> None:
        self._seconds_a_byte = _slowest()

    def deadline_s(self, size: int) -> float:
        """For a body of `size` bytes."""
        return STALL_S + size * min(_slowest(), self._seconds_a_byte)

    @asynccontextmanager
    async def keeping(self, size: int) -> AsyncIterator[None]:
        """A put of `size` bytes. Raises TimeoutError at its deadline."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline_s(size)):
                yield
        except TimeoutError:
            self._seconds_a_byte = min(_slowest(), self._seconds_a_byte * _SLOWER)
            raise
        if size >= _TELLING_BYTES:
            self.took(size, time.monotonic() - began)

    def took(self, size: int, seconds: float) -> None:
        """A put went well."""
        known = max(seconds / size * _SLOWER, self._seconds_a_byte * _FORGETS)
        self._seconds_a_byte = min(_slowest(), known)


def _slowest() -> float:
    return 1 / SLOWEST_BYTES_PER_S
