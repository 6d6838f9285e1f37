"""A filer's live tree, in the order in which sinks list their keys.

The filer lists a directory by name. A sink lists by whole key, where "a-b" comes before "a/x" but
"a" sorts before "a-b": a directory counts as its name plus "/". So a directory waits until every
name that sorts before that has been given out.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb

PAGE = 1024
T = TypeVar("T")
_GO_DIRECTORY = 1 << 31
_log = logging.getLogger(__name__)


def is_directory(message: pb.Entry) -> bool:
    """Whether other entries can live below this one."""
    return message.is_directory or bool(message.attributes.file_mode & _GO_DIRECTORY)


class Walk(Generic[T]):
    """One walk. `take` makes a caller's value of the entry of a directory, None for what does not count.

    (A directory that does not count is not entered.)
    """

    def __init__(self, client: FilerClient, root: str, take: Callable[[str, pb.Entry], T | None]) -> None:
        self._client = client
        self._root = root
        self._take = take
        self.in_order = True
        """False when a filer's store listed names out of order: then "not seen" proves nothing."""

    async def entries(self, after: str = "", *, name_prefix: str = "") -> AsyncGenerator[T, None]:
        """All entries behind `after` (a relative path; a directory's ends in a slash).

        `name_prefix`: of the names right below the root, only those that begin so.
        """
        stack = [self._directory(self._root, after, name_prefix)]
        try:
            while stack:
                try:
                    taken, below, rest = await anext(stack[-1])
                except StopAsyncIteration:
                    stack.pop()
                    continue
                if not rest:
                    yield taken
                if below:
                    stack.append(self._directory(below, "" if rest in ("", "/") else rest, ""))
        finally:
            for generator in reversed(stack):
                await generator.aclose()

    async def _directory(
        self, directory: str, after: str, name_prefix: str
    ) -> AsyncGenerator[tuple[T, str, str], None]:
        """Entries of one directory in order; then the path to go on below; then: inside it behind this."""
        first, slash, rest = after.partition("/")
        behind = (first + slash).encode()
        waiting: list[tuple[bytes, int, T]] = []

        def step(name: bytes, taken: T) -> list[tuple[T, str, str]]:
            """The entry unless it comes before the resume point; with what is left of that inside it."""
            below = _below(directory, name) if name.endswith(b"/") else ""
            if not behind or name > behind:
                return [(taken, below, "")]
            if name == behind and below:
                return [(taken, below, rest or "/")]
            return []

        number = 0
        async for name, has_below, taken in self._by_name(directory, name_prefix):
            number += 1
            while waiting and waiting[0][0] < name:
                ready = heapq.heappop(waiting)
                for found in step(ready[0], ready[2]):
                    yield found
            if has_below:
                heapq.heappush(waiting, (name + b"/", number, taken))
            else:
                for found in step(name, taken):
                    yield found
        while waiting:
            ready = heapq.heappop(waiting)
            for found in step(ready[0], ready[2]):
                yield found

    async def _by_name(self, directory: str, name_prefix: str) -> AsyncGenerator[tuple[bytes, bool, T], None]:
        """Each entry of a directory once, by name, and whether it is a directory."""
        async for page, _ in self._pages(directory, name_prefix):
            for message in page:
                taken = self._take(directory, message)
                if taken is not None:
                    yield message.name.encode(), is_directory(message), taken

    async def _pages(
        self, directory: str, name_prefix: str
    ) -> AsyncGenerator[tuple[list[pb.Entry], bool], None]:
        """A directory's entries by name, in pages, and whether a page is the last."""
        last = ""
        while True:
            page, is_last = await self._client.list_some(directory, last, PAGE, prefix=name_prefix)
            by_name = {item.name: item for item in page}
            names = sorted(by_name, key=str.encode)
            # The first listing after something in a directory expired repeats what did not.
            repeats = len(names) < len(page)
            if (not repeats and [item.name for item in page] != names) or (
                names and names[0].encode() <= last.encode()
            ):
                self._out_of_order(directory)
            yield [by_name[name] for name in names], is_last
            if is_last:
                return
            last = names[-1] if repeats else page[-1].name

    def _out_of_order(self, directory: str) -> None:
        if self.in_order:
            _log.warning("the filer's store lists %r out of order", directory)
        self.in_order = False


def _below(directory: str, name: bytes) -> str:
    return f"{directory.rstrip('/')}/{name[:-1].decode()}"
