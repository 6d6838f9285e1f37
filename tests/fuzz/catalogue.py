"""All targets by name, each with its corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz import outside, seeds, targets


class Fuzzed(NamedTuple):
    """A target, and what makes its corpus."""

    run: targets.Target
    corpus: Callable[[], list[bytes]]


TARGETS = {
    "events": Fuzzed(targets.events, seeds.event_seeds),
    "chunks": Fuzzed(targets.chunks, seeds.chunk_seeds),
    "settings": Fuzzed(targets.settings, seeds.settings_seeds),
    "answers": Fuzzed(outside.answers, seeds.answer_seeds),
    "state": Fuzzed(outside.state, seeds.state_seeds),
}
