"""Deletes, in batches and one by one, also where something holds a blob; listings in odd pages."""

from __future__ import annotations

import pytest
from aiohttp import web

from filerbackup.errors import ObjectRejected, SinkRefused, SinkUnavailable
from filerbackup.sinks.azure import AzureStore
from filerbackup.sinks.metadata import ObjectMetadata
from tests.support.azurite import Peer
from tests.support.proxy import Proxy, answers

PLAIN = ObjectMetadata(content_type="text/plain")
ODD = ["a b", "per%cent", "plus+", "question?", "#hash", "ü/é", "new\nline", "quote'\""]


async def test_a_batch_removes_what_it_names(store: AzureStore, peer: Peer) -> None:
    for name in [*ODD, "stays"]:
        await peer.put(name, b"x")

    assert await store.delete_bulk([*ODD, "absent"]) == {}
    assert await peer.names() == {"stays"}


async def test_a_full_batch(store: AzureStore, peer: Peer) -> None:
    assert store.traits.bulk_names == 256
    names = [f"{number:03}" for number in range(256)]
    for name in names[::50]:
        await peer.put(name, b"x")

    assert await store.delete_bulk(names) == {}
    assert await peer.names() == set()


async def test_snapshots_go_with_their_blob(store: AzureStore, peer: Peer) -> None:
    for name in ("one", "two"):
        await peer.put(name, b"x")
        await peer.client.get_blob_client(name).create_snapshot()

    await store.delete("one")
    assert await store.delete_bulk(["two"]) == {}
    assert await peer.names(include=["snapshots"]) == set()


async def test_a_leased_blob_is_named_and_the_others_go(store: AzureStore, peer: Peer) -> None:
    for name in ("leased", "free"):
        await peer.put(name, b"x")
    lease = await peer.client.get_blob_client("leased").acquire_lease()

    failed = await store.delete_bulk(["leased", "free"])
    assert failed is not None
    assert list(failed) == ["leased"]
    with pytest.raises(ObjectRejected) as caught:
        await store.put("leased", b"y", PLAIN)
    for error in (failed["leased"], caught.value):
        assert isinstance(error, ObjectRejected)
        assert "LeaseIdMissing" in str(error)
        assert "lease" in error.hint
    assert await peer.names() == {"leased"}
    await lease.release()


async def test_a_service_without_batches(behind: AzureStore, proxy: Proxy) -> None:
    proxy.fault = answers(405, **{"x-ms-error-code": "UnsupportedHttpVerb"})
    assert await behind.delete_bulk(["a"]) is None


async def test_a_batch_that_is_refused_as_a_whole(behind: AzureStore, proxy: Proxy) -> None:
    proxy.fault = answers(403, **{"x-ms-error-code": "AuthorizationPermissionMismatch"})
    with pytest.raises(SinkRefused):
        await behind.delete_bulk(["a"])


async def test_what_an_answer_leaves_out_is_not_deleted(behind: AzureStore, peer: Peer, proxy: Proxy) -> None:
    await peer.put("b", b"x")

    async def half(request: web.Request, _body: bytes) -> web.StreamResponse:
        part = "Content-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n"
        text = f"--x\r\n{part}\r\n--x--"
        return web.Response(
            status=202,
            body=text.encode(),
            headers={"Content-Type": "multipart/mixed; boundary=x", "x-ms-version": "1"},
        )

    proxy.fault = half
    failed = await behind.delete_bulk(["a", "b"])
    assert failed is not None
    assert list(failed) == ["b"]
    assert isinstance(failed["b"], SinkUnavailable)


async def test_a_directory_of_a_hierarchical_namespace_is_no_object(store: AzureStore, peer: Peer) -> None:
    """Such accounts list each directory as an empty blob under its plain name."""
    await peer.put("d", b"", metadata={"hdi_isfolder": "true"})
    await peer.put("d/file", b"x")

    assert await store.head("d") is None
    assert [found.name for found in (await store.page("")).objects] == ["d/file"]


async def test_pages_go_on_where_they_ended(store: AzureStore, peer: Peer) -> None:
    names = [f"p/{number}" for number in range(7)]
    for name in [*names, "other"]:
        await peer.put(name, b"x", metadata={"Key": "Value"})

    listed, token = [], ""
    while True:
        page = await store.page("p/", token=token, limit=3)
        listed += page.objects
        token = page.token
        if not page.truncated:
            break
    assert [found.name for found in listed] == names
    assert listed[0].user == {"key": "Value"}
    assert [found.name for found in (await store.page("p/", after="p/5", limit=2)).objects] == ["p/6"]
    folded = await store.page("", delimiter="/", after="a")
    assert ([found.name for found in folded.objects], folded.prefixes) == (["other"], ["p/"])
    assert (await store.page("", delimiter="/", after="p/3")).prefixes == ["p/"]


@pytest.mark.parametrize(
    "xml",
    [
        "<EnumerationResults><Blobs><Blob><Name>p/x</Name></Blob></Blobs></EnumerationResults>",
        "<EnumerationResults><Blobs><Blob><Name>elsewhere</Name><Properties>"
        "<Content-Length>1</Content-Length></Properties></Blob></Blobs></EnumerationResults>",
        "<ListBucketResult/>",
        "no XML",
        "<EnumerationResults><NextMarker>again</NextMarker></EnumerationResults>",
    ],
    ids=["no size", "other prefix", "another service", "no XML", "never ends"],
)
async def test_a_listing_that_cannot_be_true(behind: AzureStore, proxy: Proxy, xml: str) -> None:
    proxy.fault = answers(200, xml, "application/xml", **{"x-ms-version": "1"})
    with pytest.raises(SinkUnavailable):
        await behind.page("p/")


async def test_an_empty_page_is_not_the_end(behind: AzureStore, peer: Peer, proxy: Proxy) -> None:
    await peer.put("file", b"x")
    asked = 0

    async def empty_first(request: web.Request, _body: bytes) -> web.StreamResponse | None:
        nonlocal asked
        asked += 1
        if asked > 1:
            return None
        xml = "<EnumerationResults><Blobs/><NextMarker></NextMarker></EnumerationResults>"
        return web.Response(
            text=xml.replace("<NextMarker>", "<NextMarker>a"),
            content_type="application/xml", headers={"x-ms-version": "1"},
        )  # fmt: skip

    proxy.fault = empty_first
    assert [found.name for found in (await behind.page("")).objects] == ["file"]
    assert asked == 2
