"""The short version of `make chaos`: the same run with fewer minutes, under a load that others can bear.

The seed is printed with a failure; set FILERBACKUP_SEED to repeat one.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.chaos.run import Plan, run


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(400)
def test_ninety_seconds_of_trouble(tmp_path: Path) -> None:
    """Write load and random faults; afterwards both sides are equal and no promise was broken."""
    seed = int(os.environ.get("FILERBACKUP_SEED", time.time_ns() % 1_000_000))
    plan = Plan(seed, 60.0, per_s=10.0, bytes_per_s=600_000.0)
    outcome = run(plan, tmp_path, quiet=True)
    assert not outcome.broken, f"seed {seed}, {outcome.faults}:\n" + "\n".join(outcome.broken)
    assert sum(outcome.operations.values()) > 50
    assert sum(outcome.faults.values()) > 2
    shutil.rmtree(tmp_path, ignore_errors=True)
