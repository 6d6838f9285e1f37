"""rclone alone reads what is written, and what rclone has written is known again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from filerbackup.content import InlineContent
from filerbackup.events import EntryKind
from filerbackup.sinks.base import Sink
from tests.contract.contents import MTIME_NS, NOTHING, StreamedContent, file_entry, symlink_entry
from tests.integration.gcs.conftest import BUCKET, MIB
from tests.support import rclone
from tests.support.gcs import GcsPeer, GcsServer
from tests.support.sinks import write


@pytest.fixture
def remote(gcs: GcsServer, folder: str) -> rclone.Remote:
    """The folder as rclone shows it."""
    return rclone.gcs(gcs.endpoint, f"{BUCKET}/{folder}")


async def test_rclone_restores_content_times_and_symlinks(
    sink: Sink, remote: rclone.Remote, tmp_path: Path
) -> None:
    large = StreamedContent(3 * MIB + 1)
    await write(sink, "d/small", b"small", mtime_ns=MTIME_NS)
    await write(sink, "ümläut \U0001f600", b"", mtime_ns=1)
    await sink.write("large", file_entry("large", large.size, mtime_ns=MTIME_NS + 1), large)
    await sink.write("d/link", symlink_entry("d/link", "small"), NOTHING)

    remote.restore(tmp_path)

    assert (tmp_path / "d/small").read_bytes() == b"small"
    assert (tmp_path / "large").read_bytes() == await large.read()
    assert (tmp_path / "d/link").readlink() == Path("small")
    times = {path.name: path.lstat().st_mtime_ns for path in tmp_path.rglob("*") if not path.is_dir()}
    assert times == {"small": MTIME_NS, "ümläut \U0001f600": 1, "large": MTIME_NS + 1, "link": MTIME_NS}


async def test_rclone_lists_times_to_the_nanosecond(sink: Sink, remote: rclone.Remote) -> None:
    await write(sink, "file", b"12345", mtime_ns=MTIME_NS)

    listed = remote.run("lsl", remote.at(f"{remote.path}/file"))
    assert listed.split() == ["5", "2020-09-13", "12:26:40.123456789", "file"]
    described = json.loads(remote.run("lsjson", "-M", "--hash", remote.at(f"{remote.path}/file")))
    # rclone knows no metadata on this service, so that mode and owner cannot come back by it.
    assert described[0].get("Metadata") is None
    assert described[0]["Hashes"]["md5"] == hashlib.md5(b"12345").hexdigest()


async def test_what_rclone_has_written_is_known_again(
    sink: Sink, remote: rclone.Remote, peer: GcsPeer, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"by rclone")
    remote.run("copy", "--metadata", str(tmp_path), remote.at(remote.path))

    assert set(await peer.metadata(f"{folder}/file")) == {"mtime", "goog-reserved-file-mtime"}
    (listed,) = [found async for found in sink.list()]
    mtime_ns = (tmp_path / "file").stat().st_mtime_ns
    assert (listed.key, listed.kind, listed.mtime_ns) == ("file", EntryKind.FILE, mtime_ns)
    entry = dataclasses.replace(
        file_entry("file", 9, mtime_ns=mtime_ns), md5=hashlib.md5(b"by rclone").digest()
    )
    assert await sink.matches(listed, entry)
    assert not await sink.matches(listed, dataclasses.replace(entry, md5=hashlib.md5(b"other").digest()))


async def test_rclone_finds_nothing_to_copy(sink: Sink, remote: rclone.Remote, tmp_path: Path) -> None:
    """Its own comparison, by size, time and MD5."""
    (tmp_path / "file").write_bytes(b"the same")
    mtime_ns = (tmp_path / "file").stat().st_mtime_ns
    await sink.write("file", file_entry("file", 8, mtime_ns=mtime_ns), InlineContent(b"the same"))

    remote.check(tmp_path)
    copied = remote.run(
        "copy", "-v", "--use-json-log", "--log-file", str(tmp_path / "../log"),
        str(tmp_path), remote.at(remote.path),
    )  # fmt: skip
    assert copied == ""
    assert "Copied" not in (tmp_path / "../log").read_text()
