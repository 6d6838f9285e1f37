"""Two processes on one (folder, sink): never two writers, whatever happens to the one that has the lease."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.configs import general, s3_sink
from tests.support.daemon import Daemon, wait_until
from tests.support.line import Line, LoopThread, State
from tests.support.load import put_many
from tests.support.proxy import Proxy
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import difference, filer_tree
from tests.support.weed import WeedServer

LEASE_S = 4.0
_QUICK = f"""
import sys
from filerbackup.pipeline import replicator
from filerbackup.state import lease
lease.LEASE_S, lease.STOP_BEFORE_S = {LEASE_S:.0f}, 1.5
replicator.RENEW_EVERY_S, replicator.ASK_AGAIN_S = 0.7, 0.3
from filerbackup.__main__ import main
sys.exit(main())
"""
SLOW_S = 0.15
FILES = 140


class QuickDaemon(Daemon):
    """With a lease that is shorter than usual, so that a test need not wait for long."""

    def _command(self, command: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-c", _QUICK, *super()._command(command, arguments)[3:]]


class Writes:
    """Who sent what to the sink, and when: a slow service that knows its clients by their keys."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str, str]] = []

    async def fault(self, request: web.Request, _body: bytes) -> None:
        who = re.search(r"Credential=(\w+)/", request.headers.get("Authorization", ""))
        if request.method in ("PUT", "DELETE", "POST") and ".filerbackup" not in request.path:
            self.seen.append((time.monotonic(), who[1] if who else "", request.method, request.path))
            await asyncio.sleep(SLOW_S)

    def of(self, who: str, since: float = 0.0) -> list[tuple[float, str, str, str]]:
        """What one of them has sent."""
        return [seen for seen in self.seen if seen[1] == who and seen[0] > since]


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    with LoopThread().running() as thread:
        yield thread


@pytest.mark.parametrize("cause", ["partition", "freeze"])
def test_one_writer_at_a_time(weed: WeedServer, tmp_path: Path, loop_thread: LoopThread, cause: str) -> None:
    """The first is cut off from the filer, or stands still, but the sink still takes what it sends."""
    folder, writes, proxy = f"/lease-{cause}", Writes(), Proxy(weed.s3_endpoint)
    proxy.fault = writes.fault
    loop_thread.enter(proxy.running())
    line = loop_thread.add(Line("filer", weed.filer_port + 10_000))
    bucket = make_bucket(weed, f"lease-{cause}")
    put_many(weed, ((f"{folder}/f{i:03}", b"old" * (i % 50)) for i in range(FILES)))

    def configured(who: str, filer: str) -> str:
        sink = s3_sink(weed, bucket, endpoint=proxy.endpoint, aws_access_key_id=who, concurrency=4)
        return general(weed, folder).replace(weed.filer, filer) + sink

    one = QuickDaemon(tmp_path / "one", configured("one", f"127.0.0.1:{weed.filer_port}.{line.port}"))
    two = QuickDaemon(tmp_path / "two", configured("two", weed.filer))
    try:
        one.start()
        wait_until(lambda: len(writes.of("one")) > 20, what=lambda: one.log)
        two.start()
        wait_until(lambda: "stands by" in two.log, what=lambda: two.log)
        if cause == "partition":
            loop_thread.call(lambda: line.become(State.HALF_OPEN))
        else:
            one.signal(signal.SIGSTOP)
        lost_at = time.monotonic()
        weed.put(f"{folder}/f{FILES - 1}", b"new")
        weed.delete(f"{folder}/f{FILES - 2}")
        wait_until(lambda: writes.of("two"), within_s=20, what=lambda: two.log)
        if cause == "freeze":
            one.signal(signal.SIGCONT)
            wait_until(lambda: "stops writing" in one.log, within_s=10, what=lambda: one.log)
        assert len(writes.of("one")) < FILES, "it was done before it could lose its lease"
        takes_over = writes.of("two")[0][0]
        assert not writes.of("one", since=takes_over), one.log
        assert not writes.of("one", since=lost_at + LEASE_S), one.log
        wait_until(lambda: not _unlike(weed, folder, bucket), what=lambda: two.log[-3000:])
        assert not writes.of("one", since=takes_over), one.log
        assert "Traceback" not in one.log + two.log
    finally:
        one.kill()
        two.kill()


def _unlike(weed: WeedServer, folder: str, bucket: str) -> str:
    return difference(filer_tree(weed, folder, directories=False), s3_tree(weed, bucket))
