"""What to distrust after a power loss.

A rename can outlive the data of its file: after a power loss a name may show the right size and time
over wrong bytes. The record in `.filerbackup/flushed.json` holds when the last flush began, by
the file system's own clock, and under which boot id. When the machine was booted anew since, what
was changed between that flush and this start is *suspect*, for good: nothing but a new write (which
moves a file's ctime out of that span) clears it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

_log = logging.getLogger(__name__)

RECORD_NAME = b"flushed.json"
_VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_MARGIN_NS = 2_000_000_000
"""The coarsest step in which a file system keeps times."""
_MAX_SPANS = 64


@dataclass(frozen=True, slots=True)
class FlushRecord:
    """Until when everything is durable, by which boot, and the spans of ctime not to be trusted."""

    boot_id: str
    flushed_ns: int
    suspect: tuple[tuple[int, int], ...] = ()

    def trusts(self, ctime_ns: int) -> bool:
        """Whether the bytes of a file last changed then are surely those that were written."""
        return not any(start <= ctime_ns <= end for start, end in self.suspect)

    def distrusting(self, now_ns: int) -> FlushRecord:
        """The record after losing sight of what was written since the last flush."""
        spans = (*self.suspect, (self.flushed_ns - _CLOCK_MARGIN_NS, now_ns))
        if len(spans) > _MAX_SPANS:
            (start, _), (_, end), *rest = spans
            spans = ((start, max(end, spans[0][1])), *rest)
        return replace(self, flushed_ns=now_ns, suspect=spans)

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return json.dumps(
            {
                "version": _VERSION,
                "boot_id": self.boot_id,
                "flushed_ns": self.flushed_ns,
                "suspect": [list(span) for span in self.suspect],
            }
        ).encode()


def record_at_start(stored: bytes | None, now_ns: int, carried: FlushRecord | None = None) -> FlushRecord:
    """The record to begin with, from what was stored and from what this process knows besides.

    What stood in the directory before the first start was not ours to flush and is trusted. A
    record that cannot be read says nothing: then everything so far is suspect. `carried` holds
    spans that could perhaps not be stored, because the disk was failing.
    """
    boot_id = current_boot_id()
    if stored is None:
        record = FlushRecord(boot_id, now_ns)
    elif (parsed := _parsed(stored)) is None:
        _log.warning("%s cannot be read: present files will be written again", RECORD_NAME.decode())
        record = FlushRecord(boot_id, now_ns, ((0, now_ns),))
    elif boot_id and parsed.boot_id == boot_id:
        record = parsed
    else:
        record = replace(parsed.distrusting(now_ns), boot_id=boot_id)
    if carried is not None:
        missing = tuple(span for span in carried.suspect if span not in record.suspect)
        record = replace(record, suspect=record.suspect + missing)
    return record


def current_boot_id() -> str:
    """Changes with every boot; empty where the system has none (then no restart is trusted)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _parsed(stored: bytes) -> FlushRecord | None:
    try:
        match json.loads(stored):
            case {"version": 1, "boot_id": str(boot_id), "flushed_ns": int(flushed), "suspect": list(spans)}:
                return FlushRecord(boot_id, flushed, tuple((int(start), int(end)) for start, end in spans))
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    return None
