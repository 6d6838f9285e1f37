"""What to do about a failure: one pure decision, from the error's type and the number of tries.

Three places retry, each with this: one operation (`pipeline.apply`), the stream (`source.subscribe`)
and a part of an upload (inside a sink). Delays grow by doubling, with full jitter on the upper half,
so that many that failed together do not come back together.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from filerbackup.errors import (
    ChunkGone,
    KeyMissing,
    ObjectRejected,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
    SourceRefused,
    SourceUnreachable,
    Unreadable,
    VolumeMissing,
)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
OBJECT_TRIES = 6
"""Tries of one object whose own content or name is at fault, about six seconds in all."""
VOLUME_TRIES = 13
"""Tries of one object whose volume nobody has: some three minutes, so that a server can come back."""
SINK_TRIES = 10
"""Tries of one object that the sink keeps failing while it takes others, some two minutes in all."""


class Action(enum.Enum):
    """What happens next."""

    RETRY = "retry"
    """Try this operation again after the delay; the others go on."""
    THROTTLE = "throttle"
    """The sink wants fewer at once; try again after the delay."""
    OUTAGE = "outage"
    """The sink takes nothing at all: everything waits, one operation probes after the delay."""
    DEAD_LETTER = "dead letter"
    """Give this operation up, durably recorded."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, and how long to wait before it in seconds."""

    action: Action
    delay_s: float = 0.0


def backoff_s(attempt: int, random: Callable[[], float], longest_s: float | None = None) -> float:
    """Delay before the next try after `attempt` (from 1) failed ones; `random` gives [0, 1)."""
    ceiling = min(
        LONGEST_DELAY_S if longest_s is None else longest_s, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 30)
    )
    return ceiling * (0.5 + 0.5 * random())


def decide(
    error: Exception, attempt: int, *, others_succeed: bool, outages: int, random: Callable[[], float]
) -> Decision:
    """What to do after the `attempt`-th failure (from 1) of one operation that was its own fault.

    `others_succeed`: the sink has taken other operations since this one last failed, or since it was
    begun, so that the fault is this object's rather than the sink's. `outages`: how many probes of
    the sink have failed in a row.
    """
    delay_s = backoff_s(attempt, random)
    match error:
        case SinkThrottled():
            return Decision(Action.THROTTLE, delay_s)
        case SinkRefused() | SinkFull():
            return Decision(Action.OUTAGE, backoff_s(outages + 1, random))
        case SinkUnavailable() if not others_succeed:
            return Decision(Action.OUTAGE, backoff_s(outages + 1, random))
        case SinkUnavailable():
            return _bounded(attempt, SINK_TRIES, delay_s)
        case ObjectRejected() | KeyMissing():
            return Decision(Action.DEAD_LETTER)
        case SourceRefused() | SourceUnreachable():
            return Decision(Action.RETRY, delay_s)
        case VolumeMissing():
            return _bounded(attempt, VOLUME_TRIES, delay_s)
        case ChunkGone() | Unreadable():
            return _bounded(attempt, OBJECT_TRIES, delay_s)
        case _:
            return _bounded(attempt, OBJECT_TRIES, delay_s)


def _bounded(attempt: int, tries: int, delay_s: float) -> Decision:
    return Decision(Action.DEAD_LETTER) if attempt >= tries else Decision(Action.RETRY, delay_s)
