"""The delete guard on a real filer: what is held, who decides, and what survives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.load import put_many
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer

GUARD = ("--delete-guard", "100", "--reconcile-every", "0")


def fill(weed: WeedServer, folder: str, files: int = 300) -> None:
    put_many(weed, ((f"{folder}/many/f{i:03}", b"%d" % i) for i in range(files)))
    weed.put(f"{folder}/other", b"o")


def held(process: Daemon) -> int:
    return int(str(process.status()[0]["deletes_held"]))


def test_a_mass_delete_is_held_until_it_is_allowed(weed: WeedServer, tmp_path: Path) -> None:
    fill(weed, "/guarded")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/guarded") + local_sink(target)) as process:
        assert process.run("catchup", *GUARD).returncode == 0
        process.start(*GUARD)
        wait_until(lambda: process.status()[0]["state"] == "following", what=lambda: process.log)
        weed.delete("/guarded/many", recursive=True)
        # 300 files and their directory, of which 100 may go.
        wait_until(lambda: held(process) == 201, what=lambda: process.log)
        assert len(local_tree(target / "many")) == 200
        weed.put("/guarded/later", b"l")
        weed.put("/guarded/many/f299", b"written again")
        wait_until(
            lambda: (target / "later").exists() and (target / "many/f299").read_bytes() == b"written again",
            what=lambda: process.log,
        )

        process.kill()
        process.start(*GUARD)
        wait_until(lambda: process.log.count("resumes from") >= 2, what=lambda: process.log)
        weed.delete("/guarded/later")
        wait_until(lambda: held(process) == 202, what=lambda: process.log)
        assert len(local_tree(target / "many")) == 200

        shown = process.run("status").stdout
        assert "deletes held  202 since 20" in shown and "filerbackup deletes allow|discard" in shown
        listed = process.run("deletes list", "--count", "3").stdout
        assert "202 deletes held since" in listed and "… and 199 more" in listed
        assert listed.count("/guarded/many/f") == 3

        asked = process.run("deletes allow")
        assert asked.returncode == 0 and "202 deletes will be carried out" in asked.stdout
        wait_until(
            lambda: not difference(filer_tree(weed, "/guarded"), local_tree(target)),
            what=lambda: difference(filer_tree(weed, "/guarded"), local_tree(target)) + process.log,
        )
        assert (target / "many/f299").read_bytes() == b"written again"
        wait_until(lambda: held(process) == 0, what=lambda: process.log)
        # One line when it tripped, and one after the restart.
        assert process.log.count("deletes within") == 1
        assert process.log.count("deletes are held (") == 1
        assert process.stop() == 0
        assert "no deletes are held" in process.run("deletes allow").stdout


def test_what_is_discarded_stays_through_a_comparison(weed: WeedServer, tmp_path: Path) -> None:
    fill(weed, "/discarded", 150)
    weed.put("/discarded/many/new\nline\x1b[2J", b"hostile")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/discarded") + local_sink(target)) as process:
        assert process.run("catchup", *GUARD).returncode == 0
        weed.delete("/discarded/many", recursive=True)
        done = process.run("catchup", *GUARD)
        assert done.returncode == 1, done.stderr
        assert "52 DELETES HELD" in done.stdout and "filerbackup deletes list" in done.stdout
        left = local_tree(target)
        assert len(left) == 53
        # A comparison finds nothing new to hold, and a second run says the same again.
        done = process.run("catchup", *GUARD, "--start", "snapshot")
        assert done.returncode == 1 and "52 DELETES HELD" in done.stdout
        assert local_tree(target) == left

        assert "52 deletes will be discarded" in process.run("deletes discard").stdout
        listed = process.run("deletes list", "--count", "1000").stdout
        assert "asked for: discard" in listed
        assert "\x1b" not in listed and "many/new\nline" not in listed and "/discarded/many/new" in listed
        for start in ("auto", "snapshot", "log"):
            done = process.run("catchup", *GUARD, "--start", start)
            assert done.returncode == 0, done.stderr
            assert local_tree(target) == left, start
        [row] = json.loads(process.run("deletes list", "--json").stdout)
        assert (row["held"], row["kept"], row["decision"]) == (0, 52, "")

        assert process.run("deletes allow", "--kept").returncode == 0
        assert process.run("catchup", *GUARD).returncode == 0
        assert difference(filer_tree(weed, "/discarded"), local_tree(target)) == ""


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_folder_that_is_suddenly_empty(weed: WeedServer, tmp_path: Path, kind: str) -> None:
    """A comparison with it would clear the whole copy; the log may know nothing of it."""
    folder = f"/emptied-{kind}"
    fill(weed, folder)
    target, bucket = tmp_path / "copy", make_bucket(weed, f"guarded-{kind}")
    sink = local_sink(target) if kind == "local" else s3_sink(weed, bucket)
    with daemon(tmp_path / "d", general(weed, folder) + sink) as process:
        assert process.run("catchup", *GUARD).returncode == 0
        weed.delete(f"{folder}/many", recursive=True)
        weed.delete(f"{folder}/other")
        assert process.run("checkpoint reset").returncode == 0

        def files() -> int:
            tree = local_tree(target, directories=False) if kind == "local" else s3_tree(weed, bucket)
            return len(tree)

        done = process.run("catchup", "--delete-guard", "10%", "--start", "snapshot")
        assert done.returncode == 1, done.stderr
        # A hundred may go; what the log repeats of the last seconds may have brought some of them back.
        assert files() >= 201
        assert process.run("deletes allow").returncode == 0
        assert process.run("catchup", "--delete-guard", "10%").returncode == 0
        assert files() == 0


def test_a_dry_run_holds_nothing(weed: WeedServer, tmp_path: Path) -> None:
    fill(weed, "/dryguard", 120)
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/dryguard") + local_sink(target)) as process:
        assert process.run("catchup", *GUARD).returncode == 0
        weed.delete("/dryguard/many", recursive=True)
        done = process.run("catchup", *GUARD, "--dry-run")
        assert "21 DELETES would be HELD" in done.stdout, done.stderr
        assert "0 deletes held" in process.run("deletes list").stdout
        assert process.run("deletes list", "--count", "-1").returncode == 2
