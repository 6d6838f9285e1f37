"""How far a copy got, for whoever waits for it: a model that is fed, and its figures.

`filerbackup.observe.display` shows them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 20.0
"""Rates are of the last so many seconds: long enough to be steady, short enough to be true."""

SAMPLE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """The state at one moment. Totals, rates and the rest are None while they are unknown."""

    label: str
    files_done: int
    bytes_done: int
    files_total: int | None
    bytes_total: int | None
    failures: int
    elapsed_s: float
    files_per_s: float | None
    bytes_per_s: float | None
    left_s: float | None
    current: tuple[str, ...]
    current_count: int


class Progress:
    """Counts files and bytes. For one thread (the loop's); every call is cheap.

    Several sinks may feed one of these, with keys that tell them apart.
    """

    def __init__(self, label: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self.label = label
        self._clock = clock
        self._began = clock()
        self._files_done = 0
        self._bytes_done = 0
        self._moving = 0
        self._failures = 0
        self._files_total: int | None = None
        self._bytes_total: int | None = None
        self._current: dict[str, int] = {}
        self._current_bytes = 0
        self._samples: deque[tuple[float, int, int]] = deque([(self._began, 0, 0)])

    def expect(self, files: int | None, size: int | None) -> None:
        """How many files and bytes there are in all, as far as is known; replaces what was said before."""
        self._files_total = files
        self._bytes_total = size

    def expect_more(self, files: int, size: int) -> None:
        """There is so much more to come: several sinks add up."""
        self.expect((self._files_total or 0) + files, (self._bytes_total or 0) + size)

    def started(self, key: str, size: int) -> None:
        """A file is being copied; again for a retry."""
        self._drop(key)
        self._current[key] = size
        self._current_bytes += size

    def advanced(self, count: int) -> None:
        """So many more bytes of what is being copied have passed. Optional: `finished` counts the rest."""
        self._moving += count

    def finished(self, key: str, size: int) -> None:
        """A file is in its place, all `size` bytes of it."""
        self._files_done += 1
        self._bytes_done += size
        self._moving = max(self._moving - size, 0)
        self._drop(key)

    def failed(self, key: str) -> None:
        """A file will not come."""
        self._failures += 1
        self._drop(key)

    def skipped(self, key: str) -> None:
        """A file that was started need not be copied after all."""
        self._drop(key)

    def _drop(self, key: str) -> None:
        self._current_bytes -= self._current.pop(key, 0)
        # Bytes are not told apart by file, but what is under way is never more than its files hold.
        self._moving = min(self._moving, self._current_bytes)

    @property
    def _bytes_seen(self) -> int:
        return self._bytes_done + min(self._moving, self._current_bytes)

    def look(self, names: int = 3) -> Figures:
        """The figures now, with the first few of the names that are being copied, oldest first."""
        now = self._clock()
        done = self._bytes_seen
        self._sample(now, done)
        began, files_then, bytes_then = self._samples[0]
        span = now - began
        files_rate = (self._files_done - files_then) / span if span >= SAMPLE_EVERY_S else None
        bytes_rate = max(done - bytes_then, 0) / span if span >= SAMPLE_EVERY_S else None
        return Figures(
            label=self.label,
            files_done=self._files_done,
            bytes_done=done,
            files_total=None if self._files_total is None else max(self._files_total, self._files_done),
            bytes_total=None if self._bytes_total is None else max(self._bytes_total, done),
            failures=self._failures,
            elapsed_s=now - self._began,
            files_per_s=files_rate,
            bytes_per_s=bytes_rate,
            left_s=self._left(done, files_rate, bytes_rate),
            current=tuple(key for key, _ in zip(self._current, range(names), strict=False)),
            current_count=len(self._current),
        )

    def _sample(self, now: float, done: int) -> None:
        if now - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append((now, self._files_done, done))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()

    def _left(self, done: int, files_rate: float | None, bytes_rate: float | None) -> float | None:
        """Seconds to go: what takes longer of the files (many small ones) and the bytes (large ones)."""
        waits: list[float] = []
        finished = self._files_done + self._failures
        for total, so_far, rate in (
            (self._files_total, finished, files_rate),
            (self._bytes_total, done, bytes_rate),
        ):
            if total is None:
                continue
            rest = total - so_far
            if rest <= 0:
                waits.append(0.0)
            elif rate:
                waits.append(rest / rate)
            else:
                return None
        return max(waits) if waits else None
