"""The S3 sink in the contract suite, on moto: an S3 server that shares no code with SeaweedFS's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.harness_s3 import BUCKET, S3Place
from tests.contract.place import Harness
from tests.support.s3 import peer_of


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[S3Place]:
    endpoint = request.getfixturevalue("moto").endpoint
    async with peer_of(endpoint, BUCKET) as peer:
        yield S3Place(endpoint, peer, checks_keys=False)


# Its routes end at a newline (HTTP 404), and it writes U+FFFF, which XML has no room for, as it is.
HARNESS = Harness("moto", _place, refuses=lambda key: "\n" in key, garbles="\uffff")
