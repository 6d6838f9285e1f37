"""What is known of the filer's log beside its events: how far back it reaches, and how its clock goes."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from filerbackup.errors import LogGap, SourceUnreachable
from filerbackup.events import Heartbeat, Upsert
from filerbackup.pipeline.hearing import Clock, Hearing
from filerbackup.pipeline.horizon import LOOK_EVERY_S, Horizon
from filerbackup.pipeline.replicator import Replicator
from filerbackup.pipeline.start import choose_start, require_log
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import Checkpoint, Phase
from tests.property.test_pipeline import TREES, World
from tests.support.model_filer import DAY_NS, ROOT, ModelFiler

HOUR_NS = 3_600_000_000_000
NOW_NS = 100 * DAY_NS


class Filer(ModelFiler):
    """With a log and a clock of our choice."""

    def __init__(self, oldest_ns: int | None, now_ns: int = NOW_NS) -> None:
        super().__init__(random.Random(1))
        self.oldest_ns, self.clock_ns, self.looks = oldest_ns, now_ns, 0

    async def oldest_log_ns(self) -> int | None:
        self.looks += 1
        return self.oldest_ns

    async def now_ns(self) -> int:
        return self.clock_ns


@pytest.mark.parametrize(
    ("offset_ns", "oldest_ns", "gap"),
    [
        (NOW_NS - DAY_NS, NOW_NS - 2 * DAY_NS, ""),
        (NOW_NS - 3 * DAY_NS, NOW_NS - 2 * DAY_NS, "and later"),
        (NOW_NS - 60_000_000_000, None, ""),
        (NOW_NS - HOUR_NS, None, "nothing and later"),
        (NOW_NS + 5_000_000_000, NOW_NS - DAY_NS, ""),
        (NOW_NS + HOUR_NS, NOW_NS - DAY_NS, "set back"),
    ],
)
async def test_what_is_a_gap(offset_ns: int, oldest_ns: int | None, gap: str) -> None:
    filer = Filer(oldest_ns)
    if not gap:
        await require_log(filer, offset_ns)
        return
    with pytest.raises(LogGap, match=gap):
        await require_log(filer, offset_ns)


async def test_a_gap_begins_with_a_snapshot_that_sweeps() -> None:
    world = World(random.Random(1), TREES, dated=False)
    filer = Filer(NOW_NS - DAY_NS)
    for offset_ns in (NOW_NS - 2 * DAY_NS, NOW_NS + DAY_NS):
        world.checkpoints.stored = Checkpoint(offset_ns)
        start = await choose_start(
            filer, world.checkpoints, wish="auto", adopt_weed=False, first_session=True, sink_is_new=False
        )
        assert (start.checkpoint.phase, start.checkpoint.sweep) == (Phase.SNAPSHOT, True)
        assert start.checkpoint.offset_ns < NOW_NS


def test_a_clock_that_was_set_back_is_noticed_until_it_has_caught_up() -> None:
    entry = ModelFiler(random.Random(1))
    entry.write(f"{ROOT}/f", b"1")
    hearing = Hearing(NOW_NS)
    hearing.hears(Upsert(NOW_NS, entry.tree[f"{ROOT}/f"]))
    clocks = []
    for now_ns in (NOW_NS + 1, NOW_NS - HOUR_NS, NOW_NS - 1, NOW_NS + 2, NOW_NS + 3):
        hearing.hears(Heartbeat(now_ns))
        clocks.append(hearing.clock)
    assert clocks == [Clock.RIGHT, Clock.SET_BACK, Clock.SET_BACK, Clock.CAUGHT_UP, Clock.RIGHT]


async def test_what_a_clock_that_was_set_back_hid_is_found() -> None:
    """Nothing of it is in the stream, ever: the comparison afterwards finds it."""
    world = World(random.Random(1), TREES, dated=False)
    for i in range(3):
        world.filer.write(f"{ROOT}/f{i}", b"1")
    await world.live(None)
    world.filer.write(f"{ROOT}/f0", b"2")
    last = world.filer.log[-1]
    world.filer.write(f"{ROOT}/hidden", b"3")
    world.filer.delete(f"{ROOT}/f1")
    del world.filer.log[world.filer.log.index(last) + 1 :]
    subscribe = world.filer.subscribe

    async def with_clock(since_ns: int, until_ns: int | None = None):  # type: ignore[no-untyped-def]
        async for batch in subscribe(since_ns, until_ns):
            yield batch
        yield [Heartbeat(last.ts_ns - HOUR_NS), Heartbeat(await world.filer.now_ns() + 1)]

    # The checkpoint does say too much until then.
    world.checkpoints.check = lambda _: None
    with patch.object(world.filer, "subscribe", with_clock):
        await world.live(None)
    world.check_equal()


async def test_a_part_that_one_filer_of_several_skipped_is_mended_by_a_comparison() -> None:
    """The stream goes on behind it as if nothing were missing."""
    world = World(random.Random(1), TREES, dated=False)
    for i in range(4):
        world.filer.write(f"{ROOT}/d/f{i}", b"1")
    await world.live(None)
    seen = len(world.filer.log)
    world.filer.write(f"{ROOT}/d/f0", b"2")
    world.filer.chmod(f"{ROOT}/d/f1", 0o600)
    world.filer.delete(f"{ROOT}/d/f2")
    world.filer.write(f"{ROOT}/e/new", b"3")
    skipped = len(world.filer.log)
    world.filer.write(f"{ROOT}/after", b"4")
    del world.filer.log[seen:skipped]
    world.checkpoints.check = lambda _: None
    await world.live(None)
    assert set(world.sink.objects) == {"d", "d/f0", "d/f1", "d/f2", "d/f3", "after"}
    await world.live(None, compare=True)
    world.check_equal()


async def test_the_offset_of_a_quiet_folder_does_not_grow_old() -> None:
    """Else it would fall off the log, and each restart would be a gap."""
    world = World(random.Random(1), TREES, dated=False)
    world.filer.write(f"{ROOT}/f", b"1")
    await world.live(None)
    before = world.checkpoints.stored
    assert before is not None

    async def quiet(since_ns: int, until_ns: int | None = None):  # type: ignore[no-untyped-def]
        yield [Heartbeat(before.offset_ns + 30 * DAY_NS)]

    with patch.object(world.filer, "subscribe", quiet):
        await world.live(None)
    after = world.checkpoints.stored
    assert after is not None
    assert before.offset_ns + 29 * DAY_NS < after.offset_ns < before.offset_ns + 30 * DAY_NS - HOUR_NS // 2


@pytest.mark.parametrize(
    ("kept", "left", "behind", "warns"),
    [
        (7 * 24, 20, True, True),
        (7 * 24, 20, False, False),
        (7 * 24, 30, True, False),
        (40, 9, True, True),
        (40, 11, True, False),
    ],
)
async def test_it_is_said_when_the_log_ends_soon(
    kept: int, left: int, behind: bool, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    filer = Filer(NOW_NS - kept * HOUR_NS)
    horizon = Horizon(filer, Watcher(logging.getLogger("filerbackup.test.horizon")))
    looked = [
        await horizon.look(filer.oldest_ns + left * HOUR_NS, behind=behind)  # type: ignore[operator]
        for _ in range(3)
    ]
    assert looked == [True, False, False]
    assert filer.looks == 1
    assert horizon.left_ns == left * HOUR_NS
    assert caplog.text.count("reaches only") == warns


async def test_the_horizon_is_looked_at_again_and_said_once() -> None:
    filer = Filer(NOW_NS - 100 * HOUR_NS)
    horizon = Horizon(filer, Watcher(logging.getLogger("filerbackup.test.horizon")))
    with patch("filerbackup.pipeline.horizon.time.monotonic") as clock:
        for minute in range(4):
            clock.return_value = 1000 + minute * LOOK_EVERY_S
            await horizon.look(NOW_NS - (99 + minute) * HOUR_NS, behind=True)
            assert horizon.left_ns == (1 - minute) * HOUR_NS
    assert filer.looks == 4


async def test_a_log_that_is_gone_is_asked_for_once_a_minute_and_an_outage_then_ends_nothing() -> None:
    """A start before the beginning of the log: what the horizon said stays below zero for a while."""
    filer = Filer(NOW_NS - DAY_NS)
    session = SimpleNamespace(follows=True, offset_ns=NOW_NS - 2 * DAY_NS, behind_since_ns=1)
    watcher = Watcher(logging.getLogger("filerbackup.test.horizon"))
    nothing: Any = None
    way: Any = SimpleNamespace(ends=SimpleNamespace(source=filer), watcher=watcher)
    replicator = Replicator(
        way, nothing, nothing, nothing, nothing,
        holder="", cluster="", filer_in_use=nothing, on_refused=nothing, register=nothing,
    )  # fmt: skip
    with patch.object(replicator, "_session", session):
        with pytest.raises(LogGap):
            await replicator._look_at_horizon()
        session.offset_ns = NOW_NS
        looks = filer.looks
        for _ in range(3):
            await replicator._look_at_horizon()
        assert filer.looks == looks

        session.offset_ns = NOW_NS - 2 * DAY_NS

        async def down_after_the_horizon() -> int | None:
            filer.looks += 1
            if filer.looks > looks + 1:
                raise SourceUnreachable("down")
            return filer.oldest_ns

        with (
            patch.object(filer, "oldest_log_ns", down_after_the_horizon),
            patch.object(replicator._horizon, "_looked_at", -LOOK_EVERY_S),
        ):
            await replicator._look_at_horizon()
        assert filer.looks == looks + 2
