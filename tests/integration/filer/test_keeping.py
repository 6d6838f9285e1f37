"""What the filer sink keeps of an entry: everything but what means something in the source's cluster only."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import stat
import time
from urllib.request import urlopen

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import ObjectRejected
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.source.decode import entry_from_pb
from tests.contract.contents import MTIME_NS, NOTHING, directory_entry, file_entry, symlink_entry
from tests.integration.filer.conftest import live_needles, opened
from tests.support.daemon import wait_until
from tests.support.filer_looks import GO_DIRECTORY, Looks
from tests.support.s3 import peer_of
from tests.support.weed import WeedServer

EXTENDED = {
    "X-Amz-Meta-Colour": b"r\xc3\xb6t",
    "X-Amz-Tagging-team": b"blue",
    "Cache-Control": b"max-age=5",
    "Seaweed-X-Amz-Owner": b"me",
    "xattr-user.raw": bytes(range(256)),
    "empty": b"",
}


def rich_entry(key: str, data: bytes, **changes: object) -> Entry:
    entry = Entry(
        f"/source/{key}",
        EntryKind.FILE,
        size=len(data),
        mode=stat.S_IFREG | stat.S_ISUID | stat.S_ISVTX | 0o751,
        mtime_ns=MTIME_NS,
        crtime_ns=MTIME_NS - 1_000_000_007,
        uid=1234,
        gid=4_000_000_000,
        mime="text/x-odd",
        md5=hashlib.md5(data).digest(),
        chunks=(Chunk("3,01deadbeef", 0, len(data), 17),),
        extended=EXTENDED,
        hard_link_id=b"link",
        remote_size=5,
    )
    return dataclasses.replace(entry, **changes)


async def test_everything_of_an_entry_arrives(weed: WeedServer, looks: Looks, folder: str) -> None:
    data = b"some content"
    entry = rich_entry("d/file", data)
    async with opened(weed, folder) as sink:
        await sink.write("d/file", entry, InlineContent(data, entry.md5))
        shown = await sink.stat("d/file")
        assert shown is not None
        assert await sink.matches(shown, entry)

    kept = looks.entry(f"{folder}/d/file")
    assert kept is not None
    assert looks.content(f"{folder}/d/file") == data
    version = kept.extended.pop("filerbackup-version")
    assert len(version) == 32
    assert dict(kept.extended) == EXTENDED
    assert kept.chunks[0].e_tag == base64.b64encode(entry.md5).decode()
    # weed 4.48 keeps the time of creation in whole seconds.
    assert kept.attributes.crtime == entry.crtime_ns // 10**9
    again = dataclasses.replace(
        entry_from_pb("/source/d", kept),
        chunks=entry.chunks,
        crtime_ns=entry.crtime_ns,
        hard_link_id=b"link",
        remote_size=5,
    )
    assert again == entry
    assert not kept.hard_link_id
    # As a mount has it, and as everything else has it.
    assert kept.attributes.file_mode == 0o5751 | 1 << 23 | 1 << 20


async def test_what_belongs_to_the_source_cluster_is_left_out(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    extended = {
        "x-seaweedfs-sse-s3-key": b"secret",
        "X-SeaweedFS-SSE-C-IV": b"iv",
        "X-Amz-Server-Side-Encryption": b"AES256",
        "filerbackup-version": b"of another backup",
        "x-seaweedfs-checksum-value": b"kept",
    }
    entry = rich_entry("file", b"clear", extended=extended, md5=b"", chunks=())
    async with opened(weed, folder) as sink:
        await sink.write("file", entry, InlineContent(b"clear"))
        shown = await sink.stat("file")
        assert shown is not None
        assert await sink.matches(shown, entry)

    kept = looks.entry(f"{folder}/file")
    assert kept is not None
    assert dict(kept.extended) == {"x-seaweedfs-checksum-value": b"kept"}


@pytest.mark.parametrize(
    "change",
    [
        {"uid": 1},
        {"gid": 1},
        {"mode": stat.S_IFREG | 0o751},
        {"mime": "text/plain"},
        {"extended": {**EXTENDED, "X-Amz-Meta-Colour": b"blue"}},
        {"extended": {}},
        {"mtime_ns": MTIME_NS + 1},
        {"md5": bytes(16)},
        {"ttl_s": 3600},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_every_difference_is_one(weed: WeedServer, folder: str, change: dict[str, object]) -> None:
    entry = rich_entry("file", b"data")
    async with opened(weed, folder) as sink:
        await sink.write("file", entry, InlineContent(b"data"))
        async for shown in sink.list():
            assert await sink.matches(shown, entry)
            assert not await sink.matches(shown, dataclasses.replace(entry, **change))


async def test_an_s3_client_of_the_target_sees_what_the_source_s_saw(weed: WeedServer) -> None:
    async with peer_of(weed.s3_endpoint, "kept-metadata") as peer:
        entry = rich_entry("object", b"body", extended={**EXTENDED, "X-Amz-Meta-Colour": b"red"})
        async with opened(weed, "/buckets/kept-metadata") as sink:
            await sink.write("deep/object", entry, InlineContent(b"body"))
        head = await peer.head("deep/object")
        assert head is not None
        assert head["ETag"].strip('"') == hashlib.md5(b"body").hexdigest()
        assert (head["ContentType"], head["CacheControl"]) == ("text/x-odd", "max-age=5")
        assert head["Metadata"] == {"colour": "red"}
        assert await peer.tags("deep/object") == {"team": "blue"}
        assert await peer.get("deep/object") == b"body"


async def test_a_directory_keeps_a_body_of_its_own(weed: WeedServer, looks: Looks, folder: str) -> None:
    body = b"of the directory"
    plain = directory_entry("d")
    bodied = dataclasses.replace(plain, size=len(body), chunks=(Chunk("3,01deadbeef", 0, len(body), 1),))
    async with opened(weed, folder) as sink:
        await sink.write("d", plain, NOTHING)
        await sink.write("d/file", file_entry("d/file", 1), InlineContent(b"x"))
        await sink.write("d", bodied, InlineContent(body))

        shown = await sink.stat("d")
        assert shown is not None
        assert shown.kind is EntryKind.DIRECTORY
        assert await sink.matches(shown, bodied)
        assert not await sink.matches(shown, plain)
        assert b"".join([block async for block in sink.read("d")]) == body
        assert looks.content(f"{folder}/d/file") == b"x"

        await sink.write("d", plain, NOTHING)
        kept = looks.entry(f"{folder}/d")
        assert kept is not None
        assert not kept.chunks
        assert kept.attributes.file_size == 0
        assert looks.content(f"{folder}/d/file") == b"x"


async def test_directories_that_nobody_told_of_are_plain_and_private(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    async with opened(weed, folder) as sink:
        await sink.write("a/b/link", symlink_entry("a/b/link", "target"), NOTHING)
        await sink.write("a", directory_entry("a", mode=0o2775), NOTHING)

    modes = [looks.entry(f"{folder}/{key}").attributes.file_mode for key in ("a", "a/b")]  # type: ignore[union-attr]
    assert modes == [GO_DIRECTORY | 1 << 22 | 0o2775, GO_DIRECTORY | 0o700]


async def test_a_file_in_the_way_leaves_nothing_of_itself(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    async with opened(weed, folder) as sink:
        await sink.write("x", file_entry("x", 4), InlineContent(b"file"))
        await sink.write("x/y/z", file_entry("x/y/z", 1), InlineContent(b"z"))

    kept = looks.entry(f"{folder}/x")
    assert kept is not None
    assert kept.attributes.file_mode & GO_DIRECTORY
    assert not kept.chunks


async def test_chunks_go_into_the_collection(weed: WeedServer, looks: Looks, folder: str) -> None:
    collection = folder.strip("/").replace("-", "")
    async with opened(weed, folder, collection=collection) as sink:
        await sink.write("file", file_entry("file", 4), InlineContent(b"data"))
        await sink.write("big", file_entry("big", 300_000), InlineContent(b"b" * 300_000))
        kept = looks.entry(f"{folder}/file")
        assert kept is not None
        volume = kept.chunks[0].file_id.partition(",")[0]
        with urlopen(f"http://127.0.0.1:{weed.volume_port}/status") as answer:
            volumes = {str(each["Id"]): each["Collection"] for each in json.load(answer)["Volumes"]}
        assert volumes[volume] == collection

        wait_until(lambda: live_needles(weed, collection) == 2)
        await sink.write("file", file_entry("file", 5), InlineContent(b"newer"))
        await sink.delete_tree("big")
        await sink.delete("file")
        wait_until(lambda: live_needles(weed, collection) == 0)


async def test_a_bucket_named_as_the_collection_is_not_dropped(weed: WeedServer, folder: str) -> None:
    collection = folder.strip("/")
    async with opened(weed, "/buckets", collection=collection) as sink:
        with pytest.raises(ObjectRejected, match="whole collection"):
            await sink.delete_tree(collection)


async def test_the_sink_s_ttl_counts_from_each_copy(weed: WeedServer, looks: Looks, folder: str) -> None:
    entry = dataclasses.replace(rich_entry("file", b"one"), ttl_s=60)
    began_s = int(time.time())
    async with opened(weed, folder, ttl_s=7200) as sink:
        await sink.write("file", entry, InlineContent(b"one"))
        first = looks.entry(f"{folder}/file")
        assert first is not None
        # Made long ago at the source, and an S3 object: it would be gone at once.
        assert looks.content(f"{folder}/file") == b"one"
        assert first.attributes.mtime + first.attributes.ttl_sec - 7200 >= began_s
        shown = await sink.stat("file")
        assert shown is not None
        assert await sink.matches(shown, entry)

        plain = file_entry("plain", 3)
        for data in (b"one", b"two"):
            while int(time.time()) == began_s:
                await asyncio.sleep(0.05)
            began_s = int(time.time())
            await sink.write("plain", plain, InlineContent(data))
            kept = looks.entry(f"{folder}/plain")
            assert kept is not None
            assert kept.attributes.ttl_sec == 7200
            assert kept.attributes.crtime >= began_s
            assert looks.content(f"{folder}/plain") == data
        assert not await sink.update("plain", plain)
        await sink.delete("plain")
        assert [child.name for child in looks.children(folder)] == [".filerbackup", "file"]
        assert looks.children(f"{folder}/.filerbackup/tmp") == []

        await sink.write("d", directory_entry("d"), NOTHING)
        directory = looks.entry(f"{folder}/d")
        assert directory is not None
        assert directory.attributes.ttl_sec == 0


async def test_an_entry_s_own_ttl_counts_from_its_own_creation(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    now_ns = time.time_ns() // 10**9 * 10**9
    older, newer = (
        dataclasses.replace(file_entry("file", 1), ttl_s=3600, crtime_ns=now_ns - age_s * 10**9)
        for age_s in (1800, 60)
    )
    async with opened(weed, folder) as sink:
        for entry in (older, newer):
            await sink.write("file", entry, InlineContent(b"x"))
            kept = looks.entry(f"{folder}/file")
            assert kept is not None
            assert kept.attributes.ttl_sec == 3600
            assert kept.attributes.crtime == entry.crtime_ns // 10**9


async def test_files_under_different_rules_share_no_volume(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    collection = f"r{folder[-8:]}"
    rules = {"locations": [{"locationPrefix": f"{folder}/in/", "collection": collection}]}
    assert weed.put("/etc/seaweedfs/filer.conf", json.dumps(rules).encode()) == 201
    keys = [f"{where}/{number}" for number in range(30) for where in ("in", "out", "out2")]
    async with opened(weed, folder) as sink, asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(sink.write(key, file_entry(key, 4), InlineContent(b"data")))
    weed.delete("/etc/seaweedfs/filer.conf")

    with urlopen(f"http://127.0.0.1:{weed.volume_port}/status") as answer:
        volumes = {str(each["Id"]): each["Collection"] for each in json.load(answer)["Volumes"]}
    for key in keys:
        kept = looks.entry(f"{folder}/{key}")
        assert kept is not None
        used = volumes[kept.chunks[0].file_id.partition(",")[0]]
        assert used == (collection if key.startswith("in/") else "")
