"""Identities and keys of what is kept on the filer, and what a failed read means."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence

import pytest

from filerbackup.errors import StateError
from filerbackup.filer.client import FilerAddress, FilerClient
from filerbackup.state.base import Checkpoint, Phase
from filerbackup.state.checkpoints import FilerCheckpoints
from filerbackup.state.kv import KeyValues
from filerbackup.state.pair import Pair, weed_checkpoint_keys


def test_different_places_have_different_keys() -> None:
    parts = ["", "/a", "a", "/a/", "b"]
    pairs = [Pair("/p", "s3", *rest) for rest in itertools.product(parts, repeat=3)]
    pairs += [Pair("/p2", "s3", "", "a", "b"), Pair("/p", "local", "", "a", "b")]
    assert len({pair.checkpoint_key for pair in pairs}) == len(pairs)
    assert len({pair.lock_name for pair in pairs}) == len(pairs)


def test_weeds_keys_in_both_forms() -> None:
    new, new_slash, old = weed_checkpoint_keys("/buckets", ("s3", "http://h:1", "bucket", "/dir"))
    assert new == b"backup." + hashlib.md5(b"/buckets\0s3\0http://h:1\0bucket\0/dir").digest()[4:8]
    assert new_slash == b"backup." + hashlib.md5(b"/buckets/\0s3\0http://h:1\0bucket\0/dir").digest()[4:8]
    assert old == b"backup." + hashlib.md5(b"s3/dir").digest()[4:8]


@pytest.mark.parametrize(
    ("identity", "place", "legacy"),
    [
        (("local", "/d"), b"local\0/d", b"local/d"),
        (("google_cloud_storage", "b", "d/"), b"google_cloud_storage\0b\0d/", b"google_cloud_storaged/"),
        (("azure", "a", "", "c", "/"), b"azure\0a\0\0c\0/", b"azure/"),
        (("backblaze", "b", ""), b"backblaze\0b\0", b"backblaze"),
        (("filer", "h:18888", "/d"), b"filer\0h:18888\0/d", b"filer/d"),
    ],
)
def test_weeds_keys_of_every_kind_of_sink(identity: tuple[str, ...], place: bytes, legacy: bytes) -> None:
    hashed = (b"/p\0" + place, b"/p/\0" + place, legacy)
    assert weed_checkpoint_keys("/p", identity) == tuple(
        b"backup." + hashlib.md5(text).digest()[4:8] for text in hashed
    )


class Values(KeyValues):
    """Key-value pairs of filers that do not agree."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.answers = list(answers)
        self.written: list[bytes] = []

    async def get_all(self, key: bytes) -> list[bytes]:
        return [answer for answer in self.answers if answer]

    async def put(self, key: bytes, value: bytes) -> None:
        self.written.append(value)


def record(offset_ns: int, updated_ns: int, **more: object) -> bytes:
    return json.dumps(
        {"version": 1, "offset_ns": offset_ns, "updated_ns": updated_ns, "phase": "follow", **more}
    ).encode()


PAIR = Pair("/p", "local", "", "", "/d")


async def test_the_newest_of_several_filers_counts() -> None:
    store = FilerCheckpoints(Values([record(5, 1), b"", record(9, 3), record(12, 2)]), PAIR)
    found = await store.load()
    assert found is not None and found.offset_ns == 9


async def test_what_is_saved_is_loaded() -> None:
    values = Values([])
    store = FilerCheckpoints(values, PAIR)
    assert await store.load() is None
    saved = Checkpoint(
        offset_ns=7, phase=Phase.SNAPSHOT, cursor="a/b\n", sweep=True, generation=3, holder="h"
    )
    await store.save(saved)
    values.answers = values.written
    assert await store.load() == saved


@pytest.mark.parametrize(
    "raw", [b"\x00" * 8, b"{", b"[]", b"{}", record(1, 1, version=2), record(1, 1, phase="x")]
)
async def test_a_checkpoint_that_cannot_be_read_is_never_none(raw: bytes) -> None:
    with pytest.raises(StateError) as raised:
        await FilerCheckpoints(Values([raw]), PAIR).load()
    assert raised.value.hint


async def test_a_filer_that_does_not_answer_is_never_none() -> None:
    client = FilerClient(["127.0.0.1:1"])
    try:
        with pytest.raises(StateError):
            await FilerCheckpoints(KeyValues(client), PAIR).load()
    finally:
        await client.close()


def test_addresses() -> None:
    assert FilerAddress.parse("h:8888") == FilerAddress("h:8888", "h:18888")
    assert FilerAddress.parse("h:8888.19999") == FilerAddress("h:8888", "h:19999")
    assert FilerAddress.parse("[::1]:8888") == FilerAddress("[::1]:8888", "[::1]:18888")
