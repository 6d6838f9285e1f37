"""Layouts and the snapshot's sweep on a real filer and real sinks."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import daemon
from tests.support.load import put_many
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer


def put_on(weed: WeedServer, day: str, directory: str, name: str, data: bytes) -> None:
    """Create or overwrite a file as if on that day."""
    seconds = int(datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC).timestamp())
    attributes = pb.FuseAttributes(file_size=len(data), mtime=seconds, crtime=seconds, file_mode=0o644)
    entry = pb.Entry(name=name, content=data, attributes=attributes)
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        answer = SeaweedFilerStub(channel).CreateEntry(
            pb.CreateEntryRequest(directory=directory, entry=entry)
        )
    assert not answer.error


def test_the_worked_example_of_dated_copies(weed: WeedServer, tmp_path: Path) -> None:
    """Two days of changes; each day's directory holds what was written on it, and nothing is deleted."""
    bucket = make_bucket(weed, "dated")
    target = tmp_path / "copy"
    config = (
        general(weed, "/dated")
        + local_sink(target, is_incremental=True)
        + s3_sink(weed, bucket, is_incremental=True)
    )
    first = "2021-03-01"
    for name in ("file1", "file2", "file3"):
        put_on(weed, first, "/dated/dir1", name, f"{name} of the first day".encode())
    with daemon(tmp_path / "d", config) as process:
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        put_on(weed, "2021-03-02", "/dated/dir1", "file1", b"file1 modified")
        weed.delete("/dated/dir1/file3")
        put_on(weed, "2021-03-02", "/dated/dir1", "file4", b"file4 created")
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    expected = {
        "2021-03-01/dir1/file1", "2021-03-01/dir1/file2", "2021-03-01/dir1/file3",
        "2021-03-02/dir1/file1", "2021-03-02/dir1/file4",
    }  # fmt: skip
    assert set(local_tree(target, directories=False)) == expected
    assert set(s3_tree(weed, bucket)) == expected
    assert (target / "2021-03-01/dir1/file1").read_bytes() == b"file1 of the first day"
    assert (target / "2021-03-02/dir1/file1").read_bytes() == b"file1 modified"


def test_the_day_is_that_of_the_configured_time_zone(weed: WeedServer, tmp_path: Path) -> None:
    put_on(weed, "2021-03-01", "/zone", "noon-utc", b"x")
    target = tmp_path / "copy"
    config = general(weed, "/zone") + local_sink(target, is_incremental=True, timezone="Pacific/Kiritimati")
    with daemon(tmp_path / "d", config) as process:
        assert process.run("catchup").returncode == 0
    assert set(local_tree(target, directories=False)) == {"2021-03-02/noon-utc"}


def test_no_delete_keeps_what_was_deleted(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, [("/keep/a", b"a"), ("/keep/b", b"b"), ("/keep/d/c", b"c")])
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/keep") + local_sink(target)) as process:
        assert process.run("catchup", "--no-delete").returncode == 0
        weed.delete("/keep/a")
        weed.rename("/keep/b", "/keep/renamed")
        weed.delete("/keep/d", recursive=True)
        assert process.run("catchup", "--no-delete").returncode == 0
        assert set(local_tree(target, directories=False)) == {"a", "b", "renamed", "d/c"}


def test_moves_across_the_edge_of_the_watched_folder(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, [("/edge/in/stays", b"1"), ("/edge/in/leaves", b"2"), ("/edge/out/comes", b"3")])
    put_many(weed, [("/edge/in2/namesake", b"4"), ("/edge/out/tree/x", b"5"), ("/edge/in/tree2/y", b"6")])
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/edge/in") + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        weed.rename("/edge/in/leaves", "/edge/out/leaves")
        weed.rename("/edge/out/comes", "/edge/in/comes")
        weed.rename("/edge/out/tree", "/edge/in/tree")
        weed.rename("/edge/in/tree2", "/edge/out/tree2")
        done = process.run("catchup")
        assert done.returncode == 0
        assert "no checkpoint" not in done.stderr
    assert difference(filer_tree(weed, "/edge/in"), local_tree(target)) == ""
    assert set(local_tree(target, directories=False)) == {"stays", "comes", "tree/x"}


def test_excludes_and_what_is_never_content(weed: WeedServer, tmp_path: Path) -> None:
    put_many(
        weed,
        [
            ("/ex/a.tmp", b"1"), ("/ex/a.txt", b"2"), ("/ex/cache/x", b"3"), ("/ex/deep/cache/y", b"4"),
            ("/ex/archive/2020/z", b"5"), ("/ex/archive/2021/z", b"6"),
        ],
    )  # fmt: skip
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/ex") + local_sink(target)) as process:
        excludes = (
            "--exclude-name",
            "*.tmp",
            "--exclude-path",
            "cache",
            "--exclude-path",
            "/ex/archive/2020",
        )
        assert process.run("catchup", *excludes).returncode == 0
        assert set(local_tree(target, directories=False)) == {"a.txt", "archive/2021/z"}
        weed.rename("/ex/a.txt", "/ex/a.tmp2")
        weed.rename("/ex/archive/2021/z", "/ex/cache/z")
        assert process.run("catchup", *excludes).returncode == 0
        assert set(local_tree(target, directories=False)) == {"a.tmp2"}


def test_the_whole_filer_without_its_own_log_and_our_state(own_weed: WeedServer, tmp_path: Path) -> None:
    make_bucket(own_weed, "bucket")
    put_many(own_weed, [("/a/x", b"1"), ("/buckets/bucket/o", b"3")])
    put_many(own_weed, [("/buckets/bucket/.uploads/u/0001.part", b"2")])
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(own_weed, "/") + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        own_weed.put("/a/y", b"4")
        assert process.run("catchup", "--start", "log").returncode == 0
    found = set(local_tree(target, directories=False))
    assert {"a/x", "a/y", "buckets/bucket/o"} <= found
    assert not [path for path in found if path.startswith(("etc/filerbackup", "topics/.system/log"))]
    assert not [path for path in found if ".uploads" in path]


def test_a_snapshot_sweeps_only_what_is_ours(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, [("/sweep/a", b"a"), ("/sweep/d/b", b"b")])
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with daemon(tmp_path / "d", general(weed, "/sweep") + local_sink(ours)) as process:
        assert process.run("catchup").returncode == 0
        mark = json.loads((ours / ".filerbackup/sink.json").read_text())
        assert mark["version"] == 1 and mark["source"]["path"] == "/sweep" and mark["layout"] == "mirror"
        (ours / "stray").write_bytes(b"a hand in the sink")
        (ours / "d/stray").write_bytes(b"another")
        (ours / "stray-tree/x").parent.mkdir()
        (ours / "stray-tree/x").write_bytes(b"more")
        os.remove(ours / "a")
        assert process.run("catchup", "--start", "snapshot").returncode == 0
        assert difference(filer_tree(weed, "/sweep"), local_tree(ours)) == ""
    theirs.mkdir()
    (theirs / "precious").write_bytes(b"not a copy")
    with daemon(tmp_path / "e", general(weed, "/sweep") + local_sink(theirs)) as process:
        done = process.run("catchup")
        assert done.returncode == 0
        assert "--claim" in done.stderr
        assert (theirs / "precious").exists()
        assert (theirs / "a").read_bytes() == b"a"
        assert process.run("catchup", "--start", "snapshot", "--claim").returncode == 0
        assert not (theirs / "precious").exists()


def test_a_snapshot_makes_room_for_a_file_where_a_directory_was(weed: WeedServer, tmp_path: Path) -> None:
    """The walk comes before the sweep, and SeaweedFS's gateway takes no parts of "d" while "d/x" is there."""
    put_many(weed, [("/room/d/x", b"x"), ("/room/d/deep/y", b"y"), ("/room/e", b"e")])
    bucket = make_bucket(weed, "room")
    with daemon(tmp_path / "d", general(weed, "/room") + s3_sink(weed, bucket, part_size="5MiB")) as process:
        assert process.run("catchup").returncode == 0
        weed.delete("/room/d", recursive=True)
        weed.put("/room/d", b"d" * (6 << 20))
        done = process.run("catchup", "--start", "snapshot")
        assert done.returncode == 0, done.stderr
    assert difference(filer_tree(weed, "/room"), s3_tree(weed, bucket)) == ""


def test_a_sink_of_another_source_is_refused(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, [("/src1/a", b"a"), ("/src2/b", b"b")])
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/src1") + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
    with daemon(tmp_path / "e", general(weed, "/src2") + local_sink(target)) as process:
        done = process.run("catchup")
        assert done.returncode == 2
        assert "/src1" in done.stderr and "/src2" in done.stderr
    assert set(local_tree(target)) == {"a"}


def test_a_directory_with_content_of_its_own_is_never_lost_in_silence(
    weed: WeedServer, tmp_path: Path
) -> None:
    """The filer keeps the bytes of a file below which something is created; a directory on disk cannot."""
    files = [("/body/f", b"bytes of f"), ("/body/f/below", b"1"), ("/body/other", b"2")]
    put_many(weed, files, threads=1)
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/body") + local_sink(target)) as process:
        done = process.run("catchup")
        assert done.returncode == 1
        [letter] = json.loads(process.run("dead-letters list", "--json").stdout)
        assert letter["path"] == "/body/f"
        assert "10 bytes of content of its own" in letter["reason"]
    assert set(local_tree(target, directories=False)) == {"f/below", "other"}
