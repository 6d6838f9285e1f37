"""Fixtures that every test may use: real servers, one for the whole run unless a test breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.weed import WeedServer, running_weed


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A SeaweedFS shared by the whole run: use a folder or a bucket of your own, never break it."""
    with running_weed(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture
def own_weed(tmp_path: Path) -> Iterator[WeedServer]:
    """A SeaweedFS for one test, which may stop, kill and reconfigure it."""
    with running_weed(tmp_path / "weed") as server:
        yield server
