"""Versions: deleting hides, `hard_delete` removes, and filerbackup's own never pile up."""

from __future__ import annotations

import dataclasses
from io import BytesIO
from typing import Any

import pytest
from b2sdk import v3

from filerbackup.errors import SinkUnavailable
from filerbackup.settings.secret import Secret
from filerbackup.sinks.backblaze import B2Store
from filerbackup.sinks.base import MARK_KEY
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.sink import ObjectSink
from tests.contract.contents import MTIME_NS, StreamedContent, file_entry
from tests.integration.backblaze.conftest import MIB, counted, opened, settings, store_of, versions
from tests.support.b2 import BUCKET, Running, b2_error
from tests.support.sinks import keys, write


async def test_deleting_hides_and_keeps_the_bytes(sink: ObjectSink, bucket: v3.Bucket, folder: str) -> None:
    await write(sink, "file", b"one")
    await write(sink, "file", b"two")
    for _ in range(2):
        await sink.delete("file")
        assert versions(bucket, folder, "file") == [("file", "hide"), ("file", "upload"), ("file", "upload")]
    assert await keys(sink) == []
    assert await sink.stat("file") is None

    await write(sink, "file", b"three")
    assert b"".join([block async for block in sink.read("file")]) == b"three"


async def test_hard_delete_leaves_nothing(b2: Running, bucket: v3.Bucket, folder: str) -> None:
    async with opened(settings(b2, folder)) as hiding:
        await write(hiding, "d/file", b"one")
        await hiding.delete("d/file")
        await write(hiding, "d/file", b"two")
    async with opened(settings(b2, folder, hard_delete=True)) as sink:
        for data in (b"three", b"four"):
            await write(sink, "d/file", data)
            assert versions(bucket, folder, "d/") == [("d/file", "upload")]
        await write(sink, "d/file.txt")
        large = StreamedContent(11 * MIB)
        await sink.write("d/file", file_entry("d/file", large.size), large)
        assert versions(bucket, folder, "d/") == [("d/file", "upload"), ("d/file.txt", "upload")]
        for _ in range(2):
            await sink.delete("d/file")
            assert versions(bucket, folder, "d/") == [("d/file.txt", "upload")]
        await sink.delete_tree("d")
    assert versions(bucket, folder) == []


async def test_own_objects_are_kept_once(sink: ObjectSink, bucket: v3.Bucket, folder: str) -> None:
    for number in range(3):
        await sink.write_own(MARK_KEY, b"%d" % number)
    await sink.open()
    assert versions(bucket, folder) == [(MARK_KEY, "upload")]


@pytest.mark.parametrize("hard_delete", [False, True])
async def test_moving_and_updating(b2: Running, bucket: v3.Bucket, folder: str, hard_delete: bool) -> None:
    async with opened(settings(b2, folder, hard_delete=hard_delete)) as sink:
        entry = await write(sink, "old", b"data", md5=bytes.fromhex("8d777f385d3dfec8815d20f7496026dc"))
        with counted(b2) as calls:
            newer = dataclasses.replace(entry, mode=0o100600, mtime_ns=MTIME_NS + 1)
            assert await sink.update("old", newer)
            assert await sink.move("old", "new", newer)
        assert (calls["b2_copy_file"], calls["b2_upload_file"]) == (2, 0)
    found = versions(bucket, folder)
    if hard_delete:
        assert found == [("new", "upload")]
    else:
        assert found == [("new", "upload"), ("old", "hide"), ("old", "upload"), ("old", "upload")]
    info = bucket.get_file_info_by_name(f"{folder}/new").file_info
    assert info["filerbackup"].startswith("mtime=1600000000.12345679 mode=100600 ")


async def test_a_copy_whose_source_is_gone(store: B2Store, folder: str, bucket: v3.Bucket) -> None:
    await store.put(f"{folder}/old", b"data", ObjectMetadata())
    head = await store.head(f"{folder}/old")
    assert head is not None
    bucket.delete_file_version(head.etag, f"{folder}/old")

    assert not await store.copy(head, f"{folder}/new", ObjectMetadata())
    assert versions(bucket, folder) == []


async def test_a_copy_is_of_what_was_looked_at(store: B2Store, folder: str) -> None:
    await store.put(f"{folder}/old", b"data", ObjectMetadata())
    head = await store.head(f"{folder}/old")
    assert head is not None
    await store.put(f"{folder}/old", b"newer", ObjectMetadata())

    assert await store.copy(head, f"{folder}/new", ObjectMetadata())
    assert b"".join([block async for block in store.get(f"{folder}/new")]) == b"data"


async def test_a_lock_is_no_reason_to_stop(b2: Running, bucket: v3.Bucket, folder: str) -> None:
    """With Object Lock a version cannot be removed: it is hidden, or stays below the newer one."""

    def locked(name: str, _request: object) -> object:
        return b2_error(403, "access_denied") if name == "b2_delete_file_version" else None

    async with opened(settings(b2, folder, hard_delete=True)) as sink:
        await write(sink, "file", b"one")
        with b2.fault(locked):
            await write(sink, "file", b"two")
            await sink.delete("file")
    assert versions(bucket, folder) == [("file", "hide"), ("file", "upload"), ("file", "upload")]


async def test_a_key_that_may_not_delete(b2: Running, bucket: v3.Bucket, folder: str) -> None:
    """Such a key makes a backup that a thief of the key cannot destroy."""
    key_id, key = b2.make_key(["listBuckets", "listFiles", "readFiles", "writeFiles"])
    own = settings(b2, folder, key_id=key_id, application_key=Secret(key))
    async with opened(own) as sink:
        await write(sink, "file")
        await sink.delete("file")
        await sink.write_own(MARK_KEY, b"1")
        await sink.write_own(MARK_KEY, b"2")
        assert await sink.read_own(MARK_KEY) == b"2"
        assert await keys(sink) == []
    assert versions(bucket, folder, "file") == [("file", "hide"), ("file", "upload")]


async def test_many_versions_of_one_name(b2: Running, folder: str, bucket: v3.Bucket) -> None:
    """More than a page of b2_list_file_versions, next to a name that begins like it."""
    inner = b2.simulator.bucket_name_to_bucket[BUCKET]
    token = b2.simulator.authorize_account("", b2.account_id, b2.application_key)["authorizationToken"]
    async with store_of(settings(b2, folder, hard_delete=True)) as store:
        await store.put(f"{folder}/many-more", b"x", ObjectMetadata())
        await store.put(f"{folder}/many", b"x", ObjectMetadata())
        url = inner.get_upload_url(token)["uploadUrl"]
        for _ in range(1100):
            _put(inner, url, f"{folder}/many")
        await store.delete(f"{folder}/many")
    assert versions(bucket, folder) == [("many-more", "upload")]


def _put(inner: Any, url: str, name: str) -> None:
    sha1 = "11f6ad8ec52a2984abaafd7c3b516503785c2072"
    made = inner.upload_file("0", url, name, 1, "text/plain", sha1, {}, BytesIO(b"x"))
    inner.api.file_id_to_bucket_id[made["fileId"]] = inner.bucket_id


async def test_no_old_version_comes_to_light(b2: Running, folder: str) -> None:
    """A removal that breaks off leaves the newest version on top, whatever is left below it."""
    async with opened(settings(b2, folder)) as hiding:
        for data in (b"one", b"two", b"three"):
            await write(hiding, "file", data)
    left = [1]

    def breaks_off(name: str, _request: object) -> object:
        if name != "b2_delete_file_version":
            return None
        left[0] -= 1
        return None if left[0] >= 0 else b2_error(500, "internal_error")

    async with store_of(settings(b2, folder, hard_delete=True)) as store:
        with b2.fault(breaks_off), pytest.raises(SinkUnavailable):
            await store.delete(f"{folder}/file")
        assert b"".join([block async for block in store.get(f"{folder}/file")]) == b"three"
        await store.delete(f"{folder}/file")
        assert await store.head(f"{folder}/file") is None
