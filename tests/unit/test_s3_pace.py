"""The deadline of a put follows how fast others went, and gives way to a line that has become slow."""

from __future__ import annotations

import asyncio

import pytest

from filerbackup.sinks.s3 import pace
from filerbackup.sinks.s3.pace import Pace

MIB = 1 << 20


def test_on_a_quick_line_a_large_put_that_stands_still_is_soon_noticed() -> None:
    of = Pace()
    assert of.deadline_s(8 * MIB) > 500
    for _ in range(30):
        of.took(MIB, 0.05)
    assert of.deadline_s(8 * MIB) < 60


def test_one_slow_put_makes_patient_at_once() -> None:
    of = Pace()
    for _ in range(60):
        of.took(MIB, 0.05)
    of.took(MIB, 10.0)
    assert of.deadline_s(MIB) > 80


async def test_a_line_that_has_become_slow_gets_more_time_after_each_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "STALL_S", 0.01)
    of = Pace()
    for _ in range(200):
        of.took(MIB, 0.000_01)
    before = of.deadline_s(8 * MIB)
    with pytest.raises(TimeoutError):
        async with of.keeping(MIB):
            await asyncio.sleep(5)
    assert of.deadline_s(8 * MIB) > before
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with of.keeping(0):
                await asyncio.sleep(5)
    assert of.deadline_s(8 * MIB) > 500


async def test_small_puts_tell_nothing_of_the_line() -> None:
    of = Pace()
    for _ in range(100):
        async with of.keeping(1000):
            pass
    assert of.deadline_s(8 * MIB) > 500
