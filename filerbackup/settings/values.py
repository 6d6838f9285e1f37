"""Settings as they were found, and the one way to turn them into typed values.

A parser takes what TOML, the environment or a flag gave and returns a typed value or raises
`BadValue` with what would be right. It never repeats a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from filerbackup.errors import UsageError
from filerbackup.settings.secret import Secret

T = TypeVar("T")

MAX_SHOWN = 60

_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)")
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_PLAIN_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)

_SIZE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class BadValue(ValueError):
    """A value that a parser refuses; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as it was found. `origin`: the file, variable or flag; `label`: the same with the key."""

    value: object
    origin: str
    label: str

    def __repr__(self) -> str:
        return f"Raw({self.label})"


class Values:
    """What was found for each dotted key (`sink.s3.bucket`), the strongest origin only."""

    __slots__ = ("_fallback", "_raw")

    def __init__(self, raw: Mapping[str, Raw], *, fallback: str) -> None:
        self._raw = dict(raw)
        self._fallback = fallback

    def get(self, key: str, parse: Callable[[object], T], default: T) -> T:
        """The typed value, or the default when there is none. Raises UsageError."""
        raw = self._raw.get(key)
        if raw is None:
            return default
        try:
            return parse(raw.value)
        except BadValue as error:
            raise UsageError(f"{raw.label}: {error}") from None

    def has(self, key: str) -> bool:
        """Whether anything supplied the key."""
        return key in self._raw

    def label(self, key: str) -> str:
        """Where the key stands, or where it should stand: the start of an error message.

        Capitals in `key` show when it is missing.
        """
        raw = self._raw.get(key.lower())
        return raw.label if raw is not None else f"{self._fallback}: {key}"

    def origin(self, key: str) -> str:
        """The file, variable or flag that supplied the key, or empty."""
        raw = self._raw.get(key)
        return raw.origin if raw is not None else ""

    def under(self, prefix: str) -> Sequence[str]:
        """The keys that begin with `prefix`."""
        return [key for key in self._raw if key.startswith(prefix)]


def shown(value: object) -> str:
    """A value for an error message: short, on one line, nothing that a terminal would obey."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def printable(text: str) -> str:
    """A key or a path for a message, with escapes for what does not print."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case dict():
            return "a section"
        case datetime() | date() | time():
            return "a date"
        case _:
            return "something else"


def as_text(value: object) -> str:
    """Text without NUL."""
    if not isinstance(value, str):
        raise BadValue(f'must be text in quotes ("…"), not {_kind(value)}')
    if "\0" in value:
        raise BadValue("must not hold a NUL character")
    return value


def as_secret(value: object) -> Secret:
    """Text that no message repeats. White space counts: a key has to equal the server's exactly."""
    return Secret(as_text(value))


def as_bool(value: object) -> bool:
    """True or false, also as weed reads them: 1, 0, "true", "false", "t", "f"."""
    text = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadValue(f"must be true or false, not {shown(value)}")


def as_int(minimum: int, maximum: int) -> Callable[[object], int]:
    """A parser for a whole number in a range."""

    def parse(value: object) -> int:
        found: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            found = value
        elif isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            found = int(value)
        if found is None or not minimum <= found <= maximum:
            raise BadValue(f"must be a whole number from {minimum} to {maximum}, not {shown(value)}")
        return found

    return parse


def parse_size(value: object) -> int:
    """Bytes from a number or from text such as "96MiB", "1.5GB", "512k". Raises BadValue.

    KB, MB, GB, TB count in thousands; KiB, MiB, GiB, TiB and bare K, M, G, T in steps of 1024.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or found[2].lower() not in _SIZE_UNITS:
        raise BadValue(f'must be a size such as "96MiB", "1GB" or a number of bytes, not {shown(value)}')
    return int(Fraction(found[1]) * _SIZE_UNITS[found[2].lower()])


def as_size(minimum: int, maximum: int) -> Callable[[object], int]:
    """A parser for a size in a range, in bytes."""

    def parse(value: object) -> int:
        size = parse_size(value)
        if not minimum <= size <= maximum:
            raise BadValue(
                f"must be from {format_size(minimum)} to {format_size(maximum)}, not {shown(value)}"
            )
        return size

    return parse


def format_size(size: int) -> str:
    """Bytes in the largest binary unit that divides them: "8MiB", "1000B"."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return f"{size}B"


def parse_duration(value: object) -> float:
    """Seconds from a number of seconds or from text such as "15s", "5m", "1h30m", "500ms", "2d".

    Raises BadValue.
    """
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    ):
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if _PLAIN_SECONDS.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise BadValue(f'must be a duration such as "15s", "5m" or "24h", not {shown(value)}')
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def as_duration(minimum: float, maximum: float) -> Callable[[object], float]:
    """A parser for a duration in a range, in seconds."""

    def parse(value: object) -> float:
        seconds = parse_duration(value)
        if not minimum <= seconds <= maximum:
            raise BadValue(f"must be from {minimum:g}s to {maximum:g}s, not {shown(value)}")
        return seconds

    return parse


def as_interval(minimum: float, maximum: float) -> Callable[[object], float]:
    """A parser for a duration in a range, in seconds, where 0 means never."""
    within = as_duration(minimum, maximum)

    def parse(value: object) -> float:
        return 0.0 if parse_duration(value) == 0 else within(value)

    return parse


@dataclass(frozen=True, slots=True)
class Limit:
    """A number, or a share of the whole from 0 to 1; no limit when both are 0."""

    number: int = 0
    share: float = 0.0


def as_limit(value: object) -> Limit:
    """A number (10000), a share ("10%"), or no limit: 0, "off" or false."""
    text = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
    if text in ("off", "false"):
        return Limit()
    if _WHOLE.fullmatch(text) and int(text) >= 0:
        return Limit(number=int(text))
    found = _PERCENT.fullmatch(text)
    if found is not None and float(found[1]) <= 100:
        return Limit(share=float(found[1]) / 100)
    raise BadValue(f'must be a number such as 10000, a share such as "10%", or "off", not {shown(value)}')


def as_choice(*choices: str) -> Callable[[object], str]:
    """A parser for one of a few words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise BadValue(f"must be one of {', '.join(choices)}, not {shown(value)}")

    return parse


def as_list(value: object) -> tuple[str, ...]:
    """A list of text, or one text with commas between the items (and white space around them)."""
    if isinstance(value, str):
        return tuple(item.strip() for item in as_text(value).split(",") if item.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        if any(not item or "\0" in item for item in value):
            raise BadValue("must not hold an empty item or a NUL character")
        return tuple(value)
    raise BadValue(f'must be text or a list of text (["a", "b"]), not {_kind(value)}')


def as_timezone(value: object) -> str:
    """The name of a time zone of the IANA database."""
    name = as_text(value)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadValue(f'must be a time zone such as "UTC" or "Europe/Berlin", not {shown(name)}') from None
    return name


def parse_rfc3339(text: str) -> int:
    """Unix nanoseconds from an RFC 3339 time; the offset from UTC is not optional. Raises BadValue."""
    found = _RFC3339.fullmatch(text)
    problem = f'must be a time such as "2026-01-31T20:00:00Z" or "…+01:00", not {shown(text)}'
    if found is None:
        raise BadValue(problem)
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00")
    except ValueError:
        raise BadValue(problem) from None
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    if found[4]:
        if int(found[5]) > 23 or int(found[6]) > 59:
            raise BadValue(problem)
        offset_s = int(found[5]) * 3600 + int(found[6]) * 60
        whole -= offset_s if found[4] == "+" else -offset_s
    return whole * 1_000_000_000 + int((found[3] or "").ljust(9, "0"))
