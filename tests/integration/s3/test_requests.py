"""What requests say besides the bytes: encryption, tokens, access; and the forms that settings choose."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from aiohttp import web

from filerbackup.content import InlineContent
from filerbackup.errors import SinkUnavailable
from filerbackup.events import EntryKind
from filerbackup.settings.secret import Secret
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.store import Head
from tests.contract.contents import NOTHING, StreamedContent, directory_entry, file_entry, symlink_entry
from tests.integration.s3.conftest import MIB, opened, refusal, settings
from tests.support.proxy import Proxy
from tests.support.s3 import Peer, s3_error
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer


async def headers_of_writes(
    server: WeedServer, proxy: Proxy, folder: str, **changes: Any
) -> list[dict[str, str]]:
    """The headers of a small put, an odd one (by the SDK), the begin of an upload, and a copy."""
    seen: list[dict[str, str]] = []

    async def watch(request: web.Request, _body: bytes) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.Response(status=503)

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        store = sink._store
        store._settings = settings(server, folder, endpoint=proxy.endpoint, **changes)  # type: ignore[attr-defined]
        await store.open()
        proxy.fault = watch
        metadata = ObjectMetadata(storage_class=changes.get("storage_class", ""))
        for call in (
            store.put("small", b"data", metadata),
            store.put("new\nline", b"data", metadata),
            store.begin_upload("large", metadata),
            store.copy(Head("there", 4, "etag"), "copy", metadata),
        ):
            with pytest.raises(SinkUnavailable):
                await call
        proxy.fault = None
    return seen


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"server_side_encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"server_side_encryption": "aws:kms", "sse_kms_key_id": "alias/k"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/k",
            },
        ),
        ({"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
        ({"acl": "private"}, {"x-amz-acl": "private"}),
        ({"session_token": Secret("the-token")}, {"x-amz-security-token": "the-token"}),
    ],
)
async def test_every_kind_of_write_says_it(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, changes: dict[str, Any], wanted: dict[str, str]
) -> None:
    seen = await headers_of_writes(server, proxy, folder, **changes)
    assert len(seen) == 4
    for headers in seen:
        assert {name: headers.get(name) for name in wanted} == wanted


async def test_a_key_of_kms_is_named_and_etags_are_not_taken_for_md5s(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    """(The gateway has no KMS: here it is only asked for.)"""
    asked = []

    async def answer(request: web.Request, _body: bytes) -> web.Response | None:
        if request.method == "PUT":
            asked.append((request.headers.get("x-amz-server-side-encryption"),
                          request.headers.get("x-amz-server-side-encryption-aws-kms-key-id")))  # fmt: skip
            return web.Response(headers={"ETag": '"00000000000000000000000000000000"',
                                         "x-amz-server-side-encryption": "aws:kms"})  # fmt: skip
        if request.method == "HEAD":
            return web.Response(headers={"ETag": '"00000000000000000000000000000000"', "Content-Length": "4",
                                         "x-amz-server-side-encryption": "aws:kms"})  # fmt: skip
        return None

    of = settings(
        server,
        folder,
        endpoint=proxy.endpoint,
        server_side_encryption="aws:kms",
        sse_kms_key_id="alias/backup",
    )
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        store = sink._store
        store._settings = of  # type: ignore[attr-defined]
        await store.open()
        proxy.fault = answer
        await write(sink, "small")
        assert set(asked) == {("aws:kms", "alias/backup")}
        assert not store.tells_md5(in_parts=False)
        proxy.fault = None


async def test_directories_as_markers(server: WeedServer, peer: Peer, folder: str) -> None:
    async with opened(settings(server, folder, directory_markers=True)) as sink:
        assert sink.capabilities.directories
        await sink.write("d", directory_entry("d", mode=0o750), NOTHING)
        await sink.write("d/empty", directory_entry("d/empty"), NOTHING)
        await write(sink, "d/file")
        await write(sink, "d-1")
        # (The gateway keeps no metadata with them; another server in the contract suite does.)
        assert await peer.head(f"{folder}/d/") is not None
        listed = [(each.key, each.kind) async for each in sink.list()]
        assert listed == [
            ("d-1", EntryKind.FILE), ("d", EntryKind.DIRECTORY), ("d/empty", EntryKind.DIRECTORY),
            ("d/file", EntryKind.FILE),
        ]  # fmt: skip
        await sink.delete("d/empty")
        assert await keys(sink) == ["d-1", "d", "d/file"]
        await sink.delete_tree("d")
        assert await keys(sink) == ["d-1"]


async def test_a_service_that_does_not_list_markers_is_refused(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async def swallow(request: web.Request, _body: bytes) -> web.Response | None:
        lost = request.method == "PUT" and request.path.endswith("/")
        return web.Response(headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}) if lost else None

    proxy.fault = swallow
    error = await refusal(settings(server, folder, endpoint=proxy.endpoint, directory_markers=True))
    assert "directory_markers = false" in error.hint


async def test_symlinks_under_their_own_names(server: WeedServer, peer: Peer, folder: str) -> None:
    link = symlink_entry("link", "../target")
    async with opened(settings(server, folder, symlinks="follow-metadata")) as sink:
        await sink.write("link", link, NOTHING)
        assert await peer.get(f"{folder}/link") == b"../target"
        head = await peer.head(f"{folder}/link")
        assert head is not None
        assert head["Metadata"]["mode"] == "120777"
        listed = await sink.stat("link")
        assert listed is not None
        assert await sink.matches(listed, link)
        assert not await sink.matches(listed, dataclasses.replace(link, symlink_target="../targex"))
        await sink.write("link", file_entry("link", 4), InlineContent(b"file"))
        assert await peer.get(f"{folder}/link") == b"file"
        await sink.delete("link")
        assert await keys(sink) == []


async def test_links_of_another_setting_are_replaced(server: WeedServer, peer: Peer, folder: str) -> None:
    link = symlink_entry("link", "target")
    async with opened(settings(server, folder)) as sink:
        await sink.write("link", link, NOTHING)
    async with opened(settings(server, folder, symlinks="follow-metadata")) as sink:
        await sink.write("link", link, NOTHING)
    names = {name.rpartition("/")[2] for name in await peer.names(f"{folder}/link")}
    assert names == {"link"}


async def test_symlinks_that_are_skipped(server: WeedServer, folder: str, peer: Peer) -> None:
    async with opened(settings(server, folder, symlinks="skip")) as sink:
        assert not sink.capabilities.symlinks


async def test_a_bucket_with_object_lock_gets_digests(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    """As Amazon answers where retention is set; the gateway asks for none."""
    refused = 0

    async def require(request: web.Request, _body: bytes) -> web.Response | None:
        nonlocal refused
        if request.method != "PUT" or "Content-MD5" in request.headers:
            return None
        refused += 1
        return s3_error(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required")

    proxy.fault = require
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await write(sink, "small")
        large = StreamedContent(12 * MIB)
        await sink.write("large", file_entry("large", large.size), large)
    assert refused == 1
    assert await peer.get(f"{folder}/small") == b"data"
    assert await peer.get(f"{folder}/large") == await large.read()
