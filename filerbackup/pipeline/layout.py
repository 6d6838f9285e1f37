"""How a source path becomes a sink key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo

from filerbackup.events import Entry

_YEAR_1_S = -62_100_000_000
_YEAR_9999_S = 253_402_000_000
"""What a calendar holds; a hostile modified time is moved to its edge."""


class Layout(Protocol):
    """`name` goes into the sink's mark; `keeps_deleted`: deletes and old names are never applied."""

    @property
    def name(self) -> str:
        """As it stands in the mark: "mirror" or "dated"."""
        ...

    @property
    def keeps_deleted(self) -> bool:
        """Whether what the source deleted stays in the sink."""
        ...

    @property
    def keeps_dates(self) -> bool:
        """Whether keys begin with a date, so that they are not in the order of the source's paths."""
        ...

    def key(self, entry: Entry) -> str | None:
        """The sink key of an entry in scope, or None when this layout does not keep such entries."""
        ...


class Mirror:
    """The tree as it is."""

    name = "mirror"
    keeps_dates = False

    def __init__(self, relative: Callable[[str], str], *, keeps_deleted: bool = False) -> None:
        self._relative = relative
        self.keeps_deleted = keeps_deleted

    def key(self, entry: Entry) -> str | None:
        """The path below the watched folder."""
        return self._relative(entry.path)


class Dated:
    """`YYYY-MM-DD/path`, by the modified time; every day keeps what was written on it."""

    name = "dated"
    keeps_deleted = True
    keeps_dates = True

    def __init__(self, relative: Callable[[str], str], timezone: str = "UTC") -> None:
        self._relative = relative
        self.zone: tzinfo = UTC if timezone == "UTC" else ZoneInfo(timezone)

    def key(self, entry: Entry) -> str | None:
        """The day of the modified time, then the path. A directory as such belongs to no day."""
        if entry.is_directory and not entry.has_body:
            return None
        return f"{self._date(entry.mtime_ns // 1_000_000_000)}/{self._relative(entry.path)}"

    def _date(self, seconds: int) -> str:
        within_years = min(max(seconds, _YEAR_1_S), _YEAR_9999_S)
        return datetime.fromtimestamp(within_years, self.zone).strftime("%Y-%m-%d")
