"""Fixtures that every test may use: real servers, one for the whole run unless a test breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import s3
from tests.support.azurite import AzuriteServer, running_azurite
from tests.support.b2 import Running, running_b2
from tests.support.gcs import GcsServer, running_gcs
from tests.support.moto import MotoServer, running_moto
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


@pytest.fixture(scope="session")
def guarded_weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A SeaweedFS shared by the whole run whose S3 gateway checks signatures."""
    with s3.guarded_weed(tmp_path_factory.mktemp("guarded") / "weed") as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A moto server shared by the whole run: use a bucket or a folder of your own."""
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """A fake-gcs-server shared by the whole run: use a bucket or a folder of your own."""
    with running_gcs() as server:
        yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    """An Azurite shared by the whole run: use a container or a folder of your own."""
    with running_azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def b2() -> Iterator[Running]:
    """Backblaze's own simulator, shared by the whole run: use a folder or a bucket of your own."""
    with running_b2() as server:
        yield server
