"""Files in parts: uploaded side by side, copied above the limit of one copy, never left behind."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from b2sdk import v3

from filerbackup.errors import SinkRefused, SinkUnavailable, Unreadable
from filerbackup.settings.secret import Secret
from filerbackup.sinks.backblaze import B2Store, large
from filerbackup.sinks.backblaze import store as store_module
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.sink import ObjectSink
from filerbackup.sinks.objects.store import Head
from tests.contract.contents import BreakingContent, StreamedContent, file_entry, some_bytes
from tests.integration.backblaze.conftest import MIB, counted, opened, settings, store_of, versions
from tests.support.b2 import Running, b2_error
from tests.support.sinks import keys

PART = 5_000_000


async def blocks(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()


async def test_parts_of_the_smallest_size(b2: Running, folder: str, bucket: v3.Bucket) -> None:
    content = StreamedContent(3 * PART + 1)
    async with opened(settings(b2, folder, part_size_bytes=1)) as sink:
        with counted(b2) as calls:
            await sink.write("large", file_entry("large", content.size), content)
    assert (calls["b2_start_large_file"], calls["b2_upload_part"], calls["b2_finish_large_file"]) == (1, 4, 1)
    version = bucket.get_file_info_by_name(f"{folder}/large")
    assert version.size == content.size
    assert version.content_sha1 == "none"


async def test_upload_urls_are_used_again(b2: Running, sink: ObjectSink) -> None:
    content = StreamedContent(60 * MIB)
    with counted(b2) as calls:
        await sink.write("large", file_entry("large", content.size), content)
    assert calls["b2_upload_part"] == 8
    assert calls["b2_get_upload_part_url"] <= 4


async def test_a_broken_upload_is_cancelled(b2: Running, sink: ObjectSink, bucket: v3.Bucket) -> None:
    with pytest.raises(Unreadable):
        await sink.write(
            "large", file_entry("large", 40 * MIB), BreakingContent(40 * MIB, good_bytes=20 * MIB)
        )
    assert list(bucket.list_unfinished_large_files()) == []
    assert await keys(sink) == []


async def test_a_part_that_arrives_changed(b2: Running, store: B2Store, folder: str) -> None:
    name = f"{folder}/large"
    upload = await store.begin_upload(name, ObjectMetadata())
    data = some_bytes(PART)
    # The service itself compares with the digest behind the bytes.
    with pytest.raises(SinkUnavailable, match="Checksum"):
        await store.put_part(name, upload, 1, PART, blocks(data), lambda: sha1(b"other"))
    part = await store.put_part(name, upload, 1, PART, blocks(data[:9], data[9:]), lambda: sha1(data))
    assert (part.number, part.size, part.digest) == (1, PART, sha1(data))
    await store.complete_upload(name, upload, [part], ObjectMetadata())
    head = await store.head(name)
    assert head is not None
    assert head.size == PART
    # A second end of any kind is harmless.
    await store.abort_upload(name, upload)
    assert await store.head(name) is not None


async def test_open_uploads_are_those_of_one_name(store: B2Store, folder: str) -> None:
    begun = [await store.begin_upload(f"{folder}/a", ObjectMetadata()) for _ in range(3)]
    other = await store.begin_upload(f"{folder}/ab", ObjectMetadata())
    assert sorted(await store.open_uploads(f"{folder}/a")) == sorted(begun)
    assert await store.open_uploads(f"{folder}/") == []
    assert await store.head(f"{folder}/a") is None
    for upload in begun:
        for _ in range(2):
            await store.abort_upload(f"{folder}/a", upload)
    assert await store.open_uploads(f"{folder}/a") == []
    assert await store.open_uploads(f"{folder}/ab") == [other]
    await store.abort_upload(f"{folder}/ab", other)


async def test_more_unfinished_uploads_than_a_page(
    store: B2Store, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "_MOST_UPLOADS", 2)
    begun = [await store.begin_upload(f"{folder}/a", ObjectMetadata()) for _ in range(5)]
    assert sorted(await store.open_uploads(f"{folder}/a")) == sorted(begun)
    for upload in begun:
        await store.abort_upload(f"{folder}/a", upload)


async def large_source(store: B2Store, folder: str, data: bytes) -> Head:
    await store.put(f"{folder}/old", data, ObjectMetadata(user={"large_file_sha1": sha1(data).hex()}))
    head = await store.head(f"{folder}/old")
    assert head is not None
    return head


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is true above 5 GB, at sizes that a test can hold."""
    limits = dataclasses.replace(store_module.TRAITS, largest_put=10_000_000)
    monkeypatch.setattr(store_module, "TRAITS", limits)
    monkeypatch.setattr(large, "COPIED_PART_BYTES", PART)


async def test_a_copy_in_parts(
    b2: Running, store: B2Store, folder: str, bucket: v3.Bucket, small_limits: None
) -> None:
    data = some_bytes(3 * PART + 7)
    head = await large_source(store, folder, data)
    with counted(b2) as calls:
        assert await store.copy(head, f"{folder}/new", ObjectMetadata(content_type="text/x"))
    assert calls["b2_copy_part"] == 4
    assert b"".join([block async for block in store.get(f"{folder}/new")]) == data
    version = bucket.get_file_info_by_name(f"{folder}/new")
    assert (version.content_type, version.file_info["large_file_sha1"]) == ("text/x", sha1(data).hex())


async def test_a_copy_in_parts_that_fails(
    b2: Running, store: B2Store, folder: str, bucket: v3.Bucket, small_limits: None
) -> None:
    data = some_bytes(3 * PART)
    head = await large_source(store, folder, data)

    def third(name: str, _request: web.Request) -> web.Response | None:
        return b2_error(500, "internal_error") if name == "b2_copy_part" else None

    with b2.fault(third), pytest.raises(SinkUnavailable):
        await store.copy(head, f"{folder}/new", ObjectMetadata())
    assert await store.open_uploads(f"{folder}/new") == []
    assert versions(bucket, folder) == [("old", "upload")]


async def test_a_copy_in_parts_whose_key_is_gone(b2: Running, folder: str, small_limits: None) -> None:
    key_id, key = b2.make_key()
    async with store_of(settings(b2, folder, key_id=key_id, application_key=Secret(key))) as store:
        head = await large_source(store, folder, some_bytes(3 * PART))

        def gone(name: str, _request: web.Request) -> web.Response | None:
            if name == "b2_copy_part":
                b2.simulator.key_id_to_key.pop(key_id, None)
                b2.expire_tokens()
            return None

        with b2.fault(gone), pytest.raises(SinkRefused):
            await store.copy(head, f"{folder}/new", ObjectMetadata())
    async with store_of(settings(b2, folder)) as store:
        (left,) = await store.open_uploads(f"{folder}/new")
        await store.abort_upload(f"{folder}/new", left)
