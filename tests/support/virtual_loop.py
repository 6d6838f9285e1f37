"""An event loop whose time is made up: a run with the same seed goes the same way on any machine.

Time goes on by itself, by a random step at each look at the clock, as if the machine were now fast and now
busy; a wait for a timer takes no time at all. Nothing but coroutines may run on it: a wait for a file
descriptor or a thread that nothing else would end is reported as a deadlock.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Nothing is ready, nothing is timed: the program would wait for ever."""


class _VirtualSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Deadlock("nothing is ready and nothing is timed")
        if not ready and timeout is not None:
            self.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`pace_s` is the longest step that time takes between two looks at the clock."""

    def __init__(self, rng: random.Random, pace_s: float) -> None:
        self._virtual = _VirtualSelector()
        self._rng = rng
        self._pace_s = pace_s
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds since the loop was made."""
        self._virtual.now += self._rng.random() * self._pace_s
        return self._virtual.now


def run_virtually(main: Coroutine[Any, Any, T], rng: random.Random, *, pace_s: float) -> T:
    """As `asyncio.run`, in made-up time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(rng, pace_s)) as runner:
        return runner.run(main)
