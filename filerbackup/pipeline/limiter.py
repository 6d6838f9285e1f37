"""How many operations a sink gets at once: many, fewer when it asks for that, one when it is down."""

from __future__ import annotations

from collections.abc import Callable

_PAUSE_AFTER_THROTTLE_S = 0.05


class Limiter:
    """Additive increase, multiplicative decrease; one instance a sink, one clock (`loop.time`).

    What was begun before a decrease says nothing about the time after it: such results are passed
    with their `began_at` and count once.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = float(most)
        self._limit = float(most)
        self._before_outage = float(most)
        self._clock = clock
        self._changed_at = clock()
        self._not_before = 0.0
        self._outages = 0
        self._successes = 0

    @property
    def limit(self) -> int:
        """Operations that may run at once; at least 1."""
        return max(1, int(self._limit))

    @property
    def wait_s(self) -> float:
        """How long nothing new may start; 0 when it may."""
        return max(0.0, self._not_before - self._clock())

    @property
    def outages(self) -> int:
        """Failed probes in a row since the sink last took anything; 0 while it works."""
        return self._outages

    @property
    def successes(self) -> int:
        """How many operations the sink has taken."""
        return self._successes

    def succeeded(self) -> None:
        """The sink took something."""
        self._successes += 1
        if self._outages:
            self._outages = 0
            self._not_before = 0.0
            self._limit = max(2.0, self._before_outage / 2)
        elif self._limit < self._most:
            self._limit = min(self._most, self._limit + 1.0 / max(1.0, self._limit / 4))

    def throttled(self, began_at: float) -> None:
        """The sink asked for fewer."""
        if began_at < self._changed_at:
            return
        self._changed_at = self._clock()
        self._limit = max(1.0, self._limit / 2)
        self._not_before = self._clock() + _PAUSE_AFTER_THROTTLE_S

    def failed(self, began_at: float, delay_s: float) -> None:
        """The sink took nothing: everything waits `delay_s`, then one operation probes."""
        if began_at < self._changed_at:
            return
        if not self._outages:
            self._before_outage = self._limit
        self._outages += 1
        self._changed_at = self._clock()
        self._limit = 1.0
        self._not_before = self._clock() + delay_s
