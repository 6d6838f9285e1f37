"""Identities and keys of what is kept on the filer, and what a failed read means."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence

import pytest

from filerbackup.errors import LeaseLost, StateError
from filerbackup.filer.client import FilerAddress, FilerClient
from filerbackup.state.base import Checkpoint, Phase
from filerbackup.state.checkpoints import FilerCheckpoints
from filerbackup.state.kv import Answers, KeyValues
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
    """Key-value pairs of filers that do not agree: `answers` to every key, beside what was written."""

    def __init__(self, answers: Sequence[bytes] = ()) -> None:
        self.answers = list(answers)
        self.pairs: dict[bytes, bytes] = {}

    async def get_all(self, key: bytes) -> Answers:
        return Answers((*self.answers, self.pairs.get(key, b"")))

    async def put(self, key: bytes, value: bytes) -> None:
        self.pairs[key] = value


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
    values = Values()
    store = FilerCheckpoints(values, PAIR)
    assert await store.load() is None
    saved = Checkpoint(
        offset_ns=7, phase=Phase.SNAPSHOT, cursor="a/b\n", sweep=True, generation=3, holder="h"
    )
    await store.save(saved)
    assert await store.load() == saved


async def test_each_holder_has_a_place_of_its_own() -> None:
    values = Values()
    first, second, reader = (FilerCheckpoints(values, PAIR) for _ in range(3))
    await first.take_over("first")
    assert await first.load() is None
    await first.save(Checkpoint(100, updated_ns=1))
    held_back = dict(values.pairs)
    await first.save(Checkpoint(50, updated_ns=2))
    await second.take_over("second")
    loaded = await second.load()
    assert loaded is not None and loaded.offset_ns == 50
    for call in (first.save(Checkpoint(200, updated_ns=3)), first.confirm()):
        with pytest.raises(LeaseLost, match="second"):
            await call
    await second.save(Checkpoint(60, updated_ns=4))
    # What the first one had sent arrives now.
    values.pairs |= {key: raw for key, raw in held_back.items() if key != PAIR.checkpoint_key}
    loaded = await reader.load()
    assert loaded is not None and loaded.offset_ns == 60
    await second.confirm()


async def test_a_hand_that_sets_or_resets_ends_the_term() -> None:
    values = Values([record(7, 1)])
    holder, hand = FilerCheckpoints(values, PAIR), FilerCheckpoints(values, PAIR)
    await holder.take_over("holder")
    loaded = await holder.load()
    assert loaded is not None and loaded.offset_ns == 7
    await hand.save(Checkpoint(3, updated_ns=9))
    loaded = await hand.load()
    assert loaded is not None and loaded.offset_ns == 3
    with pytest.raises(LeaseLost):
        await holder.save(Checkpoint(8, updated_ns=10))
    await hand.delete()
    assert await hand.load() is None
    # A filer that was away brings back an older record: it counts for nothing.
    assert await FilerCheckpoints(values, PAIR).load() is None


async def test_a_filer_that_forgot_who_has_the_term_is_told_again() -> None:
    values = Values()
    holder = FilerCheckpoints(values, PAIR)
    await holder.take_over("holder")
    values.pairs.clear()
    await holder.save(Checkpoint(8, updated_ns=10))
    loaded = await FilerCheckpoints(values, PAIR).load()
    assert loaded is not None and loaded.offset_ns == 8


@pytest.mark.parametrize("raw", [b"{", record(1, 1, term=-1, phase="x")])
async def test_what_cannot_be_read_can_be_reset(raw: bytes) -> None:
    values = Values()
    values.pairs[PAIR.checkpoint_key] = raw
    await FilerCheckpoints(values, PAIR).delete()
    assert await FilerCheckpoints(values, PAIR).load() is None


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
