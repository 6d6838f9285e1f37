"""`filerbackup status`: how each copy is, read from the filer, so that it works from any host."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from filerbackup.cli.common import asked_filer, chosen_pairs, run_asking, settings_of, start_logging
from filerbackup.filer.client import FilerClient
from filerbackup.observe.logs import escaped
from filerbackup.pipeline.start import when
from filerbackup.source.filer import oldest_log_ns
from filerbackup.state.base import Checkpoint, Status
from filerbackup.state.checkpoints import FilerCheckpoints, FilerStatus
from filerbackup.state.held import FilerHeldDeletes
from filerbackup.state.kv import KeyValues
from filerbackup.state.lease import FilerLease
from filerbackup.state.letters import FilerDeadLetters
from filerbackup.state.pair import Pair

_SILENT_AFTER_NS = 20_000_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One (folder, sink). Times are RFC 3339; `lag_s` is None when nobody works and nothing is known."""

    path: str
    sink: str
    phase: str
    state: str
    offset_ns: int | None
    offset_time: str
    lag_s: float | None
    queued: int
    dead_letters: int
    deletes_held: int
    deletes_held_since: str
    holder: str
    error: str
    log_left_s: float | None


def status(options: argparse.Namespace) -> int:
    """Print it."""
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def ask() -> int:
        async with asked_filer(settings) as client:
            rows = [await _row(client, pair) for pair in await chosen_pairs(client, settings, options)]
        print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else _table(rows))
        return 0

    return run_asking(ask())


async def _row(client: FilerClient, pair: Pair) -> Row:
    values = KeyValues(client)
    checkpoint = await FilerCheckpoints(values, pair).load()
    said = await FilerStatus(values, pair).load()
    holder = await FilerLease(client, pair.lock_name, "status", time.monotonic).holder()
    letters = await FilerDeadLetters(client, pair).all()
    guard = await FilerHeldDeletes(client, pair).load()
    return Row(
        path=pair.path,
        sink=pair.describe().partition(" -> ")[2],
        phase=checkpoint.phase.value if checkpoint else "never run",
        state=_state(said, holder),
        offset_ns=checkpoint.offset_ns if checkpoint else None,
        offset_time=when(checkpoint.offset_ns) if checkpoint else "",
        lag_s=_lag_s(said, holder),
        queued=said.queued if said and holder else 0,
        dead_letters=len(letters),
        deletes_held=guard.held,
        deletes_held_since=when(guard.tripped_ns) if guard.held else "",
        holder=holder or "",
        error=said.error if said and _is_fresh(said) else "",
        log_left_s=await _log_left_s(client, checkpoint),
    )


async def _log_left_s(client: FilerClient, checkpoint: Checkpoint | None) -> float | None:
    """As of now and of the stored offset, also when nobody works."""
    oldest_ns = None if checkpoint is None else await oldest_log_ns(client)
    return None if checkpoint is None or oldest_ns is None else (checkpoint.offset_ns - oldest_ns) / 1e9


def _state(said: Status | None, holder: str | None) -> str:
    if said is None or not _is_fresh(said) or said.state == "stopped":
        return "not running" if holder is None else "no sign of life"
    return said.state


def _is_fresh(said: Status) -> bool:
    return time.time_ns() - said.updated_ns <= _SILENT_AFTER_NS


def _lag_s(said: Status | None, holder: str | None) -> float | None:
    """As of the last word of the holder, grown since then when it had a backlog or went silent."""
    if said is None or (holder is None and not _is_fresh(said)):
        return None
    age_ns = max(0, time.time_ns() - said.updated_ns)
    grown_ns = age_ns if said.lag_ns or age_ns > _SILENT_AFTER_NS else 0
    return round((said.lag_ns + grown_ns) / 1e9, 1)


def _table(rows: Sequence[Row]) -> str:
    blocks = []
    for row in rows:
        lag = "unknown" if row.lag_s is None else f"{row.lag_s:.1f} s, {row.queued} queued"
        lines = [
            escaped(f"{row.path} -> {row.sink}"),
            f"  state         {row.state}" + (f" ({row.phase})" if row.phase not in (row.state,) else ""),
            f"  offset        {row.offset_time or 'none'}" + (f" ({row.offset_ns})" if row.offset_ns else ""),
            f"  lag           {lag}",
            f"  dead letters  {row.dead_letters}",
            f"  lease         {escaped(row.holder) or 'free'}",
        ]
        if row.deletes_held:
            lines.append(
                f"  deletes held  {row.deletes_held} since {row.deletes_held_since} "
                "(filerbackup deletes allow|discard)"
            )
        if row.log_left_s is not None and row.log_left_s < 0:
            lines.append("  log reaches   not back to the offset: the next run takes a snapshot")
        elif row.log_left_s is not None:
            lines.append(f"  log reaches   {row.log_left_s / 3600:.1f} h further back than the offset")
        if row.error:
            lines.append(f"  error         {escaped(row.error)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
