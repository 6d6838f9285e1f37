"""Clusters that ask for certificates and tokens: one a module, which says what it asks for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.secured_client import Client
from tests.support.secured_weed import Asks, SecuredWeed

Tree = dict[str, bytes]


@pytest.fixture(scope="module")
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredWeed]:
    """A cluster that asks for what `ASKS` of the module says."""
    asks = request.module.ASKS
    assert isinstance(asks, Asks)
    weed = SecuredWeed(tmp_path_factory.mktemp("secured"), asks)
    try:
        weed.start()
        yield weed
    finally:
        weed.kill()


@pytest.fixture(scope="module")
def tree(secured: SecuredWeed) -> Tree:
    """Small files and one of several chunks, below /data."""
    files = {f"d{number % 2}/small{number}": secrets.token_bytes(2000 + number) for number in range(4)}
    files["large"] = secrets.token_bytes(5 << 20)
    for name, data in files.items():
        assert secured.put(f"/data/{name}", data, query="maxMB=1") < 300
    return files


@pytest.fixture
def client(tmp_path: Path, secured: SecuredWeed, tree: Tree) -> Client:
    """filerbackup with a directory of its own, and a tree to copy."""
    assert tree
    return Client(tmp_path, secured)
