"""Names that share a hard link, as far as they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from filerbackup.errors import SourceUnreachable
from filerbackup.events import Delete, Entry, EntryKind, Event, Marker, Rename, Upsert
from filerbackup.source.links import HardLinks


class Live:
    """The filer's live entries."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.asked: list[str] = []

    def link(self, path: str, content: bytes, link_id: bytes = b"id") -> Entry:
        """A name, with the content that all names of the link have from now on."""
        entry = Entry(path=path, kind=EntryKind.FILE, content=content, hard_link_id=link_id)
        for other in self.entries.values():
            if other.hard_link_id == link_id:
                self.entries[other.path] = replace(entry, path=other.path)
        self.entries[path] = entry
        return entry

    async def look_up(self, path: str) -> Entry | None:
        self.asked.append(path)
        return self.entries.get(path)


def told(events: Sequence[Event]) -> list[tuple[str, bytes]]:
    return [(event.entry.path, event.entry.content) for event in events if isinstance(event, Upsert)]


async def test_a_write_through_one_name_is_one_of_all() -> None:
    live = Live()
    links = HardLinks(live.look_up)
    for path in ("/a", "/b", "/c"):
        links.note(live.link(path, b"1"))
    events = await links.spread([Marker(1), Upsert(2, live.link("/b", b"2"), same_content=True)])
    assert told(events) == [("/b", b"2"), ("/a", b"2"), ("/c", b"2")]
    assert all(event.ts_ns == 2 and event.same_content for event in events if isinstance(event, Upsert))


async def test_a_new_name_or_the_same_state_again_is_no_change_of_the_others() -> None:
    live = Live()
    links = HardLinks(live.look_up)
    batch = [Upsert(1, live.link("/a", b"1")), Upsert(2, live.link("/b", b"1"))]
    assert await links.spread(batch) == batch
    assert await links.spread(batch) == batch
    assert live.asked == []


async def test_a_name_that_is_gone_or_another_file_now_is_left_alone() -> None:
    live = Live()
    links = HardLinks(live.look_up)
    for path in ("/a", "/b", "/c", "/d"):
        links.note(live.link(path, b"1"))
    del live.entries["/b"]
    live.entries["/c"] = Entry(path="/c", kind=EntryKind.FILE, content=b"another")
    assert told(await links.spread([Upsert(1, live.link("/a", b"2"))])) == [("/a", b"2"), ("/d", b"2")]
    live.asked.clear()
    await links.spread([Upsert(2, live.link("/a", b"3"))])
    assert live.asked == ["/d"]


async def test_names_move_and_go() -> None:
    live = Live()
    links = HardLinks(live.look_up)
    for path in ("/a", "/b", "/c"):
        links.note(live.link(path, b"1"))
    moved = live.entries["/z"] = replace(live.entries.pop("/b"), path="/z")
    overwritten = Entry(path="/c", kind=EntryKind.FILE, content=b"plain")
    await links.spread([Rename(1, replace(moved, path="/b"), moved), Upsert(2, overwritten)])
    assert told(await links.spread([Upsert(3, live.link("/a", b"2"))])) == [("/a", b"2"), ("/z", b"2")]
    gone = live.entries.pop("/z")
    await links.spread([Delete(4, gone)])
    assert told(await links.spread([Upsert(5, live.link("/a", b"3"))])) == [("/a", b"3")]


async def test_what_is_not_a_link_passes_untouched() -> None:
    links = HardLinks(Live().look_up)
    batch = [Upsert(1, Entry(path="/a", kind=EntryKind.FILE)), Marker(2)]
    assert await links.spread(batch) is batch


async def test_memory_is_bounded() -> None:
    live = Live()
    links = HardLinks(live.look_up, most_names=100)
    for number in range(1000):
        for name in ("x", "y"):
            links.note(live.link(f"/{number}{name}", b"1", b"%d" % number))
    assert len(links._ids) <= 100
    assert len(links._links) <= 50
    assert told(await links.spread([Upsert(1, live.link("/999x", b"2", b"999"))])) == [
        ("/999x", b"2"), ("/999y", b"2"),
    ]  # fmt: skip


async def test_a_stream_that_begins_again_tells_all_names_again() -> None:
    """What the last one told may never have been carried out."""
    live = Live()
    links = HardLinks(live.look_up)
    for path in ("/a", "/b"):
        links.note(live.link(path, b"1"))
    event = Upsert(1, live.link("/a", b"2"))
    assert told(await links.spread([event])) == [("/a", b"2"), ("/b", b"2")]
    assert told(await links.spread([event])) == [("/a", b"2")]
    links.begin()
    assert told(await links.spread([event])) == [("/a", b"2"), ("/b", b"2")]


async def test_a_filer_that_is_away_for_a_moment_loses_no_name() -> None:
    live = Live()
    away = True

    async def look_up(path: str) -> Entry | None:
        if away:
            raise SourceUnreachable("away")
        return await live.look_up(path)

    links = HardLinks(look_up)
    for path in ("/a", "/b"):
        links.note(live.link(path, b"1"))
    event = Upsert(1, live.link("/a", b"2"))
    with pytest.raises(SourceUnreachable):
        await links.spread([event])
    away = False
    assert told(await links.spread([event])) == [("/a", b"2"), ("/b", b"2")]
