"""The forms in which rclone writes a modified time, and the reverse; times are Unix nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_unix_seconds = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?").fullmatch
_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unix_seconds(time_ns: int) -> str:
    """`mtime` as rclone writes it: 1712345678.1234 for 1712345678123400000."""
    seconds, nanos = divmod(abs(time_ns), 1_000_000_000)
    text = f"{seconds}.{nanos:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if time_ns < 0 else text


def parse_unix_seconds(text: str) -> int | None:
    """The nanoseconds that `unix_seconds` wrote, None for anything else."""
    found = _unix_seconds(text)
    if found is None:
        return None
    sign, seconds, fraction = found.groups()
    time_ns = int(seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
    return -time_ns if sign else time_ns


def rfc3339(time_ns: int, *, digits: int | None = None) -> str:
    """`2001-02-03T04:05:06.789Z`: with so many digits of a second, or None for as many as are needed."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    whole = (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    fraction = f"{nanos:09d}"[:digits] if digits is not None else f"{nanos:09d}".rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def parse_rfc3339(text: str) -> int | None:
    """The nanoseconds of such a time, in any zone; None for anything else."""
    found = _rfc3339(text)
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    except ValueError:
        return None
    since = moment - _EPOCH
    seconds = since.days * 86400 + since.seconds
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
