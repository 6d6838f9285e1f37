"""What is kept on the filer, through the commands that read and change it."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.configs import general, local_sink
from tests.support.daemon import daemon, wait_until
from tests.support.load import put_many
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.volumes import lose_chunk
from tests.support.weed import WeedServer


def test_a_resume_does_not_copy_again(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/resume/f{i}", b"x") for i in range(40)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/resume") + local_sink(target)) as process:
        assert "40 written" in process.run("catchup").stdout
        weed.put("/resume/new", b"y")
        # Following began a little before the walk did, so what is replayed may be the last seconds.
        time.sleep(6)
        process.run("catchup")
        weed.put("/resume/newer", b"z")
        done = process.run("catchup")
        assert done.returncode == 0
        assert "resumes from" in done.stderr
        written = int(done.stdout.partition("; ")[2].split(" ")[0])
        assert written <= 2, done.stdout


def test_checkpoint_show_set_reset(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/cp/f", b"x")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/cp") + local_sink(target)) as process:
        assert "no checkpoint" in process.run("checkpoint show").stdout
        assert process.run("catchup").returncode == 0
        [shown] = json.loads(process.run("checkpoint show", "--json").stdout)
        assert shown["checkpoint"]["phase"] == "follow"
        assert shown["pair"]["path"] == "/cp"
        moment = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
        assert process.run("checkpoint set", moment).returncode == 0
        [shown] = json.loads(process.run("checkpoint show", "--json").stdout)
        assert abs(shown["checkpoint"]["offset_ns"] / 1e9 - (time.time() - 30)) < 10
        assert process.run("checkpoint set", "yesterday").returncode == 2
        assert process.run("checkpoint reset").returncode == 0
        assert "no checkpoint" in process.run("checkpoint show").stdout
        assert "no checkpoint" in process.run("catchup").stderr

        process.start()
        wait_until(lambda: process.status()[0]["state"] == "following", what=lambda: process.log)
        refused = process.run("checkpoint reset")
        assert refused.returncode == 1
        assert "stop it first" in refused.stderr
        waiting = process.run("catchup", "--connect-timeout", "5s", timeout=90)
        assert waiting.returncode == 1
        assert "works on this folder and sink" in waiting.stderr


def test_a_lost_chunk_becomes_a_dead_letter_and_the_rest_arrives(
    own_weed: WeedServer, tmp_path: Path
) -> None:
    """One bad file among 200 good ones; repaired later, it is copied by a retry."""
    own_weed.put("/data/bad", b"b" * 5000)
    lose_chunk(own_weed, "/data/bad")
    put_many(own_weed, ((f"/data/good{i:03}", b"g" * 100) for i in range(200)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(own_weed) + local_sink(target)) as process:
        done = process.run("catchup")
        assert done.returncode == 1
        assert "1 DEAD LETTERS" in done.stdout
        assert len(local_tree(target)) == 200
        assert not (target / "bad").exists()
        [letter] = json.loads(process.run("dead-letters list", "--json").stdout)
        assert letter["path"] == "/data/bad"
        assert "gone" in letter["reason"]
        assert "/data/bad" in process.run("dead-letters list").stdout
        assert process.status()[0]["dead_letters"] == 1

        # Nothing has changed: a retry fails again and the letter stays.
        assert process.run("dead-letters retry", letter["id"]).returncode == 0
        assert process.run("catchup").returncode == 1
        [letter] = json.loads(process.run("dead-letters list", "--json").stdout)
        assert not letter["retry_requested"]

        # A good new version settles it without anybody asking.
        own_weed.put("/data/bad", b"good again")
        assert process.run("catchup").returncode == 0
        assert (target / "bad").read_bytes() == b"good again"
        assert json.loads(process.run("dead-letters list", "--json").stdout) == []


def test_dead_letters_can_be_dropped(own_weed: WeedServer, tmp_path: Path) -> None:
    own_weed.put("/data/bad", b"b" * 5000)
    lose_chunk(own_weed, "/data/bad")
    with daemon(tmp_path / "d", general(own_weed) + local_sink(tmp_path / "copy")) as process:
        assert process.run("catchup").returncode == 1
        assert process.run("dead-letters drop").returncode == 2
        assert process.run("dead-letters drop", "0123456789abcdef").returncode == 2
        assert process.run("dead-letters drop", "--all").returncode == 0
        assert "0 dead letters" in process.run("dead-letters list").stdout


def test_status_needs_no_configuration_of_the_sinks(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/anyhost/f", b"x")
    with daemon(tmp_path / "d", general(weed, "/anyhost") + local_sink(tmp_path / "copy")) as process:
        assert process.run("catchup").returncode == 0
    with daemon(tmp_path / "elsewhere", general(weed, "/")) as process:
        rows = process.status()
        assert str(tmp_path / "copy") in " ".join(str(row["sink"]) for row in rows)
        shown = process.run("status", "--path", "/anyhost")
        assert "/anyhost -> local:" in shown.stdout
        assert "dead letters  0" in shown.stdout


def test_takes_over_where_weed_stopped(weed: WeedServer, tmp_path: Path) -> None:
    """Both forms of weed's checkpoint key, read from a running filer."""
    import struct

    import grpc

    from filerbackup.filer.stubs import filer_pb2 as pb
    from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
    from tests.support.weed_backup import run_weed_backup

    target = tmp_path / "copy"
    put_many(weed, ((f"/adopt/f{i}", b"x" * 10) for i in range(20)))
    config = general(weed, "/adopt") + local_sink(target)
    with daemon(tmp_path / "d", config) as process:
        run_weed_backup(weed, process.config, "/adopt", until=lambda: len(local_tree(target)) >= 20)
        weed.put("/adopt/later", b"after weed")
        done = process.run("catchup", "--adopt-weed-checkpoint")
        assert done.returncode == 0, done.stderr
        assert "takes over where weed filer.backup stopped" in done.stderr
        assert (target / "later").read_bytes() == b"after weed"
        assert "--claim" in done.stderr
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        import hashlib

        stub = SeaweedFilerStub(channel)
        identity = f"/adopt\0local\0{target}".encode()
        key = b"backup." + hashlib.md5(identity).digest()[4:8]
        raw = stub.KvGet(pb.KvGetRequest(key=key)).value
        assert abs(struct.unpack(">Q", raw)[0] / 1e9 - time.time()) < 600


def test_a_gap_in_the_log_is_healed_by_a_snapshot(own_weed: WeedServer, tmp_path: Path) -> None:
    put_many(own_weed, ((f"/data/f{i}", b"x") for i in range(10)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(own_weed) + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        long_ago = (datetime.now(UTC) - timedelta(days=30)).isoformat()
        assert process.run("checkpoint set", long_ago).returncode == 0
        own_weed.put("/data/new", b"y")
        (target / "f3").unlink()
        (target / "stray").write_bytes(b"deleted in the source while the log was lost")
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        assert "gap in the change log" in done.stderr
        assert difference(filer_tree(own_weed, "/data"), local_tree(target)) == ""


def test_an_emptied_sink_is_filled_again(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/emptied/f{i}", b"x") for i in range(10)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/emptied") + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        shutil.rmtree(target)
        weed.put("/emptied/new", b"y")
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        assert "emptied, replaced" in done.stderr
        assert difference(filer_tree(weed, "/emptied"), local_tree(target)) == ""


def test_a_comparison_finds_what_a_hand_did_in_the_sink(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/hand/d/f{i}", b"x" * i) for i in range(20)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/hand") + local_sink(target)) as process:
        process.start("--reconcile-every", "2s")
        wait_until(lambda: len(local_tree(target)) == 21, what=lambda: process.log)
        (target / "d/f3").unlink()
        (target / "d/f4").write_bytes(b"spoiled")
        (target / "stray").write_bytes(b"not of the source")
        wait_until(
            lambda: not difference(filer_tree(weed, "/hand"), local_tree(target)), what=lambda: process.log
        )
