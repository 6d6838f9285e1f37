"""Servers that go away, processes that are killed: each day ends with both sides equal."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.load import RandomLoad, put_many
from tests.support.ports import free_port
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer, running_weed


@pytest.fixture
def s3_weed(tmp_path: Path) -> Iterator[WeedServer]:
    """A second SeaweedFS, as the S3 server of the sink, to be stopped and started."""
    with running_weed(tmp_path / "s3-weed") as server:
        yield server


def equal_local(weed: WeedServer, folder: str, target: Path, process: Daemon, within_s: float = 60) -> None:
    """Wait until the copy equals the source."""
    wait_until(
        lambda: not difference(filer_tree(weed, folder), local_tree(target)),
        within_s=within_s,
        what=lambda: difference(filer_tree(weed, folder), local_tree(target)) + "\n" + process.log[-4000:],
    )


def equal_s3(weed: WeedServer, folder: str, s3: WeedServer, bucket: str, process: Daemon) -> None:
    """Wait until the bucket equals the source."""

    def unlike() -> str:
        return difference(filer_tree(weed, folder, directories=False), s3_tree(s3, bucket))

    wait_until(lambda: not unlike(), what=lambda: unlike() + "\n" + process.log[-4000:])


@pytest.mark.parametrize("command", ["run", "catchup"])
def test_the_filer_is_down_at_the_start(tmp_path: Path, command: str) -> None:
    port = free_port()
    config = f'[filerbackup]\nfiler = "127.0.0.1:{port}"\n' + local_sink(tmp_path / "copy")
    with daemon(tmp_path / "d", config) as process:
        began = time.monotonic()
        done = process.run(command, "--connect-timeout", "2s")
        assert done.returncode == 3
        assert 1.0 < time.monotonic() - began < 10
        assert f"127.0.0.1:{port + 10_000}" in done.stderr
        assert "--connect-timeout" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_stop_while_the_filer_is_waited_for(tmp_path: Path) -> None:
    config = f'[filerbackup]\nfiler = "127.0.0.1:{free_port()}"\n' + local_sink(tmp_path / "copy")
    with daemon(tmp_path / "d", config) as process:
        process.start("--connect-timeout", "60s", "--log-level", "debug")
        wait_until(lambda: "_cygrpc" in process.log, what=lambda: process.log)
        time.sleep(1.0)
        assert process.stop(timeout=10) == 0, process.log


def test_the_filer_comes_up_late(tmp_path: Path) -> None:
    server = WeedServer(tmp_path / "weed")
    config = general(server, "/") + local_sink(tmp_path / "copy")
    with daemon(tmp_path / "d", config) as process:
        process.start("--connect-timeout", "60s")
        try:
            server.start()
            server.put("/a/f", b"here")
            wait_until((tmp_path / "copy/a/f").exists, what=lambda: process.log)
        finally:
            server.kill()


def test_the_filer_is_killed_in_the_middle(own_weed: WeedServer, tmp_path: Path) -> None:
    """A killed filer forgets up to a minute of its log; what the tree still has must arrive all the same."""
    put_many(own_weed, ((f"/data/before{i}", b"b" * i) for i in range(100)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(own_weed) + local_sink(target)) as process:
        process.start()
        equal_local(own_weed, "/data", target, process)
        # Frozen meanwhile, the daemon sees nothing of what is written just before the crash.
        import signal

        process.signal(signal.SIGSTOP)
        put_many(own_weed, ((f"/data/tail{i}", b"t" * i) for i in range(50)))
        own_weed.delete("/data/before1")
        own_weed.kill()
        own_weed.start()
        process.signal(signal.SIGCONT)
        put_many(own_weed, ((f"/data/after{i}", b"a" * i) for i in range(50)))
        equal_local(own_weed, "/data", target, process)
        assert process.process is not None and process.process.poll() is None
        assert process.stop() == 0
        assert "Traceback" not in process.log


def test_the_filer_is_killed_while_nobody_looks(own_weed: WeedServer, tmp_path: Path) -> None:
    """The next process learns it from the filer's memory alone: other locks have been taken since."""
    put_many(own_weed, ((f"/data/before{i}", b"b" * i) for i in range(20)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(own_weed) + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        done = process.run("catchup")
        assert "compares the sink" not in done.stderr, done.stderr
        put_many(own_weed, ((f"/data/tail{i}", b"t" * i) for i in range(20)))
        own_weed.delete("/data/before1")
        own_weed.kill()
        own_weed.start()
        take_locks(own_weed, 50)
        done = process.run("catchup")
        assert "compares the sink" in done.stderr, done.stderr
        assert difference(filer_tree(own_weed, "/data"), local_tree(target)) == ""
        assert "compares the sink" not in process.run("catchup").stderr


def take_locks(weed: WeedServer, count: int) -> None:
    """As others do, mounts and weed's own commands among them."""
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        stub = SeaweedFilerStub(channel)
        for number in range(count):
            request = pb.LockRequest(name=f"other/{number}", seconds_to_lock=60, owner="somebody")
            assert not stub.DistributedLock(request).error


def test_the_s3_server_stops_for_ten_seconds(weed: WeedServer, s3_weed: WeedServer, tmp_path: Path) -> None:
    bucket = make_bucket(s3_weed, "outage")
    target = tmp_path / "copy"
    config = general(weed, "/outage") + s3_sink(s3_weed, bucket) + local_sink(target)
    put_many(weed, ((f"/outage/a{i}", b"a" * i) for i in range(300)))
    with daemon(tmp_path / "d", config) as process:
        process.start()
        wait_until(lambda: len(s3_tree(s3_weed, bucket)) > 20, what=lambda: process.log)
        s3_weed.kill()
        stopped_at = time.monotonic()
        put_many(weed, ((f"/outage/b{i}", b"b" * i) for i in range(300)))
        weed.delete("/outage/a5")
        # One bad sink never stops the others.
        equal_local(weed, "/outage", target, process)
        wait_until(
            lambda: "sink-error" in [row["state"] for row in process.status()], what=lambda: process.log
        )
        time.sleep(max(0.0, 10 - (time.monotonic() - stopped_at)))
        s3_weed.start()
        equal_s3(weed, "/outage", s3_weed, bucket, process)
        assert process.process is not None and process.process.poll() is None
        assert [row["dead_letters"] for row in process.status()] == [0, 0]


def test_killed_five_times_in_a_catchup(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/kill/d{i % 30}/f{i}", b"%d" % i * (i % 900)) for i in range(3000)))
    target = tmp_path / "copy"
    rng = random.Random(time.time_ns())
    state = rng.getstate()
    with daemon(tmp_path / "d", general(weed, "/kill") + local_sink(target)) as process:
        for _ in range(5):
            process.start(command="catchup")
            wait_until(
                lambda: "snapshot" in process.log or "resumes" in process.log, what=lambda: process.log
            )
            time.sleep(rng.uniform(0.05, 0.9))
            process.kill()
            # Changes between the deaths, so that later runs replay what earlier ones have seen.
            weed.rename(f"/kill/d{rng.randrange(30)}", f"/kill/e{rng.randrange(10**9)}")
            weed.delete(f"/kill/d{rng.randrange(30)}", recursive=True)
            weed.put(f"/kill/d{rng.randrange(30)}/f{rng.randrange(3000)}", rng.randbytes(500))
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    assert difference(filer_tree(weed, "/kill"), local_tree(target)) == "", f"rng state {state[1][:3]}"


def test_a_standby_takes_over(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/standby/first", b"1")
    target = tmp_path / "copy"
    config = general(weed, "/standby") + local_sink(target)
    with daemon(tmp_path / "one", config) as one, daemon(tmp_path / "two", config) as two:
        one.start()
        wait_until((target / "first").exists, what=lambda: one.log)
        two.start()
        wait_until(lambda: "stands by" in two.log, what=lambda: two.log)
        weed.put("/standby/second", b"2")
        wait_until((target / "second").exists, what=lambda: one.log)
        assert "resumes" not in two.log and "no checkpoint" not in two.log
        one.kill()
        died_at = time.monotonic()
        weed.put("/standby/third", b"3")
        wait_until((target / "third").exists, within_s=30, what=lambda: two.log)
        assert time.monotonic() - died_at < 30


@pytest.mark.timeout(300)
def test_write_load_through_kills_and_restarts(
    own_weed: WeedServer, s3_weed: WeedServer, tmp_path: Path
) -> None:
    """The promise of the whole: a filer under load, copied to a directory and a bucket at once."""
    bucket = make_bucket(s3_weed, "load")
    target = tmp_path / "copy"
    # A folder so small and so busy loses more than half in a minute, which the guard would hold.
    config = general(own_weed, delete_guard="off") + local_sink(target) + s3_sink(s3_weed, bucket)
    own_weed.put("/data/first", b"1")
    load = RandomLoad(own_weed, "/data", seed=time.time_ns() % 100_000)
    with daemon(tmp_path / "d", config) as process:
        load.start()
        for _ in range(3):
            process.start()
            time.sleep(3.0)
            process.kill()
        process.start()
        time.sleep(2.0)
        s3_weed.kill()
        time.sleep(2.0)
        s3_weed.start()
        own_weed.stop()
        own_weed.start()
        time.sleep(2.0)
        load.stop()
        assert load.done > 200
        equal_local(own_weed, "/data", target, process, within_s=90)
        equal_s3(own_weed, "/data", s3_weed, bucket, process)
        assert [row["dead_letters"] for row in process.status()] == [0, 0], process.log[-3000:]
        assert process.stop() == 0
        assert "Traceback" not in process.log
