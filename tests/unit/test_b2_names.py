"""Which names B2 takes, and that a listing that begins in the middle leaves nothing out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import ObjectRejected
from filerbackup.sinks.backblaze.names import can_exist, check_name, first_behind

characters = st.characters(exclude_categories=("Cs",), min_codepoint=32, exclude_characters="\x7f")
odd = st.text(st.sampled_from("ab/ ~\x00\x1f\x7f\x80é\uffff\U0010ffff"), max_size=6)


@pytest.mark.parametrize(
    "name", ["a", "a/b", " ", "a\\b", "ü" * 512, "x" * 1024, "a.", "\x80", "x/" + "y" * 900]
)
def test_names_that_b2_takes(name: str) -> None:
    assert can_exist(name)
    check_name(name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a\nb", "\x7f", "\x00", "ü" * 513, "x" * 1025])
def test_names_that_b2_does_not_take(name: str) -> None:
    assert not can_exist(name)
    with pytest.raises(ObjectRejected) as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(characters, min_size=1, max_size=6)), odd, odd)
def test_nothing_is_left_out(names: list[str], prefix: str, after: str) -> None:
    wanted = sorted(name for name in names if name.startswith(prefix) and name > after)
    start = first_behind(prefix, after)
    if start is None:
        assert wanted == []
        return
    assert start.startswith(prefix)
    listed = sorted(name for name in names if name.startswith(prefix) and name >= start)
    assert [name for name in listed if name > after] == wanted
    # Of what is listed in vain there is at most what begins like a name that cannot exist.
    assert all(name > after for name in listed) or not can_exist(f"x{after}x")


def test_what_is_behind() -> None:
    assert first_behind("a/", "") == "a/"
    assert first_behind("a/", "a") == "a/"
    assert first_behind("a/", "a/") == "a/ "
    assert first_behind("a/", "a/b") == "a/b "
    assert first_behind("a/", "a0") is None
    assert first_behind("", "") == ""
    assert first_behind("a/", "a/b\x01c") == "a/b "
    assert first_behind("a/", "a/b\x7fc") == "a/b\x80"
    assert first_behind("a\n", "") is None
