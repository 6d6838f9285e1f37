"""Buckets with versions: what is current, in which order it comes, and what events make of it."""

from __future__ import annotations

import stat
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import filerbackup.filer.walk
from filerbackup.errors import SourceUnreachable
from filerbackup.events import Change, Delete, Entry, EntryKind, Marker, Rename, Upsert
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.pipeline.snapshot import sort_key
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.versioned_listing import open_prefixes
from filerbackup.source.versions import VersionedEvents, Versions
from filerbackup.source.walk import TreeWalk
from tests.support.versioned_tree import BUCKET, VersionedTree

NAMES = ("a", "a-", "a-b", "a.", "a.v", "a.versions", "a.w", "a!", "a0", "b", "é", "é-", "é-é", "z")
STATES = ("current", "two", "marker", "null", "null-over", "plain", "pointerless", "null-marked", "null-bare")
FILES = ("null", "null-over", "plain", "null-marked", "null-bare")
"""States in which there is a file under the own name, which cannot be above other keys."""
keys = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
histories = st.dictionaries(keys, st.sampled_from(STATES), max_size=14)


def everything(_: Entry) -> bool:
    return True


def build(history: dict[str, str]) -> tuple[VersionedTree, dict[str, str]]:
    """The tree, and what should be seen of it: kind and content by key."""
    tree = VersionedTree()
    seen: dict[str, str] = {}
    for key, state in history.items():
        below = any(other.startswith(key + "/") for other in history)
        versions_of_another = any(f"{other}.versions/" in f"{key}/" for other in history if other != key)
        if versions_of_another or (below and state in FILES):
            continue
        data = key.encode() + b" " + state.encode()
        match state:
            case "current":
                tree.put(key, data)
            case "two":
                tree.put(key, b"old")
                tree.put(key, data)
            case "marker":
                tree.put(key, b"old")
                tree.put_marker(key)
            case "null":
                tree.put_null(key, data)
            case "null-over":
                tree.put(key, b"old")
                tree.put_null(key, data)
            case "plain":
                tree.make_file(f"{BUCKET}/{key}", data)
            case "pointerless":
                tree.put(key, b"old")
                tree.put(key, data)
                tree.entries[f"{BUCKET}/{key}.versions"].extended.clear()
            case "null-marked":
                tree.make_file(f"{BUCKET}/{key}", b"from before versioning")
                tree.put_marker(key)
            case "null-bare":
                tree.put(key, b"old")
                tree.put_null(key, data)
                tree.entries[f"{BUCKET}/{key}.versions"].extended.clear()
        if "mark" not in state:
            seen[key] = "file " + data.decode()
    for path, entry in tree.entries.items():
        key = path[len(BUCKET) + 1 :]
        is_empty_shell = key.endswith(".versions") and all(
            other.rpartition("/")[2].startswith("v_")
            for other in tree.entries
            if other.startswith(path + "/")
        )
        if entry.is_directory and key and path.startswith(BUCKET + "/") and not is_empty_shell:
            body = seen.get(key, "")
            seen[key] = "directory" + (" " + body.removeprefix("file ") if body else "")
    return tree, seen


def described(entry: Entry) -> str:
    body = entry.content.decode()
    return f"{entry.kind.value} {body}" if body or not entry.is_directory else entry.kind.value


async def walked(tree: VersionedTree, after: str = "") -> list[tuple[str, str]]:
    walk = TreeWalk(cast("Any", tree), BUCKET, everything, Versions(tree, "/buckets"))
    return [(entry.path[len(BUCKET) + 1 :], described(entry)) async for entry in walk.entries(after)]


def in_order(seen: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(seen.items(), key=lambda item: sort_key(item[0], item[1].startswith("directory")))


@given(history=histories, page=st.integers(1, 6), place=st.integers(0, 30))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_a_walk_shows_what_is_current_in_the_order_of_keys(
    history: dict[str, str], page: int, place: int
) -> None:
    tree, seen = build(history)
    expected = in_order(seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filerbackup.filer.walk, "PAGE", page)
        assert await walked(tree) == expected
        for key, what in expected[place : place + 1]:
            cursor = key + "/" if what.startswith("directory") else key
            behind = [item for item in expected if place_of(item) > cursor.encode()]
            assert await walked(tree, cursor) == behind
    for key, what in expected:
        found = await Versions(tree, "/buckets").find(f"{BUCKET}/{key}")
        assert found is not None and described(found) == what


def place_of(item: tuple[str, str]) -> bytes:
    return sort_key(item[0], item[1].startswith("directory"))


async def test_names_of_many_pages_are_held_back_by_look_ups_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = VersionedTree()
    tree.put("a", b"first")
    for number in range(500):
        tree.put(f"a-{number:03}", b"x")
    monkeypatch.setattr(filerbackup.filer.walk, "PAGE", 10)
    found = [key for key, _ in await walked(tree)]
    assert found == ["a", *(f"a-{number:03}" for number in range(500))]
    # Each version is looked up once, and what lies ahead a few times a page.
    assert tree.asked < 500 + 51 * 4


def test_prefixes_that_may_come_later() -> None:
    assert open_prefixes("IMG-0001.jpg.versions") == ["IMG", "IMG-0001", "IMG-0001.jpg.versions"]
    assert open_prefixes("a.zip") == ["a.zip"]
    assert open_prefixes("é-é") == ["é", "é-é"]


# -- looking up -------------------------------------------------------------------------------------


async def test_what_a_version_says_is_kept_under_the_own_name() -> None:
    tree = VersionedTree()
    name = tree.put("d/o", b"data")
    tree.entries[f"{BUCKET}/d/o.versions/{name}"].extended["X-Amz-Meta-K"] = b"v"
    found = await Versions(tree, "/buckets").find(f"{BUCKET}/d/o")
    assert found is not None
    assert (found.path, found.content, found.extended["X-Amz-Meta-K"]) == (f"{BUCKET}/d/o", b"data", b"v")
    assert found.mtime_ns > 0


@pytest.mark.parametrize("hidden", ["o.versions", "o.versions/v_1", "gone", "d/.versions"])
async def test_versions_themselves_are_not_there(hidden: str) -> None:
    tree = VersionedTree()
    name = tree.put("o", b"data")
    tree.make_directory(f"{BUCKET}/d/.versions")
    path = f"{BUCKET}/{hidden.replace('v_1', name)}"
    assert await Versions(tree, "/buckets").find(path) is None


async def test_a_pointer_to_what_is_gone_means_the_newest_that_is_left() -> None:
    tree = VersionedTree()
    tree.put("o", b"first")
    tree.put("o", b"second")
    gone = tree.put("o", b"third")
    del tree.entries[f"{BUCKET}/o.versions/{gone}"]
    found = await Versions(tree, "/buckets").find(f"{BUCKET}/o")
    assert found is not None and found.content == b"second"
    tree.make_file(f"{BUCKET}/o.versions/sub/x", b"not one of these")
    tree.entries[f"{BUCKET}/o.versions"].extended["Seaweed-X-Amz-Latest-Version-File-Name"] = b"sub/x"
    found = await Versions(tree, "/buckets").find(f"{BUCKET}/o")
    assert found is not None and found.content == b"second"


async def test_an_object_beside_a_directory_of_its_name_is_its_body() -> None:
    tree = VersionedTree()
    tree.put("d/x", b"x")
    tree.put("d", b"body")
    found = await Versions(tree, "/buckets").find(f"{BUCKET}/d")
    assert found is not None
    assert found.kind is EntryKind.DIRECTORY and found.content == b"body" and stat.S_ISDIR(found.mode)


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("/buckets/b/o", True),
        ("/buckets/b", False),
        ("/buckets/b/.uploads/1", False),
        ("/buckets/plain/o", False),
        ("/elsewhere/b/o", False),
        ("/buckets/gone/o", None),
    ],
)
async def test_which_paths_are_covered(path: str, covered: bool | None) -> None:
    tree = VersionedTree()
    tree.make_directory("/buckets/plain")
    assert await Versions(tree, "/buckets").covers(path) is covered


async def test_a_bucket_is_asked_about_once_in_a_while() -> None:
    tree = VersionedTree()
    tree.make_directory("/buckets/plain")
    versions = Versions(tree, "/buckets")
    for _ in range(50):
        assert await versions.covers("/buckets/plain/o") is False
    assert tree.asked == 1
    tree.entries["/buckets/plain"].extended["Seaweed-X-Amz-Versioning"] = b"Enabled"
    assert await versions.covers("/buckets/plain/o", fresh=True) is True


# -- events -----------------------------------------------------------------------------------------


def entry(tree: VersionedTree, path: str) -> Entry:
    return entry_from_pb(path.rpartition("/")[0], tree.entries[path])


async def told(events: VersionedEvents, *changes: Change) -> list[str]:
    return [said(event) for event in await events.translate(changes)]


def said(event: object) -> str:
    match event:
        case Upsert(entry=entry, same_content=same):
            return f"{entry.path} = {entry.content.decode() or entry.kind.value}" + (
                " (same)" if same else ""
            )
        case Delete(entry=entry):
            return f"{entry.path} gone"
        case Marker():
            return "-"
        case _:
            return repr(event)


async def test_one_put_is_told_once() -> None:
    tree = VersionedTree()
    events = Versions(tree, "/buckets").view()
    name = tree.put("o", b"data")
    bare = Entry(path=f"{BUCKET}/o.versions", kind=EntryKind.DIRECTORY)
    version = Upsert(2, entry(tree, f"{BUCKET}/o.versions/{name}"))
    pointer = Upsert(3, entry(tree, f"{BUCKET}/o.versions"))
    assert await told(events, Upsert(1, bare), version) == [f"{BUCKET}/o = data", "-"]
    assert await told(events, pointer) == ["-"]


async def test_new_tags_of_the_current_version_alone_are_a_change() -> None:
    tree = VersionedTree()
    old, new = tree.put("o", b"1"), tree.put("o", b"2")
    events = Versions(tree, "/buckets").view()
    assert await told(events, Upsert(1, entry(tree, f"{BUCKET}/o.versions/{old}"), same_content=True)) == [
        "-"
    ]
    tagged = tree.entries[f"{BUCKET}/o.versions/{new}"]
    tagged.extended["X-Amz-Tagging-a"] = b"b"
    event = Upsert(2, entry(tree, f"{BUCKET}/o.versions/{new}"), same_content=True)
    assert await told(events, event) == [f"{BUCKET}/o = 2 (same)"]


async def test_a_delete_marker_is_a_delete_and_its_removal_brings_the_object_back() -> None:
    tree = VersionedTree()
    name = tree.put("o", b"1")
    events = Versions(tree, "/buckets").view()
    pointer = f"{BUCKET}/o.versions"
    assert await told(events, Upsert(1, entry(tree, pointer))) == [f"{BUCKET}/o = 1"]
    tree.put_marker("o")
    assert await told(events, Upsert(2, entry(tree, pointer))) == [f"{BUCKET}/o gone"]
    tree.entries[pointer].extended["Seaweed-X-Amz-Latest-Version-File-Name"] = name.encode()
    assert await told(events, Upsert(3, entry(tree, pointer))) == [f"{BUCKET}/o = 1"]


async def test_removing_a_null_version_that_is_not_current_changes_nothing() -> None:
    tree = VersionedTree()
    tree.make_file(f"{BUCKET}/o", b"before versions")
    old = entry(tree, f"{BUCKET}/o")
    tree.put("o", b"now")
    del tree.entries[f"{BUCKET}/o"]
    events = Versions(tree, "/buckets").view()
    assert await told(events, Delete(1, old)) == [f"{BUCKET}/o = now"]


async def test_what_a_directory_took_with_it_is_told_again() -> None:
    """The log may tell of an object, the end of its bucket, and the object again; live is the last state."""
    tree = VersionedTree()
    tree.put("o", b"1")
    pointer = Upsert(1, entry(tree, f"{BUCKET}/o.versions"))
    events = Versions(tree, "/buckets").view()
    assert await told(events, pointer) == [f"{BUCKET}/o = 1"]
    bucket = Entry(path=BUCKET, kind=EntryKind.DIRECTORY)
    assert await told(events, Delete(2, bucket), pointer) == [f"{BUCKET} gone", f"{BUCKET}/o = 1"]


async def test_a_namesake_outside_such_buckets_is_an_ordinary_directory() -> None:
    tree = VersionedTree()
    tree.make_file("/buckets/plain/x.versions/v_1", b"1", {"Seaweed-X-Amz-Version-Id": b"1"})
    events = Versions(tree, "/buckets").view()
    batch = [
        Upsert(1, entry(tree, "/buckets/plain/x.versions")),
        Delete(2, entry(tree, "/buckets/plain/x.versions/v_1")),
        Upsert(3, Entry(path="/elsewhere/y.versions", kind=EntryKind.DIRECTORY)),
        Marker(4),
    ]
    assert await events.translate(batch) == batch


async def test_moves_in_and_out_of_such_a_bucket() -> None:
    tree = VersionedTree()
    tree.make_file("/plain/x.versions/f", b"1")
    tree.put("o", b"2")
    outside, inside = entry(tree, "/plain/x.versions"), entry(tree, f"{BUCKET}/o.versions")
    gone = Entry(path="/plain/y", kind=EntryKind.DIRECTORY)
    events = Versions(tree, "/buckets").view()
    assert await told(events, Rename(1, inside, outside)) == [
        f"{BUCKET}/o = 2",
        "/plain/x.versions = directory",
    ]
    assert await told(events, Rename(2, gone, inside)) == ["/plain/y gone", f"{BUCKET}/o = 2"]


async def test_of_a_bucket_that_is_gone_no_version_becomes_content() -> None:
    tree = VersionedTree()
    name = tree.put("o", b"1")
    version, pointer = entry(tree, f"{BUCKET}/o.versions/{name}"), entry(tree, f"{BUCKET}/o.versions")
    tree.entries.clear()
    events = Versions(tree, "/buckets").view()
    changes = [Upsert(1, pointer), Upsert(2, version), Delete(3, version), Delete(4, pointer)]
    assert await told(events, *changes) == [f"{BUCKET}/o gone", "-", "-", "-"]


async def test_a_prefix_that_is_called_like_versions_is_kept() -> None:
    tree = VersionedTree()
    tree.put("app.versions/1.0", b"release")
    events = Versions(tree, "/buckets").view()
    above = entry(tree, f"{BUCKET}/app.versions")
    pointer = entry(tree, f"{BUCKET}/app.versions/1.0.versions")
    assert await told(events, Upsert(1, above), Upsert(2, pointer)) == [
        f"{BUCKET}/app.versions = directory", f"{BUCKET}/app.versions/1.0 = release",
    ]  # fmt: skip
    assert await walked(tree) == [("app.versions", "directory"), ("app.versions/1.0", "file release")]


async def test_a_bucket_that_came_to_have_versions_is_noticed_at_the_first() -> None:
    """In the middle of a batch, though a moment ago it had none."""
    tree = VersionedTree()
    tree.make_file(f"{BUCKET}/o", b"before versions")
    old = entry(tree, f"{BUCKET}/o")
    del tree.entries[BUCKET].extended["Seaweed-X-Amz-Versioning"]
    events = Versions(tree, "/buckets").view()
    assert await told(events, Upsert(1, old)) == [f"{BUCKET}/o = before versions"]
    tree.entries[BUCKET].extended["Seaweed-X-Amz-Versioning"] = b"Enabled"
    tree.put("o", b"now")
    del tree.entries[f"{BUCKET}/o"]
    pointer = Upsert(2, entry(tree, f"{BUCKET}/o.versions"))
    assert await told(events, pointer, Delete(3, old)) == [f"{BUCKET}/o = now", "-"]


async def test_the_beginning_of_a_put_deletes_nothing() -> None:
    tree = VersionedTree()
    events = Versions(tree, "/buckets").view()
    tree.make_directory(f"{BUCKET}/o.versions")
    bare = Upsert(1, entry(tree, f"{BUCKET}/o.versions"))
    assert await told(events, bare) == ["-"]
    tree.put("o", b"1")
    assert await told(events, Upsert(2, entry(tree, f"{BUCKET}/o.versions"))) == [f"{BUCKET}/o = 1"]
    for path in [path for path in tree.entries if "/v_" in path]:
        del tree.entries[path]
    assert await told(events, bare) == [f"{BUCKET}/o gone"]


async def test_a_filer_that_is_down_is_told_as_such() -> None:
    """And not in an exception group, which nobody who asks expects."""

    class Down(VersionedTree):
        async def lookup(self, directory: str, name: str) -> pb.Entry | None:
            if directory.startswith(BUCKET):
                raise SourceUnreachable("down")
            return await super().lookup(directory, name)

    tree = Down()
    tree.put("a", b"1")
    versions = Versions(tree, BUCKET.rpartition("/")[0])
    with pytest.raises(SourceUnreachable):
        await versions.find(f"{BUCKET}/a")
    with pytest.raises(SourceUnreachable):
        await versions.find_all([f"{BUCKET}/a", f"{BUCKET}/b"])
