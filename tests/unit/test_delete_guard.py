"""What the delete guard counts, remembers and decides, without a filer and a sink."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.events import Delete, Entry, EntryKind, Rename, Upsert
from filerbackup.pipeline.guard import LEAST_BY_SHARE, Guard
from filerbackup.pipeline.held import BATCH
from filerbackup.pipeline.layout import Mirror
from filerbackup.pipeline.planner import Move, Operation, Planner, Remove
from filerbackup.pipeline.removals import SPANS, Keys, Window
from filerbackup.pipeline.watcher import Watcher
from filerbackup.settings.model import DeleteGuard
from filerbackup.sinks.base import Capabilities
from filerbackup.state.base import Decision, DeleteWish
from tests.support.model_state import ModelHeld

TREES = Capabilities(directories=True, symlinks=True, move=True, move_tree=True, write_buffer_bytes=0)
PLANNER = Planner(Mirror(lambda path: path[3:]), TREES)

removals = st.lists(st.tuples(st.integers(1, 5 * SPANS), st.integers(1, 5), st.booleans()), max_size=60)


@given(removals)
def test_a_window_counts_what_is_in_it(steps: list[tuple[int, int, bool]]) -> None:
    """Against the slow way: all in the 600 spans that end with the one of the moment, in any order."""
    span_ns = 7
    window = Window(SPANS * span_ns)
    seen: list[tuple[int, int]] = []
    for ts_ns, count, compared in steps:
        seen.append((ts_ns * 3, count))
        span = ts_ns * 3 // span_ns
        wanted = sum(n for at, n in seen if span - SPANS < at // span_ns <= span)
        assert window.add(ts_ns * 3, count, compared=compared) == wanted
        assert window.at(ts_ns * 3) == wanted


@given(removals, st.integers(0, 5 * SPANS))
def test_a_window_is_saved_and_loaded(steps: list[tuple[int, int, bool]], until: int) -> None:
    window, other = Window(SPANS), Window(SPANS)
    for ts_ns, count, compared in sorted(steps):
        window.add(ts_ns, count, compared=compared)
    other.load(*window.saved(), window.counted_to_ns)
    assert [other.at(ts) for ts in range(0, 6 * SPANS, 97)] == [
        window.at(ts) for ts in range(0, 6 * SPANS, 97)
    ]
    window.forget_before(until)
    assert [other.at(ts) for ts in range(until, 6 * SPANS, 97)] == [
        window.at(ts) for ts in range(until, 6 * SPANS, 97)
    ]


def test_what_the_log_repeats_counts_once() -> None:
    window = Window(SPANS)
    assert [window.add(ts) for ts in (10, 10, 11)] == [1, 2, 3]
    window.read_again()
    assert [window.add(ts) for ts in (10, 10, 11, 12)] == [2, 2, 3, 4]


@given(st.lists(st.lists(st.sampled_from("ab/é-"), min_size=1).map("".join)), st.text("ab/é-", min_size=1))
def test_keys_know_what_is_below(keys: list[str], asked: str) -> None:
    keys = [key.strip("/") for key in keys if key.strip("/")]
    found = Keys()
    for at, key in enumerate(keys):
        assert found.add(key) is (key not in keys[:at])
    both = Keys()
    both.update(found)
    for those in (found, both):
        assert (asked in those) is (asked in keys)
        assert those.below(asked) is any(key.startswith(asked + "/") for key in keys)
        assert bool(those) is bool(keys)


def test_many_keys_are_small() -> None:
    keys = Keys()
    for i in range(200_000):
        keys.add(f"d{i % 100}/f{i}")
    assert all(f"d{i % 100}/f{i}" in keys for i in range(0, 200_000, 1000))
    assert "d1/f2" not in keys
    assert keys.below("d99") and not keys.below("d100")


def guard_of(store: ModelHeld, limit: int = 0, share: float = 0.0) -> Guard:
    limits = DeleteGuard(limit=limit, share=share, window_s=3600.0)
    logger = logging.getLogger("filerbackup.test.guard")
    return Guard(limits, store, Watcher(logger), directories=True)


def removal(key: str, ts_ns: int, *, directory: bool = False) -> Operation:
    kind = EntryKind.DIRECTORY if directory else EntryKind.FILE
    operation = PLANNER.plan(Delete(ts_ns, Entry(path="/w/" + key, kind=kind)))
    assert operation is not None
    return operation


def renaming(old: str, new: str, ts_ns: int) -> Move:
    entries = (Entry(path="/w/" + key, kind=EntryKind.DIRECTORY) for key in (old, new))
    operation = PLANNER.plan(Rename(ts_ns, *entries))
    assert isinstance(operation, Move)
    return operation


async def test_the_limit_is_what_may_go() -> None:
    store = ModelHeld()
    guard = guard_of(store, limit=5)
    assert [guard.lets(removal(f"f{i}", 100 + i)) for i in range(8)] == [True] * 5 + [False] * 3
    # A window later they are still held: only a person sets them free.
    assert not guard.lets(removal("later", 10**18))
    await guard.flush()
    assert store.keys == {"f5", "f6", "f7", "later"}
    assert (store.record.held, store.record.tripped_ns > 0) == (4, True)


async def test_few_deletes_within_each_window_never_add_up() -> None:
    guard = guard_of(ModelHeld(), limit=5)
    hour_ns = 3600 * 10**9
    assert all(guard.lets(removal(f"f{i}", i * hour_ns // 4)) for i in range(100))


@pytest.mark.parametrize(("tree", "limit"), [(10, LEAST_BY_SHARE), (5000, 500), (None, None)])
async def test_a_share_of_the_tree(tree: int | None, limit: int | None) -> None:
    guard = guard_of(ModelHeld(), share=0.1)
    assert guard.wants_tree
    if tree is not None:
        guard.tree_is(tree)
    assert guard.limit == limit
    assert guard.wants_tree is (tree is None)


def sees(guard: Guard, path: str, ts_ns: int, *, comes: bool) -> bool:
    """A file comes, or goes; whether the guard lets its removal through."""
    entry = Entry(path=f"/w/{path}", kind=EntryKind.FILE)
    guard.sees(Upsert(ts_ns, entry, is_new=True) if comes else Delete(ts_ns, entry))
    return comes or guard.lets(removal(path, ts_ns))


async def test_a_share_is_of_what_was_there_and_is_really_lost() -> None:
    guard = guard_of(ModelHeld(), share=0.5)
    guard.tree_is(1000)
    begun_ns = time.time_ns()
    # Five times the whole tree comes and goes: it never shrinks.
    for number in range(5000):
        at_ns = begun_ns + 2 * number
        assert sees(guard, f"spool{number}", at_ns, comes=True)
        assert sees(guard, f"spool{number}", at_ns + 1, comes=False)
    # It grows by half while it is emptied: the share is of the most that there was.
    for number in range(500):
        assert sees(guard, f"new{number}", begun_ns + 20_000 + number, comes=True)
    allowed = [sees(guard, f"f{number}", begun_ns + 30_000 + number, comes=False) for number in range(1000)]
    assert allowed == [True] * 750 + [False] * 250


async def test_what_the_log_repeats_does_not_shrink_the_tree_again() -> None:
    store = ModelHeld()
    guard = guard_of(store, share=0.5)
    guard.tree_is(1000)
    begun_ns = time.time_ns()
    assert all(sees(guard, f"f{number}", begun_ns + number, comes=False) for number in range(400))
    await guard.flush(now=True)
    again = guard_of(store, share=0.5)
    await again.load()
    again.read_again()
    assert all(sees(again, f"f{number}", begun_ns + number, comes=False) for number in range(500))
    assert not sees(again, "f500", begun_ns + 500, comes=False)


async def test_of_a_number_and_a_share_the_lower_one_counts() -> None:
    guard = guard_of(ModelHeld(), limit=300, share=0.5)
    guard.tree_is(1000)
    assert guard.limit == 300
    guard.tree_is(400)
    assert guard.limit == 200


async def test_a_restart_goes_on_counting_and_holding() -> None:
    store = ModelHeld()
    guard = guard_of(store, limit=5)
    assert all(guard.lets(removal(f"f{i}", 10 + i)) for i in range(3))
    await guard.flush(now=True)
    guard = guard_of(store, limit=5)
    await guard.load()
    # The log repeats the last one, and goes on.
    assert [guard.lets(removal(f"f{i}", 10 + i)) for i in range(2, 8)] == [True] * 3 + [False] * 3
    await guard.flush()
    guard = guard_of(store, limit=5)
    await guard.load()
    assert guard.holds
    assert guard.lets(removal("f4", 14)), "what went through goes through again"
    assert not guard.lets(removal("f7", 17)) and not guard.lets(removal("f9", 19))
    assert guard.deletes.record.held == 4


async def test_batches_without_a_record_hold_all_the_same() -> None:
    """A crash between the two."""
    store = ModelHeld()
    guard = guard_of(store, limit=1)
    for i in range(3):
        guard.lets(removal(f"f{i}", 10 + i))
    await guard.deletes.write()
    assert not store.record.tripped_ns
    guard = guard_of(store, limit=1)
    await guard.load()
    assert guard.holds and guard.deletes.record.held == 2


async def test_allowed_deletes_are_batches_to_refresh() -> None:
    store = ModelHeld()
    guard = guard_of(store, limit=1)
    for i in range(4):
        guard.lets(removal(f"f{i}", 10 + i))
    store.wished = DeleteWish(Decision.ALLOW, 7)
    assert await guard.decide()
    assert store.wished is None and not guard.holds and not guard.stands_below("")
    # Half done, then a crash.
    [number] = guard.deletes.to_carry_out()
    assert [delete.key for delete in await guard.deletes.begin(number)] == ["f1", "f2", "f3"]
    guard.deletes.finish_one(number)
    guard = guard_of(store, limit=1)
    await guard.load()
    [number] = guard.deletes.to_carry_out()
    for _ in await guard.deletes.begin(number):
        guard.deletes.finish_one(number)
    await guard.forget(guard.carried_out)
    await guard.flush()
    assert not store.stored and store.record.allowed == ()
    # Repeated, they pass; new ones count from nought.
    assert guard.lets(removal("f3", 13)) and guard.lets(removal("g0", 20))
    assert not guard.lets(removal("g1", 21))


async def test_a_wish_is_carried_out_once() -> None:
    """The record was stored, and forgetting the wish failed: it says nothing about later deletes."""
    store = ModelHeld()
    guard = guard_of(store, limit=1)
    for i in range(3):
        guard.lets(removal(f"f{i}", 10 + i))
    store.wished = wish = DeleteWish(Decision.ALLOW, 7)
    await guard.decide()
    store.wished = wish
    for i in range(3):
        guard.lets(removal(f"g{i}", 20 + i))
    await guard.decide()
    assert guard.holds and guard.deletes.record.held == 2
    store.wished = replace(wish, asked_ns=8)
    await guard.decide()
    assert not guard.holds


async def test_discarded_deletes_never_come_back() -> None:
    store = ModelHeld()
    guard = guard_of(store, limit=1)
    for i in range(3):
        guard.lets(removal(f"d/f{i}", 10 + i))
    store.wished = DeleteWish(Decision.DISCARD, 7)
    await guard.decide()
    for again in (guard, guard_of(store, limit=1)):
        await again.load()
        assert again.spares("d/f2") and not again.holds
        assert not again.lets(removal("d/f2", 12)), "a repeated part of the log"
        assert not again.admits(PLANNER.refresh(50, "d/f2", "/w/d/f2", guarded=True)), "a comparison"
    # It was written again and deleted again since then.
    assert again.lets(removal("d/f2", 60))
    # Its directory goes as far as it is empty.
    directory = removal("d", 61, directory=True)
    again.lets(directory)
    assert isinstance(directory, Remove) and not directory.tree
    move = renaming("d", "e", 62)
    assert again.lets(move) and not move.whole


async def test_a_dropped_bucket_counts_what_is_in_it() -> None:
    guard = guard_of(ModelHeld(), limit=10)
    bucket = removal("bucket", 10, directory=True)
    assert guard.lets(bucket) and isinstance(bucket, Remove) and bucket.guarded
    assert not guard.admits(bucket, 11)
    guard = guard_of(ModelHeld(), limit=10)
    file, directory = removal("d/f", 10), removal("d", 11, directory=True)
    assert guard.lets(file) and guard.lets(directory)
    assert isinstance(directory, Remove) and guard.admits(directory)


async def test_a_million_held_deletes_are_a_thousand_entries() -> None:
    store = ModelHeld()
    guard = guard_of(store, limit=1)
    for i in range(20 * BATCH + 2):
        guard.lets(removal(f"f{i}", 10 + i))
    await guard.flush()
    assert len(store.stored) <= 22 and store.puts <= 22
    # One by one they fill a batch before the next one is begun.
    for i in range(250):
        guard.lets(removal(f"g{i}", 10**6 + i))
        await guard.flush()
    assert len(store.stored) <= 25


async def test_long_names_make_short_batches() -> None:
    store = ModelHeld()
    guard = guard_of(store, limit=1)
    for i in range(901):
        guard.lets(removal(f"{i}/" + "n" * 1000, 10 + i))
    await guard.flush()
    assert sum(len(batch) for batch in store.stored.values()) == 900
    assert max(len(batch) for batch in store.stored.values()) < 150


async def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(ModelHeld(), limit=2)
    with caplog.at_level(logging.WARNING):
        for i in range(50):
            guard.lets(removal(f"f{i}", 10 + i))
    [record] = caplog.records
    assert "3 deletes within 3600 s, where 2 are allowed" in record.getMessage()


async def test_without_a_limit_nothing_is_counted() -> None:
    guard = guard_of(ModelHeld())
    assert all(guard.lets(removal(f"f{i}", 10)) for i in range(1000))
    assert not guard.has_news
