"""The live tree, in the order in which sinks list their keys.

The filer lists a directory by name. A sink lists by whole key, where "a-b" comes before "a/x" but
"a" sorts before "a-b": a directory counts as its name plus "/". So a directory waits until every
name that sorts before that has been given out.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import AsyncGenerator, Callable

from filerbackup.events import Entry
from filerbackup.filer.client import FilerClient
from filerbackup.source.decode import entry_from_pb

PAGE = 1024
_log = logging.getLogger(__name__)


def sort_name(entry: Entry) -> str:
    """A name as it takes part in the order."""
    return entry.name + "/" if entry.is_directory else entry.name


class TreeWalk:
    """One walk; `holds` says which entries belong to it (a directory outside is not entered)."""

    def __init__(self, client: FilerClient, root: str, holds: Callable[[Entry], bool]) -> None:
        self._client = client
        self._root = root
        self._holds = holds
        self.in_order = True
        """False when a filer's store listed names out of order: then "not seen" proves nothing."""

    async def entries(self, after: str = "") -> AsyncGenerator[Entry, None]:
        """All entries behind `after` (a relative path; a directory's ends in a slash)."""
        stack = [self._directory(self._root, after)]
        while stack:
            try:
                entry, rest = await anext(stack[-1])
            except StopAsyncIteration:
                stack.pop()
                continue
            if not rest:
                yield entry
            if entry.is_directory:
                stack.append(self._directory(entry.path, "" if rest in ("", "/") else rest))

    async def _directory(self, directory: str, after: str) -> AsyncGenerator[tuple[Entry, str], None]:
        """Entries of one directory in order; the second value: go on inside it behind this path."""
        first, slash, rest = after.partition("/")
        behind = first + slash
        waiting: list[tuple[bytes, int, Entry]] = []
        async for number, entry in self._by_name(directory):
            name = sort_name(entry).encode()
            while waiting and waiting[0][0] < entry.name.encode():
                for step in _step(heapq.heappop(waiting)[2], behind, rest):
                    yield step
            if entry.is_directory:
                heapq.heappush(waiting, (name, number, entry))
            else:
                for step in _step(entry, behind, rest):
                    yield step
        while waiting:
            for step in _step(heapq.heappop(waiting)[2], behind, rest):
                yield step

    async def _by_name(self, directory: str) -> AsyncGenerator[tuple[int, Entry], None]:
        """Each entry of a directory once, by name."""
        last, number = "", 0
        while True:
            page = await self._client.list_page(directory, last, PAGE)
            by_name = {item.name: item for item in page}
            names = sorted(by_name, key=str.encode)
            # The first listing after something in a directory expired repeats what did not.
            repeats = len(names) < len(page)
            if (not repeats and [item.name for item in page] != names) or (
                names and names[0].encode() <= last.encode()
            ):
                self._out_of_order(directory)
            for name in names:
                number += 1
                entry = entry_from_pb(directory, by_name[name])
                if self._holds(entry):
                    yield number, entry
            if len(page) < PAGE:
                return
            last = names[-1] if repeats else page[-1].name

    def _out_of_order(self, directory: str) -> None:
        if self.in_order:
            _log.warning("the filer's store lists %r out of order", directory)
        self.in_order = False


def _step(entry: Entry, behind: str, rest: str) -> list[tuple[Entry, str]]:
    """The entry unless it comes before the resume point; with what is left of that inside it."""
    name = sort_name(entry)
    if not behind or name.encode() > behind.encode():
        return [(entry, "")]
    if name == behind and entry.is_directory:
        return [(entry, rest or "/")]
    return []
