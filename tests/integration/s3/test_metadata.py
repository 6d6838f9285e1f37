"""Metadata: as rclone reads it, and never at the cost of the file."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest
from aiohttp import web

from filerbackup.sinks.s3 import S3Sink
from tests.contract.contents import (
    MTIME_NS,
    NOTHING,
    StreamedContent,
    file_entry,
    symlink_entry,
)
from tests.integration.s3.conftest import BUCKET, MIB, opened, settings
from tests.support import rclone
from tests.support.proxy import Proxy
from tests.support.s3 import (
    ACCESS_KEY,
    SECRET_KEY,
    Peer,
    s3_error,
)
from tests.support.sinks import write
from tests.support.weed import WeedServer


def reader(server: WeedServer, folder: str) -> rclone.Remote:
    path = f"{BUCKET}/{folder}"
    return rclone.s3(server.s3_endpoint, path, access=ACCESS_KEY, secret=SECRET_KEY, provider="SeaweedFS")


async def test_rclone_reads_the_metadata(sink: S3Sink, server: WeedServer, folder: str) -> None:
    await write(
        sink,
        "file",
        mode=stat.S_IFREG | 0o640,
        mtime_ns=981_173_106_789_000_000,
        uid=1000,
        gid=1001,
        mime="text/x-log",
        extended={"X-Amz-Meta-Colour": b"blue"},
    )
    await sink.write("large", file_entry("large", 6 * MIB), StreamedContent(6 * MIB))

    remote = reader(server, folder)
    listed = json.loads(await asyncio.to_thread(remote.run, "lsjson", "-M", remote.at(remote.path)))
    shown = {item["Path"]: item for item in listed}

    assert shown["file"]["ModTime"] == "2001-02-03T04:05:06.789000000Z"
    assert shown["file"]["MimeType"] == "text/x-log"
    metadata = shown["file"]["Metadata"]
    assert {name: metadata[name] for name in ("mode", "uid", "gid", "colour")} == {
        "mode": "100640", "uid": "1000", "gid": "1001", "colour": "blue",
    }  # fmt: skip
    assert metadata["mtime"] == "2001-02-03T04:05:06.789Z"
    assert shown["large"]["ModTime"] == "2020-09-13T12:26:40.123456789Z"


async def test_rclone_alone_restores(sink: S3Sink, server: WeedServer, folder: str, tmp_path: Path) -> None:
    await write(sink, "d/file", b"hello", mode=stat.S_IFREG | 0o600)
    await sink.write("d/link", symlink_entry("d/link", "../somewhere/else"), NOTHING)
    content = StreamedContent(7 * MIB)
    await sink.write(
        "large", dataclasses.replace(file_entry("large", content.size), md5=content.md5), content
    )

    back = tmp_path / "back"
    await asyncio.to_thread(reader(server, folder).restore, back)

    assert (back / "d/file").read_bytes() == b"hello"
    assert (back / "d/file").stat().st_mtime_ns == MTIME_NS
    assert stat.S_IMODE((back / "d/file").stat().st_mode) == 0o600
    assert os.readlink(back / "d/link") == "../somewhere/else"
    assert (back / "large").read_bytes() == await content.read()


async def test_what_s3_clients_sent_to_the_source_is_kept(sink: S3Sink, peer: Peer, folder: str) -> None:
    extended = {
        "X-Amz-Meta-Owner": "Jürgen 日本".encode(),
        "X-Amz-Meta-Mtime": b"12.5",
        "x-amz-meta-bad name": b"x",
        "X-Amz-Tagging-project": b"a b+c",
        "Cache-Control": b"max-age=60",
        "Content-Disposition": 'attachment; filename="ä.txt"'.encode(),
        "Content-Encoding": b"identity-ish",
        "Content-Language": b"de",
        "Seaweed-X-Amz-Owner": b"private",
    }
    for key, data, more in (
        ("small", b"x", {}),
        ("large", bytes(6 * MIB), {}),
        ("odd", b"x", {"Expires": b"Wed, 21 Oct 2037 07:28:00 GMT"}),
    ):
        await write(sink, key, data, extended={**extended, **more}, mime="text/plain")
        head = await peer.head(f"{folder}/{key}")
        assert head is not None
        assert head["ContentType"] == "text/plain"
        assert head["CacheControl"] == "max-age=60"
        assert head["ContentLanguage"] == "de"
        assert head["ContentEncoding"] == "identity-ish"
        assert head["ContentDisposition"].startswith("=?UTF-8?B?")
        assert head["Metadata"]["owner"].startswith("=?UTF-8?B?")
        assert head["Metadata"]["source-mtime"] == "12.5"
        assert head["Metadata"]["mtime"] == "1600000000.123456789"
        assert head["Metadata"].keys() == {"mtime", "mode", "uid", "gid", "owner", "source-mtime"}
        assert await peer.tags(f"{folder}/{key}") == {"project": "a b+c"}
        assert await peer.get(f"{folder}/{key}") == data


async def test_too_much_metadata_costs_no_file(
    sink: S3Sink, peer: Peer, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    await write(
        sink, "file", extended={f"X-Amz-Meta-M{n}": b"v" * 700 for n in range(9)}, mime="té\nxt/plain"
    )

    head = await peer.head(f"{folder}/file")
    assert head is not None
    assert head["ContentType"] == "application/octet-stream"
    assert {"mtime", "m0", "m1"} <= head["Metadata"].keys()
    assert "m8" not in head["Metadata"]
    assert "left out" in caplog.text


async def test_storage_class_and_acl(server: WeedServer, peer: Peer, folder: str) -> None:
    of = settings(server, folder, storage_class="STANDARD_IA")
    async with opened(of) as sink:
        await sink.write_own(".filerbackup/sink.json", b"{}")
        await write(sink, "small")
        await sink.write("large", file_entry("large", 6 * MIB), StreamedContent(6 * MIB))
    async with opened(dataclasses.replace(of, acl="bucket-owner-full-control")) as sink:
        await write(sink, "with-acl")
    for key in ("small", "large", "with-acl"):
        head = await peer.head(f"{folder}/{key}")
        assert head is not None and head["StorageClass"] == "STANDARD_IA", key
    # What the sink itself has to read must not lie in an archive.
    own = await peer.head(f"{folder}/.filerbackup/sink.json")
    assert own is not None and own.get("StorageClass", "STANDARD") == "STANDARD"


async def test_a_service_without_tags(server: WeedServer, peer: Peer, proxy: Proxy, folder: str) -> None:
    async def no_tags(request: web.Request, _body: bytes) -> web.Response | None:
        return s3_error(501, "NotImplemented") if "x-amz-tagging" in request.headers else None

    proxy.fault = no_tags
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        for key in ("one", "two"):
            await write(sink, key, extended={"X-Amz-Tagging-a": b"b"})
        await write(sink, "three", bytes(6 * MIB), extended={"X-Amz-Tagging-a": b"b"})
    assert await peer.names(folder) == {f"{folder}/{key}" for key in ("one", "two", "three")}
