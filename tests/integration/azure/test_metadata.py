"""What travels with a blob: as rclone reads it, as the service keeps it, and as it changes."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from filerbackup.content import InlineContent
from filerbackup.events import Entry, EntryKind
from filerbackup.sinks.azure import AzureStore
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.sink import ObjectSink
from tests.contract.contents import MTIME_NS, directory_entry, file_entry, symlink_entry
from tests.support import rclone
from tests.support.azurite import ACCOUNT, KEY, AzuriteServer, Peer
from tests.support.proxy import Proxy

PLAIN = ObjectMetadata(content_type="text/plain", user={"mtime": "2020-09-13T12:26:40.123456789Z"})


async def test_rclone_restores_times_modes_and_links(
    sink: ObjectSink, peer: Peer, azurite: AzuriteServer, tmp_path: Path
) -> None:
    data = b"content"
    entry = replace(file_entry("d/file", len(data), mode=0o640), md5=hashlib.md5(data).digest())
    await sink.write("d/file", entry, InlineContent(data, entry.md5))
    await sink.write("d/link", symlink_entry("d/link", "file"), InlineContent(b""))
    await sink.write("empty", directory_entry("empty"), InlineContent(b""))
    path = f"{peer.client.container_name}/copy"
    remote = rclone.azure(azurite.blob_endpoint, path, account=ACCOUNT, key=KEY)

    listed = remote.run("lsl", remote.at(f"{path}/d"))
    sums = remote.run("md5sum", remote.at(f"{path}/d"))
    remote.restore(tmp_path / "back")

    moment = datetime.fromtimestamp(MTIME_NS // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert f"{len(data):9} {moment}.123456789 file" in listed
    assert f"{hashlib.md5(data).hexdigest()}  file" in sums
    restored = tmp_path / "back" / "d" / "file"
    assert restored.read_bytes() == data
    assert restored.stat().st_mtime_ns == MTIME_NS
    assert stat.S_IMODE(restored.stat().st_mode) == 0o640
    assert (tmp_path / "back" / "d" / "link").readlink() == Path("file")
    assert list((tmp_path / "back" / "empty").iterdir()) == []


async def test_a_directory_marker_is_rclones(sink: ObjectSink, peer: Peer) -> None:
    await sink.write("empty", directory_entry("empty", mode=0o750), InlineContent(b""))

    found = await peer.properties("copy/empty/")
    assert found.size == 0
    assert found.metadata["hdi_isfolder"] == "true"
    assert found.metadata["mode"] == "40750"
    assert [listed.kind async for listed in sink.list()] == [EntryKind.DIRECTORY]


async def test_names_and_values_as_the_service_wants_them(sink: ObjectSink, peer: Peer) -> None:
    extended = {
        "X-Amz-Meta-Project-Name": b"a b",
        "X-Amz-Meta-project_name": b"came second",
        "X-Amz-Meta-9lives": b"cat",
        "X-Amz-Meta-Hdi_IsFolder": b"true",
        "X-Amz-Meta-empty": b"",
        "X-Amz-Meta-mtime": b"the user's own",
        "X-Amz-Meta-umlaut": "ü".encode(),
        "X-Amz-Tagging-good": b"a b/c",
        "X-Amz-Tagging-bad": "ü".encode(),
        "Expires": b"Thu, 01 Dec 2033 16:00:00 GMT",
    }
    entry = replace(file_entry("file", 4), extended=extended)
    await sink.write("file", entry, InlineContent(b"data"))

    found = await peer.properties("copy/file")
    user = {name: found.metadata[name] for name in found.metadata if name not in ("mode", "uid", "gid")}
    assert user == {
        "mtime": "2020-09-13T12:26:40.123456789Z",
        "project_name": "a b",
        "_9lives": "cat",
        "source_mtime": "the user's own",
        "umlaut": "=?UTF-8?B?w7w=?=",
    }
    assert await peer.tags("copy/file") == {"good": "a b/c"}


@pytest.mark.parametrize("asked, kept", [("Cool", "Cool"), ("archive", "Archive"), ("", "Hot")])
async def test_the_storage_class_is_the_access_tier(
    store: AzureStore, peer: Peer, asked: str, kept: str
) -> None:
    await store.put("file", b"data", replace(PLAIN, storage_class=asked))

    assert (await peer.properties("file")).blob_tier == kept


async def test_a_change_in_place_keeps_what_it_does_not_name(store: AzureStore, peer: Peer) -> None:
    before = replace(PLAIN, cache_control="no-cache", content_language="de", tags={"old": "1"})
    await store.put("file", b"data", before)
    head = await store.head("file")
    assert head is not None

    after = ObjectMetadata(content_type="text/html", user={"mode": "100600"}, tags={"new": "2"})
    assert await store.copy(head, "file", after)

    found = await peer.properties("file")
    assert found.metadata == {"mode": "100600"}
    assert found.content_settings.content_type == "text/html"
    assert found.content_settings.cache_control is None
    assert bytes(found.content_settings.content_md5) == hashlib.md5(b"data").digest()
    assert await peer.tags("file") == {"new": "2"}
    assert await peer.get("file") == b"data"
    assert not await store.copy(head, "file", PLAIN), "the blob is not the one that was looked at"
    assert (await peer.properties("file")).metadata == {"mode": "100600"}


@pytest.mark.parametrize("content_type", ["text/plain", "text/html"])
async def test_a_change_that_comes_between_is_seen(
    behind: AzureStore, peer: Peer, proxy: Proxy, content_type: str
) -> None:
    """Before the metadata, or before the headers where these change too."""
    await behind.put("file", b"data", replace(PLAIN, content_type=content_type))
    head = await behind.head("file")
    assert head is not None

    async def overtake(request: web.Request, _body: bytes) -> web.StreamResponse | None:
        if request.method == "PUT":
            proxy.fault = None
            await peer.put("file", b"newer", metadata={"by": "another"})
        return None

    proxy.fault = overtake
    assert not await behind.copy(head, "file", PLAIN)
    assert (await peer.properties("file")).metadata == {"by": "another"}


async def test_a_copy_takes_content_and_its_own_metadata(store: AzureStore, peer: Peer) -> None:
    name, target = "a dir/per%cent%20 ü?.txt", "copy/#hash & plus+"
    await store.put(name, b"data", replace(PLAIN, cache_control="no-cache", tags={"old": "1"}))
    head = await store.head(name)
    assert head is not None

    moved = replace(PLAIN, user={"mode": "100644"}, content_type="text/html", tags={"new": "2"})
    assert await store.copy(head, target, moved)

    found = await peer.properties(target)
    assert await peer.get(target) == b"data"
    assert found.metadata == {"mode": "100644"}
    assert found.content_settings.content_type == "text/html"
    assert found.content_settings.cache_control is None
    assert bytes(found.content_settings.content_md5) == head.md5
    assert await peer.tags(target) == {"new": "2"}
    assert await peer.get(name) == b"data"


async def test_only_what_was_looked_at_is_copied(store: AzureStore, peer: Peer) -> None:
    await store.put("old", b"data", PLAIN)
    head = await store.head("old")
    assert head is not None
    await peer.put("old", b"else")

    assert not await store.copy(head, "new", PLAIN)
    await store.delete("old")
    assert not await store.copy(head, "new", PLAIN)
    assert await peer.names() == set()


async def test_a_pending_copy_is_waited_for_and_a_failed_one_removed(
    behind: AzureStore, peer: Peer, proxy: Proxy
) -> None:
    await behind.put("old", b"data", PLAIN)
    head = await behind.head("old")
    assert head is not None
    looks = iter(["pending", "pending", "success"])

    def slow(request: web.Request, headers: dict[str, str]) -> None:
        if "x-ms-copy-source" in request.headers:
            headers["x-ms-copy-status"] = "pending"
        elif request.method == "HEAD" and request.path.endswith("/new"):
            headers["x-ms-copy-status"] = next(looks, "success")

    proxy.change = slow
    assert await behind.copy(head, "new", PLAIN)
    assert next(looks, None) is None

    looks = iter(["pending", "failed"])
    with pytest.raises(Exception, match="not like it"):
        await behind.copy(head, "new", PLAIN)
    proxy.change = None
    assert await peer.names() == {"old"}


async def test_an_account_without_tags_gets_none(
    behind: AzureStore, peer: Peer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_tags(request: web.Request, _body: bytes) -> web.StreamResponse | None:
        if "x-ms-tags" not in request.headers:
            return None
        return web.Response(status=403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})

    proxy.fault = no_tags
    await peer.put("old", b"data")
    head = await behind.head("old")
    assert head is not None
    assert not await behind.copy(head, "new", replace(PLAIN, tags={"a": "b"})), "a write finds out"
    proxy.requests.clear()
    for name in ("one", "two"):
        await behind.put(name, b"data", replace(PLAIN, tags={"a": "b"}))

    assert await peer.names() == {"old", "one", "two"}
    assert len(proxy.requests) == 3, "asked once, then left alone"
    assert [record.message for record in caplog.records if "tags" in record.message]


async def test_the_source_entry_may_be_anything(sink: ObjectSink, peer: Peer) -> None:
    """Times outside of what RFC 3339 can say cost the time, never the file."""
    entry = Entry("/far", EntryKind.FILE, size=1, mtime_ns=10**21)
    await sink.write("far", entry, InlineContent(b"x"))

    assert "mtime" not in (await peer.properties("copy/far")).metadata
