"""What goes with the bytes: as rclone and b2sdk see it, within the ten names that B2 has room for."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
from b2sdk import v3

from filerbackup.content import InlineContent
from filerbackup.errors import Unreadable
from filerbackup.sinks.metadata import object_metadata
from filerbackup.sinks.objects.sink import ObjectSink
from tests.contract.contents import MTIME_NS, NOTHING, StreamedContent, file_entry, symlink_entry
from tests.integration.backblaze.conftest import MIB, settings, store_of
from tests.support.b2 import Running
from tests.support.rclone import Remote
from tests.support.sinks import write

MILLIS_NS = MTIME_NS - MTIME_NS % 10**6


def info_of(bucket: v3.Bucket, name: str) -> dict[str, str]:
    found = [version for version, _ in bucket.ls(name) if version.file_name == name]
    return dict(found[0].file_info)


async def test_the_info_is_what_the_format_says(sink: ObjectSink, bucket: v3.Bucket, folder: str) -> None:
    md5 = hashlib.md5(b"data").digest()
    await write(sink, "d/file", md5=md5, mode=0o100640, uid=1000, gid=100)
    assert info_of(bucket, f"{folder}/d/file") == {
        "src_last_modified_millis": str(MTIME_NS // 10**6),
        "filerbackup": "mtime=1600000000.123456789 mode=100640 uid=1000 gid=100 "
        "md5chksum=jXd/OF09/siBXSD3SWAm3A==",
    }

    await write(sink, "d/file", mode=0o100640, uid=1000, gid=100, mtime_ns=MILLIS_NS)
    assert info_of(bucket, f"{folder}/d/file") == {
        "src_last_modified_millis": str(MTIME_NS // 10**6),
        "filerbackup": "mode=100640 uid=1000 gid=100",
    }


async def test_rclone_sees_times_to_the_millisecond(sink: ObjectSink, remote: Remote) -> None:
    await write(sink, "d/file")
    await write(sink, "old", b"", mtime_ns=-1_500_000_000)
    await sink.write("link", symlink_entry("link", "d/file"), NOTHING)
    large = StreamedContent(12 * MIB)
    await sink.write("large", file_entry("large", large.size), large)

    shown = {name: (kept.size, kept.mtime_ns) for name, kept in remote.lsl().items()}
    assert shown == {
        "d/file": (4, MILLIS_NS),
        "old": (0, -1_500_000_000),
        "link.rclonelink": (6, MILLIS_NS),
        "large": (12 * MIB, MILLIS_NS),
    }


async def test_rclone_restores(sink: ObjectSink, remote: Remote, tmp_path: Path) -> None:
    await write(sink, "d/ö ?#%20+", b"odd", md5=hashlib.md5(b"odd").digest())
    await write(sink, "empty", b"")
    large = StreamedContent(12 * MIB + 3)
    await sink.write("d/large", file_entry("d/large", large.size), large)
    await sink.write("d/link", symlink_entry("d/link", "large"), NOTHING)

    remote.restore(tmp_path)

    assert (tmp_path / "d/ö ?#%20+").read_bytes() == b"odd"
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "d/large").read_bytes() == await large.read()
    assert os.readlink(tmp_path / "d/link") == "large"
    assert (tmp_path / "d/large").stat().st_mtime_ns == MILLIS_NS
    remote.check(tmp_path)


async def test_what_rclone_wrote_can_be_compared(sink: ObjectSink, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    os.utime(tmp_path / "file", ns=(MTIME_NS, MTIME_NS))
    remote.run("copy", str(tmp_path), remote.at(remote.path))

    shown = await sink.stat("file")
    assert shown is not None
    assert (shown.size, shown.mtime_ns) == (4, MILLIS_NS)
    assert await sink.matches(shown, file_entry("file", 4, mtime_ns=MILLIS_NS))
    assert not await sink.matches(shown, file_entry("file", 4))


async def test_a_time_that_another_program_set_is_believed(sink: ObjectSink, remote: Remote) -> None:
    entry = await write(sink, "file", md5=hashlib.md5(b"data").digest())
    remote.run("touch", "--timestamp", "2021-03-04T05:06:07.008", remote.at(f"{remote.path}/file"))

    shown = await sink.stat("file")
    assert shown is not None
    assert shown.mtime_ns == 1_614_834_367_008_000_000
    assert not await sink.matches(shown, entry)


@pytest.mark.parametrize("size", [4, 6 * MIB])
async def test_a_listing_tells_all_that_a_comparison_needs(
    b2: Running, folder: str, sink: ObjectSink, size: int
) -> None:
    data = b"x" * size
    entry = await write(sink, "file", data, md5=hashlib.md5(data).digest())
    (listed,) = [listed async for listed in sink.list()]
    heads = b2.api.calls["download"]

    assert (listed.mtime_ns, listed.md5) == (MTIME_NS, entry.md5)
    assert await sink.matches(listed, entry)
    assert not await sink.matches(listed, dataclasses.replace(entry, md5=b"0" * 16))
    assert b2.api.calls["download"] == heads


async def test_ten_names_and_no_more(
    sink: ObjectSink, bucket: v3.Bucket, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    many = {f"X-Amz-Meta-N{number}": b"%d" % number for number in range(12)}
    extended = {"Cache-Control": b"no-cache", "Expires": b"Wed, 21 Oct 2026 07:28:00 GMT", **many}
    await write(sink, "file", extended=extended)

    info = info_of(bucket, f"{folder}/file")
    assert len(info) == 10
    assert info["b2-cache-control"] == "no-cache"
    assert info["b2-expires"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert {"src_last_modified_millis", "filerbackup", "n0"} <= info.keys()
    assert "is left out" in caplog.text


@pytest.mark.parametrize("large", [False, True])
async def test_the_room_of_a_bucket_with_encryption(
    sink: ObjectSink, bucket: v3.Bucket, folder: str, large: bool
) -> None:
    extended = {f"X-Amz-Meta-N{number}": b"y" * 800 for number in range(5)}
    await write(sink, "file", b"x" * (12 * MIB if large else 5), extended=extended)

    info = info_of(bucket, f"{folder}/file")
    assert {"n0", "n1"} <= info.keys()
    assert "n2" not in info


async def test_values_are_unicode(sink: ObjectSink, bucket: v3.Bucket, folder: str) -> None:
    extended = {
        "X-Amz-Meta-Name": "größe 100% + 日本".encode(),
        "X-Amz-Meta-Latin": b"gr\xf6\xdfe",
        "X-Amz-Meta-Control": b"a\nb",
        "X-Amz-Meta-Mode": b"users' own",
        "X-Amz-Meta-Filerbackup": b"mode=777",
        "X-Amz-Meta-B2-Expires": b"never",
    }
    await write(sink, "file", extended=extended)

    info = info_of(bucket, f"{folder}/file")
    assert info["name"] == "größe 100% + 日本"
    assert info["latin"] == "größe"
    assert info["source-mode"] == "users' own"
    assert info["source-filerbackup"] == "mode=777"
    assert info["source-b2-expires"] == "never"
    assert "control" not in info
    assert info["filerbackup"].startswith("mtime=1600000000.123456789 mode=100644 ")


async def test_a_value_that_the_service_does_not_like_costs_no_file(
    b2: Running, folder: str, bucket: v3.Bucket
) -> None:
    async with store_of(settings(b2, folder)) as store:
        b2.api.refused_info = "b2-content-disposition"
        try:
            entry = file_entry("file", 4)
            entry = dataclasses.replace(entry, extended={"Content-Disposition": b"quite; odd"})
            await store.put(f"{folder}/file", b"data", object_metadata(entry, store.traits.dialect))
        finally:
            b2.api.refused_info = ""
    assert info_of(bucket, f"{folder}/file").keys() == {"src_last_modified_millis", "filerbackup"}


async def test_content_is_not_decoded_on_the_way(sink: ObjectSink) -> None:
    """B2 sends `b2-content-encoding` as a header of the download; the bytes are what was put."""
    await write(sink, "file.gz", b"not gzip at all", extended={"Content-Encoding": b"gzip"})
    assert b"".join([block async for block in sink.read("file.gz")]) == b"not gzip at all"


async def test_an_md5_that_is_not_the_datas(sink: ObjectSink) -> None:
    with pytest.raises(Unreadable):
        await sink.write("file", file_entry("file", 4), InlineContent(b"data", b"0" * 16))
    assert await sink.stat("file") is None
