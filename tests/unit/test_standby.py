"""Who takes the lease waits until nobody else can still think that it has it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from filerbackup.errors import LeaseLost, SourceUnreachable, StateError
from filerbackup.pipeline import replicator
from filerbackup.pipeline.fence import Fence
from filerbackup.pipeline.replicator import Replicator, Wishes
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import Checkpoint, Status

LASTS_S = 0.3


class Lease:
    """Free after so many asks."""

    def __init__(self, asks: int = 0) -> None:
        self.steps: list[str] = []
        self.asks, self.renewals, self.restarts, self.generation = asks, 0, 0, 1
        self.lasts_s = self.left_s = LASTS_S
        self.on_renewal: Callable[[], None] = lambda: None

    async def acquire(self) -> str | None:
        self.asks -= 1
        return "another" if self.asks >= 0 else None

    async def renew(self) -> None:
        self.renewals += 1
        self.on_renewal()

    async def release(self) -> None:
        self.steps.append("released")


class Boot:
    name = "this"

    async def ask(self) -> str:
        return self.name


class Sink:
    """As much of it as is there when no session has begun."""

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._steps.append("closed")


class Statuses:
    def __init__(self, status: Status | None) -> None:
        self.status = status
        self.saved: list[Status] = []

    async def save(self, status: Status) -> None:
        self.saved.append(status)

    async def load(self) -> Status | None:
        return self.status


def said(state: str, *, holder: str, age_s: int) -> Status:
    return Status(state=state, updated_ns=time.time_ns() - age_s * 1_000_000_000, holder=holder)


def make(lease: Lease, status: Status | None, **way: Any) -> Replicator:
    logger = logging.getLogger("filerbackup.test.standby")
    ends = SimpleNamespace(source=None, sink=Sink(lease.steps))
    wishes = Wishes(
        one_shot=False, start="auto", adopt_weed_checkpoint=False, claim=False, dry_run=False,
        grace_s=1, reconcile_every_s=0,
    )  # fmt: skip
    stub: Any = SimpleNamespace(
        ends=ends, watcher=Watcher(logger), fence=Fence(lambda: lease.left_s), boot=Boot(), **way
    )
    nothing: Any = None
    return Replicator(
        stub, way.get("checkpoints", nothing), lease, Statuses(status), wishes,  # type: ignore[arg-type]
        holder="ours", cluster="", filer_in_use=nothing, on_refused=nothing, register=nothing,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asks", "state", "holder", "age_s", "boot", "waits"),
    [
        (0, "", "", 0, "", False),
        (0, "following", "another", 1, "", True),
        (0, "source-error", "another", 1, "", True),
        (0, "stopped", "another", 1, "", False),
        (0, "standby", "another", 1, "", False),
        (0, "following", "another", 60, "", False),
        (0, "following", "ours", 1, "", False),
        (2, "following", "another", 1, "this", False),
        (2, "following", "another", 1, "", True),
        (2, "following", "another", 1, "other", True),
        (2, "stopped", "another", 1, "other", False),
    ],
)
async def test_a_lease_that_was_free_may_still_be_believed_in(
    asks: int, state: str, holder: str, age_s: int, boot: str, waits: bool
) -> None:
    """Only a filer that was restarted gives away what somebody has, and then it has another name."""
    lease = Lease(asks)
    status = said(state, holder=holder, age_s=age_s) if state else None

    async def load() -> Checkpoint:
        return Checkpoint(1, boot=boot)

    stored = SimpleNamespace(load=load)
    with patch.object(replicator, "ASK_AGAIN_S", 0.01), patch.object(replicator, "RENEW_EVERY_S", 0.1):
        began = time.monotonic()
        assert await make(lease, status, checkpoints=stored)._take_lease(asyncio.Event())
    assert (lease.renewals >= 2) == waits
    if waits:
        assert time.monotonic() - began >= LASTS_S


async def test_a_slow_answer_about_the_other_one_does_not_cost_the_lease() -> None:
    """Nobody renews while the status is read, and a filer with a fault may let that take long."""
    lease, steps = Lease(), []
    lease.on_renewal = lambda: steps.append("renewed")

    class Slow(Statuses):
        async def load(self) -> Status | None:
            steps.append("read")
            return self.status

    replicator_ = make(lease, None)
    with patch.object(replicator_, "_status", Slow(None)):
        assert await replicator_._take_lease(asyncio.Event())
    assert steps == ["read", "renewed"]


async def test_who_never_had_the_lease_leaves_the_holders_word_alone() -> None:
    """It is what a standby relies on when the filer gives the lease away too early."""
    lease, stop = Lease(), asyncio.Event()
    asked = 0

    async def acquire() -> str | None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StateError("no lock server found")
        stop.set()
        return "another"

    async def load() -> None:
        return None

    lease.acquire = acquire  # type: ignore[method-assign]
    replicator = make(
        lease, said("following", holder="another", age_s=1), checkpoints=SimpleNamespace(load=load)
    )
    await replicator.run(stop)
    assert asked == 2
    assert replicator._status.saved == []  # type: ignore[attr-defined]


async def test_a_lease_that_ran_out_meanwhile_is_not_renewed() -> None:
    """Another one may have had it and have given it back."""
    lease = Lease()
    lease.left_s = -1.0
    with pytest.raises(LeaseLost):
        await make(lease, None)._keep_lease()
    assert lease.renewals == 0


async def test_a_lease_that_the_filer_forgot_is_only_kept_when_nobody_had_it() -> None:
    lease = Lease()
    lease.left_s = 0.1

    class Checkpoints:
        async def confirm(self) -> None:
            raise LeaseLost("another has taken over")

    def forgot() -> None:
        lease.restarts += 1

    lease.on_renewal = forgot
    with pytest.raises(LeaseLost, match="taken over"):
        await make(lease, None, checkpoints=Checkpoints())._keep_lease()


async def test_the_sink_is_closed_before_the_lease_goes_to_another() -> None:
    """A request that is still on its way would come after what the next one writes."""
    lease, stop = Lease(), asyncio.Event()

    async def no_cluster() -> None:
        stop.set()
        raise SourceUnreachable("gone")

    async def load() -> None:
        return None

    way = {"require_cluster": no_cluster, "checkpoints": SimpleNamespace(load=load)}
    await make(lease, None, **way).run(stop)
    assert lease.steps == ["closed", "released"]
