"""Which keys are refused, and in which order sinks list the others."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import ObjectRejected
from filerbackup.sinks.base import MARK_KEY
from filerbackup.sinks.keys import TEMPORARY_PREFIX, check_key, check_own_key, is_own, shown, sort_key

REFUSED = {
    "": "names nothing",
    "/": "empty component",
    "/a": "empty component",
    "a/": "empty component",
    "a//b": "empty component",
    ".": "component '.'",
    "..": "component '..'",
    "a/..": "component '..'",
    "./a": "component '.'",
    "a/../b": "component '..'",
    "a\0b": "NUL",
    "a/\ud83d/b": "lone surrogate",
    "\udcff": "lone surrogate",
    ".filerbackup": "filerbackup's own",
    ".filerbackup/tmp/1": "filerbackup's own",
    f"a/{TEMPORARY_PREFIX}0a": "unfinished",
}


@pytest.mark.parametrize(("key", "reason"), REFUSED.items(), ids=range(len(REFUSED)))
def test_a_bad_key_is_refused_with_one_printable_line(key: str, reason: str) -> None:
    with pytest.raises(ObjectRejected, match=reason) as caught:
        check_key(key)

    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a/b",
        "...",
        "a..b",
        ".a",
        "..a/b..",
        " ",
        "a\nb",
        "%00",
        "\\",
        ".filerbackupper",
        "d/.filerbackup",
    ],
)
def test_an_odd_key_is_taken(key: str) -> None:
    check_key(key)


def test_a_message_is_never_long() -> None:
    with pytest.raises(ObjectRejected) as caught:
        check_key("x" * 100_000 + "/")

    assert len(str(caught.value)) < 300


@given(st.text(st.characters(), max_size=40))
def test_what_is_taken_is_one_path_below_the_root(key: str) -> None:
    try:
        check_key(key)
    except ObjectRejected:
        return
    components = key.encode().split(b"/")
    assert all(component not in (b"", b".", b"..") for component in components)
    assert b"\0" not in key.encode()
    assert not is_own(key)


@given(st.text("ab./-", max_size=8))
def test_dots_and_slashes_are_judged_component_by_component(key: str) -> None:
    good = all(component not in ("", ".", "..") for component in key.split("/"))
    try:
        check_key(key)
    except ObjectRejected:
        assert not good
    else:
        assert good


@pytest.mark.parametrize("key", [MARK_KEY, ".filerbackup/journal/1", ".filerbackup/flushed.json"])
def test_own_keys(key: str) -> None:
    check_own_key(key)
    assert is_own(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        ".filerbackup",
        ".filerbackup/",
        ".filerbackup/../a",
        ".filerbackup/tmp",
        ".filerbackup/tmp/x",
        "x/.filerbackup/y",
    ],
)
def test_other_keys_are_not_own(key: str) -> None:
    with pytest.raises(ObjectRejected):
        check_own_key(key)


def test_a_directory_sorts_as_if_a_slash_stood_behind_it() -> None:
    in_order = [("B", False), ("a-b", False), ("a.b", False), ("a", True), ("a/b", False), ("ab", False)]

    shuffled = [in_order[number] for number in (3, 5, 1, 0, 4, 2)]
    assert sorted(shuffled, key=lambda each: sort_key(*each)) == in_order


_names = st.text(st.sampled_from("ab-./é\U0001f600\uffff"), min_size=1, max_size=3).filter(
    lambda name: "/" not in name and name not in (".", "..")
)


@given(st.lists(st.lists(_names, min_size=1, max_size=4), max_size=30))
def test_the_order_is_the_one_of_a_walk_that_sorts_each_directory(paths: list[list[str]]) -> None:
    files = {"/".join(path) for path in paths}
    directories = {"/".join(path[:depth]) for path in paths for depth in range(1, len(path))}
    files -= directories

    def walk(above: str) -> list[str]:
        names = {
            key.removeprefix(above).split("/")[0] for key in files | directories if key.startswith(above)
        }
        found = []
        keys = [(above + name, above + name in directories) for name in names]
        for key, is_directory in sorted(keys, key=lambda each: sort_key(*each)):
            found.append(key)
            if is_directory:
                found.extend(walk(key + "/"))
        return found

    everything = [*((key, False) for key in files), *((key, True) for key in directories)]
    assert walk("") == [key for key, _ in sorted(everything, key=lambda each: sort_key(*each))]


def test_the_order_is_that_of_utf_8_and_not_of_utf_16() -> None:
    keys = ["\uffff", "\U0001f600", "é", "z"]

    assert sorted(keys, key=lambda key: sort_key(key, False)) == ["z", "é", "\uffff", "\U0001f600"]


def test_keys_in_messages_are_readable() -> None:
    assert shown("plain/é") == "'plain/é'"
    assert shown("a\nb\x1b") == "'a\\nb\\x1b'"
    assert shown("\ud800") == "'\\ud800'"
    for first, second in itertools.pairwise(["a b", "a\tb", "a\\tb"]):
        assert shown(first) != shown(second)
