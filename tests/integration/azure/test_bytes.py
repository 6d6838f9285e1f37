"""Bytes: checked by the service, in blocks side by side, whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from filerbackup.errors import ObjectRejected, SinkUnavailable, Unreadable
from filerbackup.sinks.azure import AzureStore, azure_sink
from filerbackup.sinks.azure.blocks import block_id
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.sink import ObjectSink
from tests.contract.contents import BreakingContent, StreamedContent, file_entry
from tests.integration.azure.conftest import MakeSettings
from tests.support.azurite import Peer
from tests.support.proxy import Proxy

PLAIN = ObjectMetadata(content_type="text/plain")


async def blocks_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def send(store: AzureStore, name: str, upload: str, number: int, data: bytes) -> None:
    await store.put_part(name, upload, number, len(data), blocks_of(data), lambda: hashlib.md5(data).digest())


async def test_content_that_is_not_the_sources_is_no_object(store: AzureStore, peer: Peer) -> None:
    await store.put("file", b"good", PLAIN)
    with pytest.raises(Unreadable):
        await store.put("file", b"data", PLAIN, hashlib.md5(b"other").digest())

    assert await peer.get("file") == b"good"


async def test_an_answer_with_another_md5_is_looked_into(
    behind: AzureStore, peer: Peer, proxy: Proxy
) -> None:
    def lie(request: web.Request, headers: dict[str, str]) -> None:
        if request.method == lying:
            headers["Content-MD5"] = "1B2M2Y8AsgTpgAmY7PhCfg=="

    proxy.change = lie  # type: ignore[assignment]
    lying = "PUT"
    await behind.put("fine", b"data", PLAIN)
    lying = ""
    assert await peer.get("fine") == b"data"

    proxy.change = lambda _request, headers: headers.update({"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})
    with pytest.raises(SinkUnavailable, match="has stored"):
        await behind.put("wrong", b"data", PLAIN)
    assert await peer.get("wrong") is None


async def test_a_large_file_has_its_md5(settings: MakeSettings, peer: Peer) -> None:
    sink = azure_sink(settings(part_size_bytes=1 << 20, part_concurrency=3))
    await sink.open()
    try:
        content = StreamedContent((5 << 20) + 3)
        entry = replace(file_entry("big", content.size), md5=content.md5)
        await sink.write("big", entry, content)

        found = await peer.properties("copy/big")
        assert bytes(found.content_settings.content_md5) == content.md5
        assert "md5chksum" not in found.metadata
        assert await peer.get("copy/big") == await content.read()
        committed, uncommitted = await peer.client.get_blob_client("copy/big").get_block_list("all")
        assert [block.size for block in committed] == [1 << 20] * 5 + [3]
        assert uncommitted == []
        (listed,) = [each async for each in sink.list()]
        assert listed.md5 == content.md5
        assert await sink.matches(listed, entry)
    finally:
        await sink.close()


async def test_a_block_that_changes_on_the_way_is_refused(
    behind: AzureStore, azurite: object, proxy: Proxy
) -> None:
    """The signature does not cover the body: only the MD5 tells."""
    upload = await behind.begin_upload("file", PLAIN)
    await send(behind, "file", upload, 1, b"good")
    with pytest.raises(SinkUnavailable):
        await behind.put_part("file", upload, 2, 4, blocks_of(b"evil"), lambda: hashlib.md5(b"good").digest())


async def test_a_broken_upload_is_seen_by_nobody(
    sink: ObjectSink, peer: Peer, settings: MakeSettings
) -> None:
    sink = azure_sink(settings(part_size_bytes=1 << 20))
    await sink.open()
    try:
        content = StreamedContent(3 << 20)
        await sink.write("old", file_entry("old", content.size), content)
        for key in ("old", "new"):
            with pytest.raises(Unreadable):
                await sink.write(key, file_entry(key, 4 << 20), BreakingContent(4 << 20, good_bytes=3 << 20))

        assert await peer.get("copy/old") == await content.read()
        names = {name for name in await peer.names() if ".filerbackup" not in name}
        assert names == {"copy/old"}
        assert await sink.stat("new") is None
        await sink.write("new", file_entry("new", content.size), content)
        assert await peer.get("copy/new") == await content.read()
        _, uncommitted = await peer.client.get_blob_client("copy/new").get_block_list("all")
        assert uncommitted == []
    finally:
        await sink.close()


async def test_two_uploads_never_mix(store: AzureStore, peer: Peer) -> None:
    one, two = await store.begin_upload("file", PLAIN), await store.begin_upload("file", PLAIN)
    await send(store, "file", one, 1, b"first")
    assert await peer.names() == set()
    assert await peer.names(include=["uncommittedblobs"]) == {"file"}, "what Azure keeps for a week"
    await store.abort_upload("file", one)
    part = await store.put_part(
        "file", two, 1, 6, blocks_of(b"second"), lambda: hashlib.md5(b"second").digest()
    )
    await store.complete_upload("file", two, [part], PLAIN)

    assert await peer.get("file") == b"second"
    _, uncommitted = await peer.client.get_blob_client("file").get_block_list("all")
    assert uncommitted == [], "the next write of that name discards it"


async def test_a_list_with_a_block_that_is_gone_publishes_nothing(store: AzureStore, peer: Peer) -> None:
    await peer.put("file", b"before")
    upload = await store.begin_upload("file", PLAIN)
    part = await store.put_part(
        "file", upload, 1, 4, blocks_of(b"data"), lambda: hashlib.md5(b"data").digest()
    )
    gone = replace(part, number=2, tag=block_id(upload, 2))
    with pytest.raises(SinkUnavailable):
        await store.complete_upload("file", upload, [part, gone], PLAIN)

    assert await peer.get("file") == b"before"


async def test_a_part_larger_than_the_buffer_is_sent_in_passing(settings: MakeSettings, peer: Peer) -> None:
    store = AzureStore(settings(part_size_bytes=1 << 10, part_concurrency=1))
    await store.open()
    try:
        upload = await store.begin_upload("file", PLAIN)
        pieces = [bytes([number]) * 700 for number in range(3)]
        whole = hashlib.md5(b"".join(pieces)).digest()
        part = await store.put_part("file", upload, 1, 2100, blocks_of(*pieces), lambda: whole)
        await store.complete_upload("file", upload, [part], PLAIN)
        assert await peer.get("file") == b"".join(pieces)
        assert part.digest == whole
    finally:
        await store.close()


async def test_an_append_blob_of_weeds_gives_way(store: AzureStore, peer: Peer) -> None:
    for name in ("small", "large"):
        await peer.client.get_blob_client(name).create_append_blob()
    await store.put("small", b"data", PLAIN)
    upload = await store.begin_upload("large", PLAIN)
    part = await store.put_part(
        "large", upload, 1, 4, blocks_of(b"data"), lambda: hashlib.md5(b"data").digest()
    )
    await store.complete_upload("large", upload, [part], PLAIN)

    for name in ("small", "large"):
        assert await peer.get(name) == b"data"
        assert (await peer.properties(name)).blob_type == "BlockBlob"


@pytest.mark.parametrize("code", ["BlobArchived", "InvalidBlobType"])
async def test_what_only_a_delete_makes_room_for_goes_first(
    behind: AzureStore, peer: Peer, proxy: Proxy, code: str
) -> None:
    """As Azure refuses to write over an archived blob; Azurite does not."""
    await peer.put("file", b"archived")
    deleted = False

    async def archived(request: web.Request, _body: bytes) -> web.StreamResponse | None:
        nonlocal deleted
        deleted = deleted or request.method == "DELETE"
        if request.method != "PUT" or deleted:
            return None
        return web.Response(status=409, headers={"x-ms-error-code": code})

    proxy.fault = archived
    await behind.put("file", b"data", PLAIN)
    assert await peer.get("file") == b"data"


@pytest.mark.parametrize("name", ["x" * 1025, "/".join("x" * 255), "bell\x07"])
async def test_names_that_azure_never_takes(behind: AzureStore, proxy: Proxy, name: str) -> None:
    with pytest.raises(ObjectRejected):
        await behind.put(name, b"data", PLAIN)
    with pytest.raises(ObjectRejected):
        await behind.begin_upload(name, PLAIN)

    assert proxy.requests == []


async def test_names_that_end_in_a_dot_are_tried_once(behind: AzureStore, peer: Peer, proxy: Proxy) -> None:
    """A service that takes the dot away would put two files under one name."""

    async def strip(request: web.Request, _body: bytes) -> web.StreamResponse | None:
        return (
            web.Response(status=400, headers={"x-ms-error-code": "InvalidUri"})
            if (request.path.endswith(".") and request.method == "PUT")
            else None
        )

    await behind.put("plain", b"data", PLAIN)
    proxy.fault = strip
    for name in ("a.", "b.", "c./d"):
        with pytest.raises(ObjectRejected, match="dot"):
            await behind.put(name, b"data", PLAIN)

    assert await peer.names() == {"plain"}
    assert len(proxy.requests) == 2
