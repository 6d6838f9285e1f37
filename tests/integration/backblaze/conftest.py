"""The Backblaze B2 sink on b2sdk's simulator behind HTTP, with everything that the server was asked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import pytest
import pytest_asyncio
from b2sdk import v3

from filerbackup.errors import SinkError
from filerbackup.settings.model import BackblazeSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.backblaze import B2Store, backblaze_sink
from filerbackup.sinks.objects.sink import ObjectSink
from tests.support import rclone, sinks
from tests.support.b2 import BUCKET, Running

MIB = 1 << 20
SECRET = "K005thisIsNoRealKey0123456789abc"


@pytest.fixture
def bucket(b2: Running) -> v3.Bucket:
    """The bucket as plain b2sdk shows it."""
    return b2.client().get_bucket_by_name(BUCKET)


@pytest.fixture
def remote(b2: Running, folder: str) -> rclone.Remote:
    """The folder as rclone shows it."""
    return rclone.b2(b2.endpoint, f"{BUCKET}/{folder}", account=b2.account_id, key=b2.application_key)


def settings(server: Running, folder: str, **changes: Any) -> BackblazeSettings:
    given = BackblazeSettings(
        "backblaze",
        directory=f"/{folder}",
        bucket=BUCKET,
        endpoint=server.endpoint,
        key_id=server.account_id,
        application_key=Secret(server.application_key),
    )
    return dataclasses.replace(given, **changes)


def opened(of: BackblazeSettings) -> AbstractAsyncContextManager[ObjectSink]:
    return sinks.opened(backblaze_sink(of))


def store_of(of: BackblazeSettings) -> AbstractAsyncContextManager[B2Store]:
    return sinks.opened(B2Store(of))


@pytest_asyncio.fixture
async def sink(b2: Running, folder: str) -> AsyncIterator[ObjectSink]:
    async with opened(settings(b2, folder)) as sink:
        yield sink


@pytest_asyncio.fixture
async def store(b2: Running, folder: str) -> AsyncIterator[B2Store]:
    async with store_of(settings(b2, folder)) as store:
        yield store


def versions(bucket: v3.Bucket, folder: str, key: str = "") -> list[tuple[str, str]]:
    """Key and action of every version below the folder, newest first."""
    found = bucket.ls(folder, latest_only=False, recursive=True)
    cut = [(version.file_name[len(folder) + 1 :], version.action) for version, _ in found]
    return [each for each in cut if each[0].startswith(key)]


@contextmanager
def counted(server: Running) -> Iterator[Counter[str]]:
    """The calls that the server gets in this block."""
    before = server.api.calls.copy()
    made: Counter[str] = Counter()
    yield made
    made.update(server.api.calls - before)


def told(error: SinkError, *hidden: str) -> str:
    """All that a person sees of an error: one short line, with nothing secret in it."""
    text = f"{error} {error.hint}"
    assert "\n" not in text
    assert len(text) < 700
    for secret in (SECRET, "auth_token_", "masterKey", "appKey", *hidden):
        assert secret not in text
    return text
