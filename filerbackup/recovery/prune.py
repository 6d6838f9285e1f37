"""Retention of dated copies: old days go, but never the copy of what the filer still has as it is.

A file that was not changed for years lies under its day alone. So a day is gone through file by file,
and what the live filer still has in just this version stays, however old it is; so does the last copy
of a file whose newer version has not arrived.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

from filerbackup.errors import UsageError
from filerbackup.events import Entry, EntryKind
from filerbackup.pipeline.layout import Dated
from filerbackup.pipeline.mark import require_ours
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
    """What became of one day, or would: `kept` files are needed, for the filer still has them."""

    day: str
    removed: int = 0
    removed_bytes: int = 0
    kept: int = 0


async def require_dated(sink: Sink, *, cluster: str, path: str) -> None:
    """Raise UsageError when the sink is not marked as dated copies of this folder of this cluster."""
    raw = await sink.read_own(MARK_KEY)
    if raw is None:
        raise UsageError(
            f"{sink.identity} is not marked as a copy of ours; nothing is removed from it",
            hint="prune works on sinks with is_incremental = true, after their first run",
        )
    require_ours(raw, sink, cluster=cluster, path=path, layout=Dated.name)


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
            if await self._is_needed(listed.key):
                done.kept += 1
                return
            if not self._dry_run:
                await self._sink.delete(listed.key)
            done.removed += 1
            done.removed_bytes += listed.size

    async def _is_needed(self, key: str) -> bool:
        """Whether the filer has this very version, or a newer one that is not in the sink yet."""
        live = await self._live.lookup(self._absolute(key.partition("/")[2]))
        present = None if live is None else self._layout.key(live)
        return present is not None and (present == key or await self._sink.stat(present) is None)
