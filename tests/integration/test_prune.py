"""Old days of dated copies go, and never the only copy of what the filer still has."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.test_layouts import put_on
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import daemon
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import local_tree
from tests.support.weed import WeedServer


def day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).date().isoformat()


def test_old_days_go_but_not_what_is_still_live(weed: WeedServer, tmp_path: Path) -> None:
    bucket, target = make_bucket(weed, "pruned"), tmp_path / "copy"
    config = (
        general(weed, "/pruned")
        + local_sink(target, is_incremental=True)
        + s3_sink(weed, bucket, is_incremental=True)
    )
    put_on(weed, day(90), "/pruned/d", "untouched", b"as it was written then")
    put_on(weed, day(90), "/pruned/d", "changed", b"old")
    put_on(weed, day(60), "/pruned/gone", "deleted", b"deleted since")
    put_on(weed, day(31), "/pruned/gone", "deleted too", b"deleted since")
    put_on(weed, day(2), "/pruned/d", "recent", b"recent")
    with daemon(tmp_path / "d", config) as process:
        assert process.run("catchup").returncode == 0
        put_on(weed, day(1), "/pruned/d", "changed", b"new")
        weed.delete("/pruned/gone/deleted")
        weed.delete("/pruned/gone/deleted too")
        assert process.run("catchup").returncode == 0
        before = set(s3_tree(weed, bucket))
        assert len(before) == 6

        arguments = ("prune", "--keep-days", "30", "--keep-at-least", "3")
        planned = process.run(*arguments, "--dry-run")
        assert planned.returncode == 0, planned.stderr
        assert f"{day(60)}: 1 files (13 bytes) would be removed, 0 kept" in planned.stdout
        assert set(s3_tree(weed, bucket)) == before, "a dry run removes nothing"

        done = process.run(*arguments)
        assert done.returncode == 0, done.stderr
        left = {
            f"{day(90)}/d/untouched",
            f"{day(31)}/gone/deleted too",
            f"{day(2)}/d/recent",
            f"{day(1)}/d/changed",
        }
        assert set(s3_tree(weed, bucket)) == left, "the newest three days always stay"
        assert set(local_tree(target, directories=False)) == left
        assert not (target / day(60)).exists(), "no empty directory of a day stays"

        done = process.run("prune", "--keep-days", "30", "--keep-at-least", "1", "--sink", "local")
        assert f"{day(31)}: 1 files (13 bytes) removed, 0 kept" in done.stdout
        assert (target / day(90) / "d" / "untouched").read_bytes() == b"as it was written then"


def test_nothing_is_pruned_for_want_of_a_newer_copy_or_by_another_cluster(
    weed: WeedServer, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    put_on(weed, day(90), "/kept", "edited today", b"the only copy")
    put_on(weed, day(95), "/kept", "deleted", b"1")
    put_on(weed, day(2), "/kept", "recent", b"2")
    with daemon(tmp_path / "d", general(weed, "/kept") + local_sink(target, is_incremental=True)) as process:
        assert process.run("catchup").returncode == 0
        put_on(weed, day(0), "/kept", "edited today", b"not copied yet")
        weed.delete("/kept/deleted")
        arguments = ("prune", "--keep-days", "30", "--keep-at-least", "1")

        mark = target / ".filerbackup" / "sink.json"
        ours = mark.read_text()
        record = json.loads(ours)
        record["source"]["cluster"] = "0123456789abcdef"
        mark.write_text(json.dumps(record))
        done = process.run(*arguments)
        assert done.returncode == 2
        assert "of cluster" in done.stderr
        assert len(local_tree(target, directories=False)) == 3

        mark.write_text(ours)
        done = process.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert set(local_tree(target, directories=False)) == {
            f"{day(90)}/edited today",
            f"{day(2)}/recent",
        }


def test_nothing_is_pruned_where_the_mark_is_missing_or_of_a_mirror(weed: WeedServer, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    put_on(weed, day(90), "/unpruned", "f", b"1")
    (target / day(400)).mkdir(parents=True)
    (target / day(400) / "mine").write_text("of another program")
    with daemon(
        tmp_path / "d", general(weed, "/unpruned") + local_sink(target, is_incremental=True)
    ) as process:
        done = process.run("prune", "--keep-days", "30")
        assert done.returncode == 2
        assert "not marked as a copy of ours" in done.stderr
    with daemon(tmp_path / "m", general(weed, "/unpruned") + local_sink(target)) as process:
        done = process.run("prune", "--keep-days", "30")
        assert done.returncode == 2
        assert "is_incremental" in done.stderr
    assert (target / day(400) / "mine").exists()
