"""One directory of a bucket with versions, as if each object lay there under its own name.

The filer lists `a-1.versions` before `a.versions`, and in between there may be any number of names.
An object's own name belongs before all that begin with it, so what `a` is must be known as soon as
the first of them comes. Such names are prefixes of the last name of a page whose `.versions` would
come after it: a few at most. They are looked up, so that no more than one page is ever held.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TypeVar

from filerbackup.events import Entry
from filerbackup.source.together import together
from filerbackup.source.versions import SUFFIX, Versions, is_version_file, is_versions_name

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 32
_SUFFIX = SUFFIX.encode()


class VersionedListing:
    """One pass over one directory. `look_up` gives the live entry of a name in it."""

    def __init__(self, versions: Versions, look_up: Callable[[str], Awaitable[Entry | None]]) -> None:
        self._versions = versions
        self._look_up = look_up
        self._early: set[str] = set()
        self._given = b""

    async def entries(
        self, pages: AsyncGenerator[tuple[Sequence[Entry], bool], None]
    ) -> AsyncGenerator[Entry, None]:
        """Entries by name. A page is entries by name, and whether it is the last one."""
        async with aclosing(pages):
            async for page, is_last in pages:
                for entry in await self._seen(page, is_last):
                    name = entry.name.encode()
                    # What came to be behind our back is left to the log.
                    if name > self._given:
                        self._given = name
                        yield entry

    async def _seen(self, page: Sequence[Entry], is_last: bool) -> list[Entry]:
        seen = {entry.name: entry for entry in page if _is_plain(entry)}
        named = {entry.name.removesuffix(SUFFIX): entry for entry in page if is_versions_name(entry)}
        for directory, is_ordinary in await _all(self._versions.is_ordinary, named.values()):
            if is_ordinary:
                seen[directory.name] = directory
        directories = {base: entry for base, entry in named.items() if base not in self._early}
        if not is_last:
            directories |= await self._ahead(page[-1].name)

        async def current(base: str) -> Entry | None:
            directory = directories[base]
            return await self._versions.current(
                directory.path.removesuffix(SUFFIX), seen.get(base), directory
            )

        for base, entry in await _all(current, directories):
            if entry is not None:
                seen[base] = entry
            else:
                seen.pop(base, None)
        return [seen[name] for name in sorted(seen, key=str.encode)]

    async def _ahead(self, last: str) -> dict[str, Entry]:
        """Directories that come later in the listing, of objects that belong into this page."""
        self._early = {base for base in self._early if (base + SUFFIX).encode() > last.encode()}

        async def directory_of(base: str) -> Entry | None:
            return await self._look_up(base + SUFFIX)

        bases = [base for base in open_prefixes(last) if base not in self._early]
        found = {base: entry for base, entry in await _all(directory_of, bases) if entry is not None}
        self._early.update(found)
        return {base: entry for base, entry in found.items() if entry.is_directory}


def open_prefixes(last: str) -> list[str]:
    """Names whose `.versions` come after `last`, though they themselves do not."""
    return [last[:end] for end in range(1, len(last) + 1) if last[end:].encode() < _SUFFIX]


def _is_plain(entry: Entry) -> bool:
    return entry.name != SUFFIX and not is_version_file(entry) and not is_versions_name(entry)


async def _all(ask: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[tuple[T, R]]:
    """Ask about each, a number of them at once."""
    rest, answers = list(items), []

    async def one(item: T) -> tuple[T, R]:
        return item, await ask(item)

    while rest:
        now, rest = rest[:_AT_ONCE], rest[_AT_ONCE:]
        answers += await together(one(item) for item in now)
    return answers
