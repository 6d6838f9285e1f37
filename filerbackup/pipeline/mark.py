"""The mark in a sink: whose copies these are. Nothing is swept where it is missing or another's."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from filerbackup.errors import UsageError
from filerbackup.sinks.base import MARK_KEY, Sink

FORMAT_VERSION = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ownership:
    """`may_sweep`: what the live tree lacks may be removed. `was_empty`: there was nothing to sweep.

    `is_new`: the mark was left just now, so whatever was copied before is not here.
    """

    may_sweep: bool
    was_empty: bool
    is_new: bool = False


async def claim_sink(sink: Sink, *, cluster: str, path: str, layout: str, claim: bool) -> Ownership:
    """Read the mark, or leave ours at the first run.

    Raises UsageError when the sink belongs to another folder, cluster or layout. `claim` accepts a
    directory that holds other things and no mark.
    """
    raw = await sink.read_own(MARK_KEY)
    if raw is not None:
        require_ours(raw, sink, cluster=cluster, path=path, layout=layout)
        return Ownership(may_sweep=True, was_empty=False)
    was_empty = True
    async for _ in sink.list():
        was_empty = False
        break
    if not (was_empty or claim):
        _log.warning(
            "%s holds other things and no mark of filerbackup: they stay, but files of the same name are "
            "replaced. --claim takes it over, and then REMOVES from it what the source does not have",
            sink.identity,
        )
        return Ownership(may_sweep=False, was_empty=False)
    mark = {
        "version": FORMAT_VERSION,
        "source": {"cluster": cluster, "path": path},
        "layout": layout,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    await sink.write_own(MARK_KEY, json.dumps(mark, indent=2).encode() + b"\n")
    return Ownership(may_sweep=True, was_empty=was_empty, is_new=True)


def require_ours(raw: bytes, sink: Sink, *, cluster: str, path: str, layout: str) -> None:
    """Raise UsageError when the mark is of another folder, cluster or layout, or cannot be read."""
    where = f"{sink.identity}/{MARK_KEY}"
    try:
        mark = json.loads(raw)
        version, source, marked_layout = mark["version"], mark["source"], mark["layout"]
        marked = (source["cluster"], source["path"], marked_layout)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f"{where} cannot be read", hint="look at the file; remove it to start anew"
        ) from None
    if version != FORMAT_VERSION:
        raise UsageError(
            f"{where} has format {version!r}, known is {FORMAT_VERSION}", hint="upgrade filerbackup"
        )
    if marked != (cluster, path, layout):
        raise UsageError(
            f"{sink.identity} belongs to folder {marked[1]!r} of cluster {marked[0]!r} "
            f"in layout {marked[2]!r}, not to folder {path!r} of cluster {cluster!r} in layout {layout!r}",
            hint=f"give this folder a directory of its own, or remove {where} if that source is no more",
        )
