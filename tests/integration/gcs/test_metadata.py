"""What an object carries, on the wire and as the service tells it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import stat
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from filerbackup.errors import ObjectRejected, SinkUnavailable
from filerbackup.sinks.base import Sink
from filerbackup.sinks.gcs import GcsStore
from filerbackup.sinks.metadata import ObjectMetadata
from tests.contract.contents import MTIME_NS, NOTHING, StreamedContent, file_entry, symlink_entry
from tests.integration.gcs.conftest import MIB, PLAIN, opened_sink, settings
from tests.support.gcs import GcsPeer, GcsServer
from tests.support.proxy import Proxy
from tests.support.sinks import write

FULL = ObjectMetadata(
    content_type="text/plain",
    cache_control="no-store",
    content_disposition="inline",
    content_language="de",
    storage_class="NEARLINE",
    user={"mode": "100640", "owner": "anna"},
)


async def read(store: GcsStore, name: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in store.get(name, offset, length)])


async def test_the_names_of_rclone_and_of_googles_tools(sink: Sink, peer: GcsPeer, folder: str) -> None:
    await write(sink, "file", mode=stat.S_IFREG | 0o4751, mtime_ns=MTIME_NS, uid=1000, gid=100)

    assert await peer.metadata(f"{folder}/file") == {
        "mtime": "2020-09-13T12:26:40.123456789Z",
        "goog-reserved-file-mtime": "1600000000",
        "mode": "104751",
        "uid": "1000",
        "gid": "100",
        "goog-reserved-posix-mode": "751",
        "goog-reserved-posix-uid": "1000",
        "goog-reserved-posix-gid": "100",
    }


async def test_values_in_any_script_and_what_has_no_field(sink: Sink, peer: GcsPeer, folder: str) -> None:
    extended = {
        "X-Amz-Meta-Owner": "Änne \U0001f600".encode(),
        "X-Amz-Meta-Latin": b"caf\xe9",
        "X-Amz-Meta-Goog-Reserved-Posix-Mode": b"777",
        "X-Amz-Meta-Lines": b"a\nb",
        "X-Amz-Tagging-Team": b"x",
        "Expires": b"Wed, 21 Oct 2026 07:28:00 GMT",
    }
    await write(sink, "file", extended=extended)

    described = await peer.describe(f"{folder}/file")
    assert described is not None
    user = described["metadata"]
    assert (user["owner"], user["latin"]) == ("Änne \U0001f600", "café")
    assert (user["goog-reserved-posix-mode"], user["source-goog-reserved-posix-mode"]) == ("644", "777")
    assert "lines" not in user
    assert "2026" not in json.dumps(described.get("customTime", ""))


@pytest.mark.parametrize("symlinks", ["follow-metadata", "rclonelink"])
async def test_a_symlink_is_marked_for_googles_tools_under_its_own_name_only(
    gcs: GcsServer, peer: GcsPeer, folder: str, symlinks: str
) -> None:
    async with opened_sink(settings(gcs.endpoint, folder, symlinks=symlinks)) as sink:
        await sink.write("link", symlink_entry("link", "target"), NOTHING)
    name = f"{folder}/link" + ("" if symlinks == "follow-metadata" else ".rclonelink")
    user = await peer.metadata(name)
    assert user["mode"] == "120777"
    assert user.get("goog-reserved-file-is-symlink") == ("true" if symlinks == "follow-metadata" else None)


async def test_headers_and_storage_class(store: GcsStore, peer: GcsPeer, folder: str) -> None:
    await store.put(f"{folder}/file", b"data", FULL)

    described = await peer.describe(f"{folder}/file")
    assert described is not None
    wanted = {
        "contentType": "text/plain",
        "cacheControl": "no-store",
        "contentDisposition": "inline",
        "contentLanguage": "de",
        "storageClass": "NEARLINE",
    }
    assert {name: described[name] for name in wanted} == wanted


async def test_packed_bytes_come_as_they_were_put(store: GcsStore, folder: str) -> None:
    """The service would unpack them for who does not say otherwise."""
    packed = gzip.compress(b"clear " * 1000)
    name = f"{folder}/packed"
    await store.put(name, packed, dataclasses.replace(PLAIN, content_encoding="gzip"))

    assert await read(store, name) == packed
    assert await read(store, name, 5, 7) == packed[5:12]


async def test_a_service_that_unpacks_is_found_out(behind: GcsStore, proxy: Proxy, folder: str) -> None:
    name = f"{folder}/packed"
    await behind.put(name, gzip.compress(b"clear"), dataclasses.replace(PLAIN, content_encoding="gzip"))

    def unpacked(_request: web.Request, headers: CIMultiDict[str]) -> None:
        del headers["Content-Encoding"]

    proxy.change = unpacked
    with pytest.raises(SinkUnavailable, match="unpacked"):
        await read(behind, name)


async def test_bytes_that_are_packed_on_the_way_are_unpacked(
    behind: GcsStore, proxy: Proxy, folder: str
) -> None:
    await behind.put(f"{folder}/clear", b"clear", PLAIN)

    async def packing(request: web.Request, _body: bytes) -> web.Response | None:
        if request.method != "GET":
            return None
        headers = {"Content-Encoding": "gzip", "X-Goog-Stored-Content-Encoding": "identity"}
        return web.Response(body=gzip.compress(b"clear"), headers=headers)

    proxy.fault = packing
    assert await read(behind, f"{folder}/clear") == b"clear"


async def test_an_update_takes_away_what_is_no_more(behind: GcsStore, proxy: Proxy, folder: str) -> None:
    """By Google's rules for PATCH; fake-gcs-server keeps what is null."""
    name = f"{folder}/file"
    await behind.put(name, b"data", FULL)
    head = await behind.head(name)
    assert head is not None
    asked: list[tuple[str, dict[str, object]]] = []

    async def watching(request: web.Request, body: bytes) -> None:
        asked.append((f"{request.method} {request.query_string}", json.loads(body)))

    proxy.fault = watching
    assert await behind.copy(head, name, PLAIN)

    ((request, body),) = asked
    generation, metageneration = head.etag.split(".")
    assert request.startswith("PATCH ")
    assert f"ifGenerationMatch={generation}&ifMetagenerationMatch={metageneration}" in request
    assert body == {
        "contentType": "text/plain",
        "cacheControl": None,
        "contentDisposition": None,
        "contentEncoding": None,
        "contentLanguage": None,
        "metadata": {
            "mtime": "2020-09-13T12:26:40Z",
            "mode": None,
            "owner": None,
            "goog-reserved-posix-mode": None,
        },
    }


async def test_what_was_put_together_carries_everything(
    gcs: GcsServer, peer: GcsPeer, folder: str, proxy: Proxy
) -> None:
    asked: list[dict[str, Any]] = []
    classes: list[bool] = []

    async def watching(request: web.Request, body: bytes) -> None:
        if request.path.endswith("/compose"):
            asked.append(json.loads(body))
        elif len(body) > MIB:
            classes.append(b'"storageClass":"COLDLINE"' in body)

    proxy.fault = watching
    content = StreamedContent(3 * MIB)
    of = settings(proxy.endpoint, folder, storage_class="COLDLINE")
    async with opened_sink(of) as sink:
        entry = dataclasses.replace(
            file_entry("file", content.size), md5=content.md5, extended={"Cache-Control": b"no-store"}
        )
        await sink.write("file", entry, content)
        listed = await sink.stat("file")
        assert listed is not None
        assert await sink.matches(listed, entry)

    described = await peer.describe(f"{folder}/file")
    assert described is not None
    assert described["cacheControl"] == "no-store"
    assert described["metadata"]["mode"] == "100644"
    # Google keeps no MD5 of such an object.
    assert "md5chksum" in described["metadata"]
    ((compose),) = asked
    assert compose["deleteSourceObjects"] is True
    assert len(compose["sourceObjects"]) == 3
    # What is put together must be of one class; fake-gcs-server has the class of none of it.
    assert compose["destination"]["storageClass"] == "COLDLINE"
    assert classes == [True] * 3


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\rb", "x" * 1025, "ü" * 513, ".", "..", ".well-known/acme-challenge/x", "a\ud800", ""],
)
async def test_names_that_google_does_not_take(store: GcsStore, name: str) -> None:
    for call in (
        lambda: store.put(name, b"", PLAIN),
        lambda: store.begin_upload(name, PLAIN),
        lambda: store.head(name),
        lambda: store.delete_bulk([name]),
    ):
        with pytest.raises(ObjectRejected):
            await call()


@pytest.mark.parametrize(
    "name", ["a b", "a%2Fb", "a+b?c#d", "a\tb", "ü/\U0001f600", "x" * 900, "a/rewriteTo/b/c/o/d", "a/compose"]
)
async def test_odd_names_that_google_takes(store: GcsStore, peer: GcsPeer, folder: str, name: str) -> None:
    name = f"{folder}/{name}"
    await store.put(name, b"data", PLAIN)
    assert await peer.names(f"{folder}/") == {name}
    head = await store.head(name)
    assert head is not None
    assert await store.copy(head, f"{name}.copy", PLAIN)
    assert await read(store, f"{name}.copy") == b"data"
    assert await store.delete_bulk([name, f"{name}.copy", f"{name}.absent"]) == {}
    assert await peer.names(f"{folder}/") == set()
