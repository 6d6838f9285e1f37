"""All objects of a sink in the order of their keys, lazily, whatever order the service lists in.

Amazon lists by the names' UTF-8 bytes: such a service is read page by page (`_flat`). Others walk
directories. The gateway of SeaweedFS 4.48 lists all of `a/` before `a-b`, although "-" sorts before
"/"; a listing that is continued with `start-after` even leaves out objects. There, directory after
directory is asked for (`_by_directory`): within one the order is right but for a directory's place,
and few entries have to be held back.

Symlinks are out of order everywhere: `photo.rclonelink` is listed behind `photo.jpg`, and its key
`photo` belongs before it. Where a sink holds symlinks it is read by directory too, and an entry is
held back for as long as the link to one of its beginnings can still come.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple, Protocol

from filerbackup.errors import ObjectRejected, SinkUnavailable
from filerbackup.events import EntryKind
from filerbackup.sinks.base import OWN_PREFIX, Listed
from filerbackup.sinks.keys import check_key
from filerbackup.sinks.objects.names import LINK_SUFFIX, Names
from filerbackup.sinks.objects.store import Page

MOST_HELD = 5000
"""So many entries may wait for a link; then the service is asked whether that link exists."""
HALF_REPLACED = -1
"""The size of what is listed where a file and a symlink have the same key."""
_PAGE = 1000
_MOST_EMPTY_PAGES = 1000
_LAST = "\U0010ffff"


class Pages(Protocol):
    """`Store.page`."""

    def __call__(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = _PAGE
    ) -> Awaitable[Page]:
        """One page of a listing."""
        ...


class Lister:
    """Lists one sink. `in_order`: the service lists by UTF-8 bytes; `links`: it may hold symlinks."""

    def __init__(
        self, pages: Pages, names: Names, *, in_order: bool, links: bool, page_size: int = _PAGE
    ) -> None:
        self._pages, self._names = pages, names
        self._in_order, self._links = in_order, links
        self._page_size = page_size

    async def list(self, prefix: str, start_after: str) -> AsyncGenerator[Listed, None]:
        """See `Sink.list`. Raises as `Store.page`, SinkUnavailable when the order is wrong after all."""
        entries = (
            self._flat(prefix, start_after)
            if self._in_order and not self._links
            else self._by_directory(prefix, start_after)
        )
        previous, held = "", None
        async with aclosing(entries):
            async for listed in entries:
                place = _place(listed)
                if held is not None and place == previous:
                    # A file and a symlink of one key: a write that replaced one by the other did not end.
                    # Shown as something that equals neither, so that a comparison writes it again.
                    held = replace(held, size=HALF_REPLACED)
                    continue
                if place < previous:
                    raise SinkUnavailable(
                        f"the service lists {place!r:.200} after {previous!r:.200}: out of order"
                    )
                if held is not None:
                    yield held
                previous, held = place, listed
            if held is not None:
                yield held

    async def _flat(self, prefix: str, start_after: str) -> AsyncGenerator[Listed, None]:
        names = self._names
        after = names.prefix + start_after if start_after else ""
        token = ""
        moves = _Moves()
        while True:
            page = await self._pages(names.prefix + prefix, after=after, token=token, limit=self._page_size)
            for found in page.objects:
                # Where no symlink was ever written, what looks like one is a foreign file.
                listed = names.listed(found, links=False)
                if listed is not None and _place(listed) > start_after:
                    yield listed
            if not page.truncated:
                return
            last = page.objects[-1].name if page.objects else after
            moves.check(last > after, page.token not in ("", token))
            if last.startswith(names.own_prefix):
                after, token = names.own_prefix + _LAST, ""
            else:
                after, token = last, page.token

    async def _by_directory(self, prefix: str, start_after: str) -> AsyncGenerator[Listed, None]:
        top, _, begin = prefix.rpartition("/")
        top = f"{top}/" if top else ""
        entered = [self._directory(top, begin, start_after)]
        try:
            while entered:
                entry = await anext(entered[-1], None)
                if entry is None:
                    entered.pop()
                elif isinstance(entry, Listed):
                    if _place(entry) > start_after and entry.key.startswith(prefix):
                        yield entry
                elif entry > start_after or start_after.startswith(entry):
                    entered.append(self._directory(entry, "", start_after))
        finally:
            for directory in entered:
                await directory.aclose()

    async def _directory(self, path: str, begin: str, start_after: str) -> AsyncGenerator[Listed | str, None]:
        """One directory in order: what is in it, and as strings the paths of directories to enter."""
        full = self._names.prefix + path
        held, position = _Held(self._links), ""
        after, token = _shortly_before(full, path, start_after), ""
        seen: tuple[str, str] | None = None
        reached = ("", "")
        moves = _Moves()
        while True:
            page = await self._pages(
                full + begin, after=after, token=token, delimiter="/", limit=self._page_size
            )
            entries = sorted(self._entries(page, path), key=_service_order)
            fresh = [entry for entry in entries if token or seen is None or _service_order(entry) > seen]
            for entry in fresh:
                held.add(entry)
                # A directory comes later by bytes than by name: that is no step back.
                position = max(position, entry.name)
                for ready in held.ready(position):
                    yield ready
                while len(held) > MOST_HELD and await self._look_for_links(held, full, position):
                    for ready in held.ready(position):
                        yield ready
            if not page.truncated:
                break
            by_token = self._in_order and page.token not in ("", token)
            last = _service_order(fresh[-1]) if fresh else ("", "")
            moves.check(last > reached, by_token)
            reached = max(reached, last)
            if by_token:
                token = page.token
            else:
                after, seen, token = full + fresh[-1].raw, last, ""
        for ready in held.ready(None):
            yield ready

    def _entries(self, page: Page, path: str) -> Iterator[_Entry]:
        full = self._names.prefix + path
        for found in page.objects:
            raw = found.name[len(full) :]
            listed = self._names.listed(found, links=self._links)
            # The directory's own object is in the listing of its inside: with an empty name, the first.
            place = _place(listed)[len(path) :] if listed is not None else ""
            yield _Entry(raw, raw, place, listed)
        for prefix in page.prefixes:
            raw = prefix[len(full) :]
            yield _Entry(raw[:-1], raw, raw, path + raw if self._is_entered(path + raw) else None)

    def _is_entered(self, path: str) -> bool:
        if path == f"{OWN_PREFIX}/":
            return False
        try:
            check_key(path[:-1])
        except ObjectRejected:
            return False
        return True

    async def _look_for_links(self, held: _Held, full: str, position: str) -> bool:
        """Find out about the links that the first held entry waits for; False when it waits for none."""
        stems = list(held.blockers(position))
        for stem in stems:
            name = full + stem + LINK_SUFFIX
            page = await self._pages(name, limit=1)
            link = next((found for found in page.objects if found.name == name), None)
            held.settle(stem, self._names.listed(link, links=True) if link is not None else None)
        return bool(stems)


class _Moves:
    """Whether a listing comes to an end: a service may give empty pages, but not for ever."""

    def __init__(self) -> None:
        self._empty = 0

    def check(self, has_more: bool, has_token: bool) -> None:
        """After each page: whether it showed something new, or gave another token. Raises SinkUnavailable."""
        self._empty = 0 if has_more else self._empty + 1
        if not has_more and (not has_token or self._empty > _MOST_EMPTY_PAGES):
            raise SinkUnavailable("a listing of the service does not move on")


class _Entry(NamedTuple):
    """What a page shows in one directory. The service's order is that of the first two.

    `name` has no slash behind, `raw` has one for a directory; `place` is where it belongs; `item`
    is an object, a path to enter, or None when it is nothing of the sink's.
    """

    name: str
    raw: str
    place: str
    item: Listed | str | None


class _Held:
    """Entries of one directory that are not given out yet, because what belongs before may come."""

    def __init__(self, links: bool) -> None:
        self._links = links
        self._heap: list[tuple[str, int, Listed | str]] = []
        self._absent: set[str] = set()
        self._early: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, entry: _Entry) -> None:
        """Take the next entry of the listing."""
        if entry.item is None:
            return
        if entry.raw.endswith(LINK_SUFFIX) and entry.place in self._early:
            self._early.discard(entry.place)
            return
        self._push(entry.place, entry.item)

    def ready(self, position: str | None) -> Iterator[Listed | str]:
        """What can be given out when the listing has come to the name `position` (None: its end)."""
        while self._heap:
            place = self._heap[0][0]
            if position is not None and (place > position or next(self.blockers(position), None) is not None):
                return
            yield heapq.heappop(self._heap)[-1]

    def blockers(self, position: str) -> Iterator[str]:
        """Keys of links that belong before the first held entry and can still come."""
        if not self._links or not self._heap:
            return
        place = self._heap[0][0].removesuffix("/")
        for end, (ours, theirs) in enumerate(zip(place, position, strict=False), 1):
            if ours != theirs:
                return
            if position[end:] < LINK_SUFFIX and place[:end] not in self._absent:
                yield place[:end]

    def settle(self, stem: str, link: Listed | None) -> None:
        """The link `stem` has been asked for: here it is, or there is none."""
        self._absent.add(stem)
        if link is not None:
            self._early.add(stem)
            self._push(stem, link)

    def _push(self, place: str, item: Listed | str) -> None:
        # A file comes before the link of the same key; a path and an object never share a place.
        self._count += 1
        heapq.heappush(self._heap, (place, self._count, item))


def _service_order(entry: _Entry) -> tuple[str, str]:
    return entry.name, entry.raw


def _place(listed: Listed) -> str:
    """What listings are sorted by. Strings compare by code points, as their UTF-8 bytes do."""
    return f"{listed.key}/" if listed.kind is EntryKind.DIRECTORY else listed.key


def _shortly_before(full: str, path: str, start_after: str) -> str:
    """A name to start a directory's listing behind, that leaves out nothing after `start_after`.

    Where `ab-c` is the next component, the directory `ab` still has to be seen: `ab/` comes later.
    """
    if not start_after.startswith(path):
        return ""
    component = start_after[len(path) :].partition("/")[0]
    stem = component
    for index, character in enumerate(component):
        if index and character < "/":
            stem = component[:index]
            break
    return full + stem[:-1] if len(stem) > 1 else ""
