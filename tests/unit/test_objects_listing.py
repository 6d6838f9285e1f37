"""Listings in the order of the keys, from services that list by bytes and those that walk directories."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from filerbackup.errors import SinkUnavailable
from filerbackup.events import EntryKind
from filerbackup.sinks.objects import listing
from filerbackup.sinks.objects.listing import Lister
from filerbackup.sinks.objects.names import LINK_SUFFIX, Names
from filerbackup.sinks.objects.store import Found, Page
from filerbackup.sinks.s3.dialect import S3_DIALECT

COMPONENTS = st.text(alphabet="a-.r/ ~", min_size=1, max_size=4)
KEYS = st.sets(
    st.text(alphabet="ab-. r/~é", min_size=1, max_size=7).filter(
        lambda key: all(part not in ("", ".", "..") for part in key.split("/"))
    ),
    max_size=25,
)
PREFIX = "backup/"


class ByBytes:
    """Lists like Amazon: by UTF-8 bytes, common prefixes in place, continued with a token."""

    in_order = True

    def __init__(self, names: set[str]) -> None:
        self.names = sorted(names, key=str.encode)
        self.requests = 0

    async def __call__(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        self.requests += 1
        entries: list[str] = []
        for name in self.names:
            if not name.startswith(prefix) or (not token and name <= after):
                continue
            end = name.find("/", len(prefix)) if delimiter else -1
            entry = name if end < 0 else name[: end + 1]
            if entry not in entries and entry > token.removeprefix("t"):
                entries.append(entry)
        return _page(entries, set(self.names), prefix, limit, with_token=True)


class ByDirectory:
    """Lists like the gateway of SeaweedFS: walks directories, `a/` with all below before `a-b`."""

    in_order = False

    def __init__(self, names: set[str]) -> None:
        self.names = sorted(names, key=lambda name: name.split("/"))
        self.requests = 0

    async def __call__(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        assert not token
        self.requests += 1
        entries: list[str] = []
        top = prefix[: prefix.rfind("/") + 1]
        for name in self.names:
            if not name.startswith(prefix):
                continue
            end = name.find("/", len(prefix)) if delimiter else -1
            entry = name if end < 0 else name[: end + 1]
            if after.startswith(top) and after != top and _walked(entry, top) <= _walked(after, top):
                continue
            if entry not in entries:
                entries.append(entry)
        return _page(entries, set(self.names), prefix, limit, with_token=False)


def _walked(name: str, top: str) -> tuple[str, bool]:
    """The place among the entries of one directory; a file comes before a directory of its name."""
    component, slash, _ = name[len(top) :].partition("/")
    return component, bool(slash)


def _page(entries: list[str], names: set[str], prefix: str, limit: int, *, with_token: bool) -> Page:
    shown, truncated = entries[:limit], len(entries) > limit
    objects = [Found(entry, len(entry), "") for entry in shown if entry in names]
    prefixes = [entry for entry in shown if entry.endswith("/") and entry != prefix]
    token = f"t{shown[-1]}" if truncated and with_token else ""
    return Page(objects, prefixes, truncated, token)


async def listed(lister: Lister, prefix: str = "", start_after: str = "") -> list[tuple[str, EntryKind]]:
    return [(each.key, each.kind) async for each in lister.list(prefix, start_after)]


def expected(
    files: set[str], links: set[str], prefix: str = "", start_after: str = ""
) -> list[tuple[str, EntryKind]]:
    found = [(key, EntryKind.FILE) for key in files] + [(key, EntryKind.SYMLINK) for key in links]
    chosen = [
        (key, kind) for key, kind in found if key.startswith(prefix) and key.encode() > start_after.encode()
    ]
    return sorted(chosen, key=lambda each: each[0].encode())


@pytest.mark.parametrize("service", [ByBytes, ByDirectory])
@settings(max_examples=100, deadline=None)
@given(
    files=KEYS,
    links=KEYS,
    page_size=st.integers(1, 4),
    most_held=st.sampled_from([1, 2, 5000]),
    start=st.text(alphabet="ab-. r/~é", max_size=5),
    prefix=st.text(alphabet="ab-. r/~é", max_size=3),
)
@example({"photo.jpg", "photo/x", "photo-1"}, {"photo"}, 1, 1, "", "")
@example({"a-b/x", "a/x"}, set(), 1, 5000, "a-", "")
@example(set(), {" .~.", " ", " /a", " ."}, 1, 1, "", "")
def test_any_tree_is_listed_in_order(
    service: type[ByBytes] | type[ByDirectory],
    files: set[str],
    links: set[str],
    page_size: int,
    most_held: int,
    start: str,
    prefix: str,
) -> None:
    links -= files
    stored = {PREFIX + key for key in files} | {PREFIX + key + LINK_SUFFIX for key in links}
    strangers = {"backup.txt", "backup", "backups/x", PREFIX + ".filerbackup/a", PREFIX + ".filerbackup/b/c"}
    pages = service(stored | strangers)
    lister = Lister(
        pages,
        Names("/backup", S3_DIALECT, most_bytes=1024, markers=False),
        in_order=pages.in_order,
        links=bool(links),
        page_size=page_size,
    )
    before, listing.MOST_HELD = listing.MOST_HELD, most_held
    try:
        assert asyncio.run(listed(lister)) == expected(files, links)
        assert asyncio.run(listed(lister, prefix, start)) == expected(files, links, prefix, start)
        for key, _ in expected(files, links)[:5]:
            assert asyncio.run(listed(lister, "", key)) == expected(files, links, "", key)
    finally:
        listing.MOST_HELD = before


async def test_a_walk_that_starts_late_asks_for_little() -> None:
    files = {f"d{number:02d}/{file:02d}" for number in range(50) for file in range(50)}
    for service in (ByBytes, ByDirectory):
        pages = service({PREFIX + key for key in files})
        lister = Lister(
            pages,
            Names("backup", S3_DIALECT, most_bytes=1024, markers=False),
            in_order=pages.in_order,
            links=False,
            page_size=10,
        )
        assert len(await listed(lister, start_after="d48/40")) == 59
        assert pages.requests < 15


async def test_own_objects_are_stepped_over() -> None:
    own = {f"{PREFIX}.filerbackup/kept/{number:04d}" for number in range(500)}
    for service in (ByBytes, ByDirectory):
        pages = service(own | {PREFIX + "-a", PREFIX + "b"})
        lister = Lister(
            pages,
            Names("backup", S3_DIALECT, most_bytes=1024, markers=False),
            in_order=pages.in_order,
            links=False,
            page_size=10,
        )
        assert [key for key, _ in await listed(lister)] == ["-a", "b"]
        assert pages.requests < 6


async def test_a_file_beside_a_link_of_its_name_is_shown_once() -> None:
    for service in (ByBytes, ByDirectory):
        pages = service({"k", "k" + LINK_SUFFIX, "k-1"})
        lister = Lister(
            pages, Names("", S3_DIALECT, most_bytes=1024, markers=False), in_order=pages.in_order, links=True
        )
        assert await listed(lister) == [("k", EntryKind.FILE), ("k-1", EntryKind.FILE)]


async def test_directories_with_content_and_markers() -> None:
    async def pages(prefix: str, **_: object) -> Page:
        if prefix == "":
            return Page(
                [Found("d-1", 1, ""), Found("d/", 5, ""), Found("d/x", 1, ""), Found("e/", 0, "")],
                [],
                False,
                "",
            )
        raise AssertionError(prefix)

    lister = Lister(pages, Names("", S3_DIALECT, most_bytes=1024, markers=False), in_order=True, links=False)
    assert await listed(lister) == [
        ("d-1", EntryKind.FILE), ("d", EntryKind.DIRECTORY), ("d/x", EntryKind.FILE),
    ]  # fmt: skip


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_service_that_lists_out_of_order_is_noticed(in_order: bool) -> None:
    async def pages(_prefix: str, **_: object) -> Page:
        return Page([Found("b", 1, ""), Found("a", 1, "")], [], True, "")

    lister = Lister(
        pages, Names("", S3_DIALECT, most_bytes=1024, markers=False), in_order=in_order, links=False
    )
    with pytest.raises(SinkUnavailable, match=r"out of order|does not move on"):
        await listed(lister)


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_listing_that_goes_round_in_circles_ends(in_order: bool) -> None:
    async def pages(_prefix: str, **_: object) -> Page:
        return Page([Found("a", 1, "")], [], True, "")

    async def empty(_prefix: str, **_: object) -> Page:
        return Page([], [], True, "")

    for service in (pages, empty):
        lister = Lister(
            service, Names("", S3_DIALECT, most_bytes=1024, markers=False), in_order=in_order, links=False
        )
        with pytest.raises(SinkUnavailable):
            await listed(lister)
