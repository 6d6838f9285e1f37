"""Names: odd ones arrive as they are, bad ones are refused before anything happens."""

from __future__ import annotations

import unicodedata

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import ObjectRejected
from filerbackup.sinks.base import MARK_KEY, Sink
from tests.contract.contents import file_entry
from tests.contract.place import Harness, Place

ODD = [
    unicodedata.normalize("NFC", "é-nfc"),
    unicodedata.normalize("NFD", "é-nfd"),
    "\U0001f600-emoji",
    " leading space",
    "trailing space ",
    "#hash",
    "question?mark",
    "per%cent",
    "literal%20twenty",
    "am&persand",
    "plus+plus",
    "tilde~",
    "semi;colon",
    "equals=",
    "[brackets]",
    "{braces}",
    'double"quote',
    "single'quote",
    "back\\slash",
    "colon:star*pipe|less<more>",
    ".leading.dot",
    "..two.dots",
    "trailing.dot.",
    "-dash",
    "new\nline",
    "tab\tcarriage\r",
    "x" * 250,
    "日" * 83,
    ".filerbackupper",
]

BAD = [
    "",
    "/absolute",
    "trailing/",
    "two//slashes",
    ".",
    "..",
    "a/./b",
    "a/../b",
    "../outside",
    "a/..",
    "nul\0",
    "lone\ud800surrogate",
    ".filerbackup",
    ".filerbackup/sink.json",
    ".filerbackup/tmp/x",
    "d/.filerbackup-tmp-1",
]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
async def test_an_odd_name_arrives_as_it_is(sink: Sink, place: Place, harness: Harness, name: str) -> None:
    if set(name) & set(harness.garbles):
        pytest.skip("the test's server cannot take this name")
    keys = [name, f"{name}/{name}"] if sink.capabilities.directories else [f"dir/{name}"]
    for key in keys:
        entry = file_entry(key, 4)
        if harness.refuses(key):
            with pytest.raises(ObjectRejected):
                await sink.write(key, entry, InlineContent(b"data"))
            assert await place.keys() == set()
            continue
        await sink.write(key, entry, InlineContent(b"data"))

        assert await place.content(key) == b"data"
        assert key in await place.keys()
        assert key in [listed.key async for listed in sink.list()]
        assert b"".join([block async for block in sink.read(key)]) == b"data"
        await sink.delete(key)
        assert await place.content(key) is None


async def test_names_that_look_alike_are_different(sink: Sink, place: Place) -> None:
    alike = [unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "a b", "a%20b", "a+b"]
    for number, key in enumerate(alike):
        await sink.write(key, file_entry(key, 1), InlineContent(b"%d" % number))

    assert [await place.content(key) for key in alike] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("key", BAD, ids=range(len(BAD)))
async def test_a_bad_key_is_refused_everywhere(sink: Sink, place: Place, key: str) -> None:
    entry = file_entry("good", 4)
    await sink.write("good", entry, InlineContent(b"data"))

    with pytest.raises(ObjectRejected) as caught:
        await sink.write(key, entry, InlineContent(b"data"))
    assert "\n" not in str(caught.value)
    for call in (
        lambda: sink.delete(key),
        lambda: sink.delete_tree(key),
        lambda: sink.move("good", key, entry),
        lambda: sink.move(key, "good", entry),
        lambda: sink.stat(key),
    ):
        with pytest.raises(ObjectRejected):
            await call()
    with pytest.raises(ObjectRejected):
        await anext(sink.read(key))

    assert await place.keys() == {"good"}


async def test_a_name_that_is_too_long_is_refused(sink: Sink, place: Place, harness: Harness) -> None:
    if harness.name in ("memory",):
        pytest.skip("has no limit")
    key = "y" * 5000
    with pytest.raises(ObjectRejected):
        await sink.write(key, file_entry(key, 4), InlineContent(b"data"))

    assert await place.keys() == set()
    assert await place.unfinished() == set()


async def test_own_objects_are_kept_apart(sink: Sink, place: Place) -> None:
    assert await sink.read_own(MARK_KEY) is None

    await sink.write_own(MARK_KEY, b"{}")
    await sink.write_own(MARK_KEY, b'{"version": 1}')
    await sink.write_own(".filerbackup/deep/er/journal", b"x" * 100_000)

    assert await sink.read_own(MARK_KEY) == b'{"version": 1}'
    assert await sink.read_own(".filerbackup/deep/er/journal") == b"x" * 100_000
    assert await place.keys() == set()
    assert [listed async for listed in sink.list()] == []
    assert [listed async for listed in sink.list(".filerbackup/")] == []
    assert [listed async for listed in sink.list(".")] == []


@pytest.mark.parametrize("key", ["sink.json", "a/.filerbackup/x", ".filerbackup", ".filerbackup/../x", ""])
async def test_own_calls_reach_nothing_else(sink: Sink, place: Place, key: str) -> None:
    with pytest.raises(ObjectRejected):
        await sink.write_own(key, b"x")
    with pytest.raises(ObjectRejected):
        await sink.read_own(key)

    assert await place.keys() == set()
