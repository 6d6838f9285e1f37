"""The main job on real input: a real filer into a real directory, through the command a user starts."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.configs import general, local_sink
from tests.support.daemon import daemon, wait_until
from tests.support.load import ODD_NAMES, put_many
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer


def test_catchup_copies_the_tree(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/one/d{i % 7}/f{i}", b"x" * (i * 37 % 9000)) for i in range(300)))
    weed.put("/one/big", bytes(range(256)) * 60_000, query="maxMB=1")
    weed.put("/one/empty", b"")
    weed.put("/one/text.txt", b"text that weed compresses " * 1000, headers={"Content-Type": "text/plain"})
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/one") + local_sink(target)) as process:
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        assert difference(filer_tree(weed, "/one"), local_tree(target)) == ""

        weed.put("/one/d1/f1", b"changed")
        weed.rename("/one/d2", "/one/elsewhere")
        weed.delete("/one/d3", recursive=True)
        weed.rename("/one/d4/f4", "/one/d5/moved")
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        assert difference(filer_tree(weed, "/one"), local_tree(target)) == ""


def test_run_follows_and_stops(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/two/f{i}", b"y" * 100) for i in range(50)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/two") + local_sink(target)) as process:
        process.start()
        wait_until(lambda: len(local_tree(target)) == 50, what=lambda: process.log)
        for round_ in range(5):
            put_many(weed, ((f"/two/r{round_}/f{i}", b"z" * round_) for i in range(20)))
            weed.delete(f"/two/f{round_}")
        wait_until(
            lambda: not difference(filer_tree(weed, "/two"), local_tree(target)), what=lambda: process.log
        )
        wait_until(lambda: process.status()[0]["state"] == "following", what=lambda: process.log)
        [row] = process.status()
        assert row["phase"] == "follow"
        assert row["dead_letters"] == 0
        assert process.stop() == 0
        assert "Traceback" not in process.log
        [row] = process.status()
        assert row["state"] == "not running"


def test_odd_names_arrive_under_the_same_name(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/odd/{name}", name.encode()) for name in ODD_NAMES), threads=1)
    put_many(weed, ((f"/odd/in {name[:80]}/{name}", b"below") for name in ODD_NAMES), threads=1)
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/odd") + local_sink(target)) as process:
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    source = filer_tree(weed, "/odd")
    assert len(source) == 3 * len(ODD_NAMES)
    assert difference(source, local_tree(target)) == ""


def test_the_second_signal_leaves_at_once(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/sig/f", b"1")
    with daemon(tmp_path / "d", general(weed, "/sig") + local_sink(tmp_path / "copy")) as process:
        process.start()
        wait_until((tmp_path / "copy/f").exists, what=lambda: process.log)
        process.signal(signal.SIGINT)
        process.signal(signal.SIGINT)
        assert process.process is not None
        assert process.process.wait(10) in (0, 130)
        assert "Traceback" not in process.log
