"""Retention of dated copies: old days go, but never the copy of what the filer still has as it is.

A file that was not changed for years lies under its day alone. So a day is gone through file by file,
and what the live filer still has in just this version stays, however old it is.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

from filerbackup.errors import UsageError
from filerbackup.events import Entry, EntryKind
from filerbackup.pipeline.layout import Dated
from filerbackup.sinks.base import MARK_KEY, Listed, Sink

AT_ONCE = 32
_PAGE = 1000
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class Live(Protocol):
    """The filer, as far as it is asked."""

    async def lookup(self, path: str) -> Entry | None:
        """The live entry, or None when there is none. Raises SourceUnreachable."""
        ...


@dataclass(slots=True)
class Pruned:
    """What became of one day, or would: `kept` files are the filer's own present versions."""

    day: str
    removed: int = 0
    removed_bytes: int = 0
    kept: int = 0


async def require_dated(sink: Sink, path: str) -> None:
    """Raise UsageError when the sink does not carry the mark of dated copies of this folder."""
    raw = await sink.read_own(MARK_KEY)
    try:
        mark = json.loads(raw) if raw is not None else {}
        marked = (mark["layout"], mark["source"]["path"])
    except (ValueError, KeyError, TypeError, RecursionError):
        marked = ("", "")
    if marked != (Dated.name, path):
        raise UsageError(
            f"{sink.identity} is not marked as dated copies of {path!r}; nothing is removed from it",
            hint="prune works on sinks with is_incremental = true, after their first run",
        )


async def days_of(sink: Sink) -> list[str]:
    """All days that the sink has, oldest first; one request or so for each."""
    days: list[str] = []
    after = ""
    while True:
        async with aclosing(sink.list("", after)) as objects:
            first = await anext(objects, None)
        if first is None:
            return days
        top = first.key.partition("/")[0]
        is_directory = top != first.key or first.kind is EntryKind.DIRECTORY
        if is_directory and _DAY.fullmatch(top):
            days.append(top)
        # "0" is what follows "/": the first name that is not below this one.
        after = top + "0"


def choose(days: Sequence[str], *, today: date, keep_days: int, keep_at_least: int) -> list[str]:
    """The days that may go, oldest first: older than `keep_days`, and not of the newest `keep_at_least`."""
    oldest_kept = (today - timedelta(days=keep_days)).isoformat()
    candidates = sorted(days)[: max(0, len(days) - keep_at_least)]
    return [day for day in candidates if day < oldest_kept]


class Prune:
    """Carries it out, or with `dry_run` only counts. `absolute` gives the source path of a relative one.

    Safe beside a running daemon: each file is asked for just before it is removed.
    """

    def __init__(
        self, sink: Sink, live: Live, layout: Dated, absolute: Callable[[str], str], *, dry_run: bool
    ) -> None:
        self._sink, self._live, self._layout, self._absolute = sink, live, layout, absolute
        self._dry_run = dry_run

    async def day(self, day: str) -> Pruned:
        """Go through one day. Raises SinkError, SourceUnreachable: what was removed by then is removed."""
        done = Pruned(day)
        directories = [day] if self._sink.capabilities.directories else []
        async for page in self._pages(day):
            directories += [listed.key for listed in page if listed.kind is EntryKind.DIRECTORY]
            at_once = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for listed in page:
                    if listed.kind is not EntryKind.DIRECTORY:
                        group.create_task(self._file(listed, done, at_once))
        if not self._dry_run:
            # Only those that are empty by now really go, the deepest first.
            for key in reversed(directories):
                await self._sink.delete(key)
            await self._sink.flush()
        return done

    async def _pages(self, day: str) -> AsyncIterator[list[Listed]]:
        page: list[Listed] = []
        async with aclosing(self._sink.list(day + "/")) as objects:
            async for listed in objects:
                page.append(listed)
                if len(page) == _PAGE:
                    yield page
                    page = []
        yield page

    async def _file(self, listed: Listed, done: Pruned, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            live = await self._live.lookup(self._absolute(listed.key.partition("/")[2]))
            if live is not None and self._layout.key(live) == listed.key:
                done.kept += 1
                return
            if not self._dry_run:
                await self._sink.delete(listed.key)
            done.removed += 1
            done.removed_bytes += listed.size
