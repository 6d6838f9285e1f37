"""Symlinks and directories with content: objects with a name beside the key's own."""

from __future__ import annotations

import dataclasses

import pytest
from aiohttp import web
from multidict import CIMultiDict

from filerbackup.content import InlineContent
from filerbackup.errors import (
    ObjectRejected,
)
from filerbackup.events import Entry, EntryKind
from filerbackup.sinks.s3 import S3Sink
from tests.contract.contents import (
    MTIME_NS,
    NOTHING,
    file_entry,
    symlink_entry,
)
from tests.integration.s3.conftest import opened, refusal, settings
from tests.support.proxy import Proxy
from tests.support.s3 import (
    Peer,
)
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer


async def test_a_file_that_looks_like_a_symlink_is_refused(sink: S3Sink, peer: Peer, folder: str) -> None:
    await sink.write("x", symlink_entry("x", "target"), NOTHING)
    for key in ("x.rclonelink", "y.rclonelink"):
        with pytest.raises(ObjectRejected, match="symlinks of this sink"):
            await write(sink, key)
    await sink.delete("x.rclonelink")
    await sink.delete_tree("x.rclonelink")

    assert await peer.get(f"{folder}/x.rclonelink") == b"target"
    assert [(each.key, each.kind) async for each in sink.list()] == [("x", EntryKind.SYMLINK)]
    assert await sink.stat("x.rclonelink") is None


async def test_files_that_rclone_has_put_into_the_source(server: WeedServer, peer: Peer, folder: str) -> None:
    """Where such files came first they are files, and a symlink is refused: nothing is ambiguous."""
    async with opened(settings(server, folder)) as sink:
        for key in ("a.rclonelink", "a-1", "a"):
            await write(sink, key, key.encode())
    async with opened(settings(server, folder)) as sink:
        with pytest.raises(ObjectRejected, match="symlink"):
            await sink.write("b", symlink_entry("b", "target"), NOTHING)
        assert await keys(sink) == ["a", "a-1", "a.rclonelink"]
        await sink.delete("a")
        assert b"".join([block async for block in sink.read("a.rclonelink")]) == b"a.rclonelink"
        await sink.delete("a.rclonelink")
        assert await keys(sink) == ["a-1"]


async def test_symlinks_are_known_to_every_host(server: WeedServer, peer: Peer, folder: str) -> None:
    """What one process wrote another one finds, replaces and removes."""
    async with opened(settings(server, folder)) as sink:
        await write(sink, "beside")
        for key in ("a", "b", "c"):
            await sink.write(key, symlink_entry(key, "target"), NOTHING)
    async with opened(settings(server, folder)) as sink:
        assert await keys(sink) == ["a", "b", "beside", "c"]
        assert b"".join([block async for block in sink.read("a")]) == b"target"
        await write(sink, "a", b"a file now")
        await sink.delete("b")
        assert [(each.key, each.kind) async for each in sink.list()] == [
            ("a", EntryKind.FILE), ("beside", EntryKind.FILE), ("c", EntryKind.SYMLINK),
        ]  # fmt: skip
    assert {name for name in await peer.names(folder) if ".filerbackup" not in name} == {
        f"{folder}/a", f"{folder}/beside", f"{folder}/c.rclonelink",
    }  # fmt: skip


async def test_a_note_that_cannot_be_read_stops_the_sink(server: WeedServer, peer: Peer, folder: str) -> None:
    await peer.put(f"{folder}/.filerbackup/s3.json", b"not json")
    error = await refusal(settings(server, folder))
    assert "s3.json" in str(error)


async def test_links_are_listed_where_their_keys_belong(sink: S3Sink) -> None:
    files = ["photo.jpg", "photo/x", "photo-1", "photo.rz", "a b", "a", "zz-1/y", "zz.d/y"]
    links = ["photo", "a ", "zz", "photo/", "b"]
    links = [key for key in links if not key.endswith("/")]
    for key in files:
        await write(sink, key)
    for key in links:
        await sink.write(key, symlink_entry(key, "t"), NOTHING)
    everything = sorted(files + links, key=str.encode)
    assert await keys(sink) == everything
    for start in everything:
        assert await keys(sink, start_after=start) == everything[everything.index(start) + 1 :]
    assert await keys(sink, "photo") == [key for key in everything if key.startswith("photo")]
    assert await keys(sink, "photo.r") == ["photo.rz"]


async def test_a_directory_with_content(server: WeedServer, peer: Peer, proxy: Proxy, folder: str) -> None:
    """SeaweedFS's gateway gives back no bytes for such an object; a proxy lends it the right size."""
    entry = Entry("/d", EntryKind.DIRECTORY, mtime_ns=MTIME_NS, content=b"body", size=4)
    async with opened(settings(server, folder)) as sink:
        with pytest.raises(ObjectRejected, match="slash"):
            await sink.write("d", entry, InlineContent(b"body"))
        assert await peer.names(f"{folder}/d") == set()

    def lend(request: web.Request, headers: CIMultiDict[str]) -> None:
        if request.method == "HEAD" and request.path.endswith("/d/"):
            headers["Content-Length"] = "4"

    proxy.change = lend
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await sink.write("d", entry, InlineContent(b"body"))
        assert f"{folder}/d/" in await peer.names(folder)
        await write(sink, "d/below")
        await sink.delete("d")
        assert f"{folder}/d/" not in await peer.names(folder)
        assert await peer.get(f"{folder}/d/below") == b"data"
        await sink.write("d", dataclasses.replace(entry, content=b""), NOTHING)
        await sink.delete_tree("d")
        assert {name for name in await peer.names(folder) if ".filerbackup" not in name} == set()


@pytest.mark.parametrize("is_link", [False, True])
async def test_a_replacement_that_did_not_end_is_seen_and_mended(
    server: WeedServer, peer: Peer, folder: str, is_link: bool
) -> None:
    async with opened(settings(server, folder)) as sink:
        entry = symlink_entry("x", "target") if is_link else file_entry("x", 4)
        for name in ("x", "z"):
            await sink.write(name, symlink_entry(name, "target"), NOTHING)
        if is_link:
            await peer.put(f"{folder}/x", b"data")
        else:
            await write(sink, "x", b"data")
            await peer.put(f"{folder}/x.rclonelink", b"target")
        listed = [each async for each in sink.list()]
        assert [each.key for each in listed] == ["x", "z"]
        assert not await sink.matches(listed[0], entry)

        await sink.write("x", entry, NOTHING if is_link else InlineContent(b"data"))
        listed = [each async for each in sink.list()]
        assert [(each.key, each.kind) for each in listed] == [("x", entry.kind), ("z", EntryKind.SYMLINK)]
        assert await sink.matches(listed[0], entry)
