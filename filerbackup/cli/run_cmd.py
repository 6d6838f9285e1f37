"""`filerbackup run` and `filerbackup catchup`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Sequence

from filerbackup.cli.common import settings_of, start_logging
from filerbackup.observe.display import display, is_terminal
from filerbackup.observe.logs import cleaned, escaped
from filerbackup.observe.progress import Progress
from filerbackup.pipeline.start import when
from filerbackup.pipeline.watcher import describe
from filerbackup.runtime.allocator import return_large_buffers
from filerbackup.runtime.service import Outcome, Service
from filerbackup.runtime.signals import stop_on_signals

_GARBAGE_AFTER = 50_000
"""So many objects more than before, and the collector looks for cycles among them."""


def run(options: argparse.Namespace) -> int:
    """Follow for ever; 0 after a signal to stop."""
    return _work(options, one_shot=False)


def catchup(options: argparse.Namespace) -> int:
    """Apply everything up to now; 1 for a dead letter, held deletes, or a sink that gave up."""
    return _work(options, one_shot=True)


def _work(options: argparse.Namespace, *, one_shot: bool) -> int:
    settings = settings_of(options, require_sinks=True)
    handler = start_logging(settings, warnings=True)
    progress = Progress("catching up" if one_shot else "replicating")
    on_terminal = is_terminal(sys.stderr, os.environ) and settings.log.format == "text"
    service = Service(settings, one_shot=one_shot, listener=progress, counts_ahead=on_terminal)

    async def work() -> Sequence[Outcome]:
        stop = asyncio.Event()
        with stop_on_signals(stop):
            if not (one_shot or on_terminal):
                return await service.run(stop)
            async with display(progress, sys.stderr, on_terminal, handler=handler):
                return await service.run(stop)

    # Nearly everything is freed by its reference count. At the default rate the search for cycles takes
    # a tenth of the CPU; and what was imported is never garbage.
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER)
    return_large_buffers()
    outcomes = asyncio.run(work())
    if one_shot:
        for outcome in outcomes:
            print(escaped(cleaned(_summary(outcome, dry_run=settings.pipeline.dry_run))))
    return max((_code(outcome, one_shot=one_shot) for outcome in outcomes), default=int(one_shot))


def _code(outcome: Outcome, *, one_shot: bool) -> int:
    if outcome.error is not None:
        return outcome.error.exit_code
    return 1 if one_shot and (outcome.dead_letters or outcome.held or not outcome.finished) else 0


def _summary(outcome: Outcome, *, dry_run: bool) -> str:
    counters = outcome.counters
    if outcome.error is not None:
        return f"{outcome.name}: failed: {describe(outcome.error)}"
    far = f"caught up to {when(outcome.offset_ns)}"
    if not outcome.finished:
        far = f"stopped before it was caught up, at {when(outcome.offset_ns)}"
        far += f" ({outcome.trouble})" if outcome.trouble else ""
    done = (
        f"{outcome.name}: {far}; {counters.written} {'would be ' if dry_run else ''}written "
        f"({counters.bytes:,} bytes), {counters.moved} moved, {counters.removed} removed"
    )
    if outcome.dead_letters:
        done += f"; {outcome.dead_letters} DEAD LETTERS: see `filerbackup dead-letters list`"
    if outcome.held:
        done += f"; {outcome.held} DELETES {'would be ' if dry_run else ''}HELD"
        done += ": see `filerbackup deletes list`, then allow or discard"
    return done
