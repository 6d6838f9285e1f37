"""Where a session begins: the one place that turns `--start`, checkpoints and gaps into a decision."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from filerbackup.errors import LogGap, UsageError
from filerbackup.pipeline.clocks import CLOCKS_DIFFER_NS
from filerbackup.source.base import Source
from filerbackup.state.base import Checkpoint, CheckpointStore, Phase

_log = logging.getLogger(__name__)

WALK_MARGIN_NS = 5_000_000_000
"""Following begins this long before the walk did: the clocks of several filers differ a little."""
"""An offset may come from the clock of another filer, which is ahead by so much at most."""
_NO_LOG_YET_NS = 300_000_000_000
"""A filer writes its log to disk once a minute; with nothing there, older offsets prove nothing."""


class CheckpointsWithWeed(CheckpointStore, Protocol):
    """Checkpoints that also know where `weed filer.backup` stopped."""

    async def weed_offset_ns(self) -> int | None:
        """Weed's offset for the same folder and sink, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """What a session does first."""

    checkpoint: Checkpoint
    reason: str


def describe_start(start: Start) -> str:
    """One line for the log."""
    phase = start.checkpoint.phase.value
    return f"{start.reason} ({phase}, offset {when(start.checkpoint.offset_ns)})"


async def choose_start(
    source: Source,
    store: CheckpointsWithWeed,
    *,
    wish: str,
    adopt_weed: bool,
    first_session: bool,
    sink_is_new: bool,
) -> Start:
    """Decide. A wish other than "auto" counts for the first session of a process only.

    `sink_is_new`: it has never held a copy, whatever a checkpoint says: it was emptied or replaced.

    Raises StateError when the checkpoint cannot be read, SourceUnreachable, UsageError.
    """
    stored = await store.load()
    unfinished = stored is not None and stored.phase is Phase.SNAPSHOT
    if wish != "auto" and first_session and not (wish == "snapshot" and unfinished):
        return await _as_wished(source, wish)
    if stored is None and adopt_weed:
        offset_ns = await store.weed_offset_ns()
        if offset_ns is not None:
            adopted = Checkpoint(offset_ns=offset_ns, ahead_to_ns=await source.now_ns())
            gap = await find_gap(source, offset_ns)
            return gap or Start(adopted, f"takes over where weed filer.backup stopped, {when(offset_ns)}")
        _log.warning("there is no checkpoint of weed filer.backup for this folder and sink")
    if stored is None:
        return await _snapshot(
            source, "no checkpoint: compares with the live tree, copies what is missing, then follows"
        )
    if sink_is_new:
        _log.warning(
            "the sink has no mark of filerbackup although there is a checkpoint: it was emptied, replaced, "
            "or just claimed; is the disk mounted, is it the right bucket?"
        )
        return await _snapshot(source, "fills a new sink from the live tree, then follows")
    gap = await find_gap(source, stored.offset_ns)
    if gap is not None:
        return gap
    if stored.phase is Phase.SNAPSHOT:
        return Start(stored, f"goes on with the snapshot behind {stored.cursor!r}")
    return Start(stored, f"resumes from {when(stored.offset_ns)}")


async def find_gap(source: Source, offset_ns: int) -> Start | None:
    """A snapshot instead, when the filer's log cannot be followed from `offset_ns`."""
    gap = await gap_behind(source, offset_ns)
    if not gap:
        return None
    _log.error("gap in the change log: %s; healing with a snapshot of the live tree", gap)
    return await _snapshot(source, "heals a gap in the change log with a snapshot")


async def require_log(source: Source, offset_ns: int) -> None:
    """Raises LogGap when the filer's log cannot be followed from `offset_ns`, SourceUnreachable."""
    gap = await gap_behind(source, offset_ns)
    if gap:
        raise LogGap(f"gap in the change log: {gap}")


async def gap_behind(source: Source, offset_ns: int) -> str:
    """Why the filer's log does not tell all that came after `offset_ns`; empty when it does.

    Its beginning may have been purged, or the filer is another one. Or the filer's clock was set back:
    it would tell of nothing until the clock has reached the offset again, and never of what came before.
    """
    oldest_ns = await source.oldest_log_ns()
    now_ns = await source.now_ns()
    if offset_ns > now_ns + CLOCKS_DIFFER_NS:
        return f"the offset is of {when(offset_ns)}, the filer's clock was set back to {when(now_ns)}"
    oldest_sure_ns = now_ns - _NO_LOG_YET_NS if oldest_ns is None else oldest_ns
    if offset_ns >= oldest_sure_ns:
        return ""
    kept = when(oldest_ns) if oldest_ns is not None else "nothing"
    return f"the offset is of {when(offset_ns)}, the filer keeps {kept} and later"


async def _as_wished(source: Source, wish: str) -> Start:
    match wish:
        case "snapshot":
            return await _snapshot(source, "snapshot as asked for")
        case "log":
            now_ns = await source.now_ns()
            # Not from 0: a later look at the log would take that for a gap.
            oldest_ns = await source.oldest_log_ns()
            offset_ns = now_ns - _NO_LOG_YET_NS if oldest_ns is None else oldest_ns
            repeated = Checkpoint(offset_ns=offset_ns, ahead_to_ns=now_ns)
            return Start(repeated, "from the first entry of the change log")
        case "now":
            now_ns = await source.now_ns()
            return Start(_unlike_on_purpose(now_ns, now_ns), f"from now, {when(now_ns)}")
        case _:
            offset_ns, now_ns = parse_time_ns(wish), await source.now_ns()
            refuse_future(offset_ns, now_ns)
            return Start(_unlike_on_purpose(offset_ns, now_ns), f"from {when(offset_ns)} as asked for")


def _unlike_on_purpose(offset_ns: int, now_ns: int) -> Checkpoint:
    """A start that leaves out what is older: not to be mended by a comparison right away."""
    return Checkpoint(offset_ns=offset_ns, compared_ns=time.time_ns(), ahead_to_ns=now_ns)


def refuse_future(offset_ns: int, now_ns: int) -> None:
    """An offset that lies ahead would skip what is still to come. Raises UsageError."""
    if offset_ns > now_ns:
        raise UsageError(f"{when(offset_ns)} lies in the future of the filer's clock ({when(now_ns)})")


async def _snapshot(source: Source, reason: str) -> Start:
    offset_ns = await source.now_ns() - WALK_MARGIN_NS
    return Start(Checkpoint(offset_ns=offset_ns, phase=Phase.SNAPSHOT, sweep=True), reason)


def parse_time_ns(text: str) -> int:
    """An RFC 3339 time; without a zone it is UTC. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time like 2026-03-01T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = int(moment.timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1_000


def when(ts_ns: int) -> str:
    """A position in the log, for a person; UTC, to the millisecond."""
    if not 0 < ts_ns < 253_402_300_000_000_000_000:
        return "the beginning"
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{rest // 1_000_000:03d}Z"
