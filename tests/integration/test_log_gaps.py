"""Parts of the change log that are gone: found, said, and healed by a look at the live tree."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from filerbackup.filer.client import FilerClient
from filerbackup.state.base import STATE_DIRECTORY, Checkpoint
from filerbackup.state.checkpoints import FilerCheckpoints
from filerbackup.state.kv import KeyValues
from filerbackup.state.letters import write_entry
from filerbackup.state.pair import Pair
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.line import LoopThread
from tests.support.load import put_many
from tests.support.proxy import Proxy
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer

_OFTEN = """
import sys
from filerbackup.pipeline import horizon
horizon.LOOK_EVERY_S = 0.5
from filerbackup.__main__ import main
sys.exit(main())
"""


class WatchfulDaemon(Daemon):
    """Looks at the filer's log all the time, not once a minute."""

    def _command(self, command: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-c", _OFTEN, *super()._command(command, arguments)[3:]]


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    with LoopThread().running() as thread:
        yield thread


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def keep_log_from(weed: WeedServer, moment: datetime) -> None:
    """As `fs.log.purge` leaves it; an empty file has nothing to tell, but shows that it was kept."""
    weed.delete("/topics/.system/log", recursive=True)
    assert weed.put(f"/topics/.system/log/{moment:%Y-%m-%d}/{moment:%H-%M}.0000abcd", b"") < 300


def test_the_log_is_purged_behind_a_dead_sink(
    own_weed: WeedServer, tmp_path: Path, loop_thread: LoopThread
) -> None:
    """The time that is left is known and warned of; what falls off is healed, and swept."""
    proxy = Proxy(own_weed.s3_endpoint)
    loop_thread.enter(proxy.running())
    bucket = make_bucket(own_weed, "horizon")
    put_many(own_weed, ((f"/data/f{i}", b"1") for i in range(5)))
    config = general(own_weed) + s3_sink(own_weed, bucket, endpoint=proxy.endpoint)
    process = WatchfulDaemon(tmp_path / "d", config)
    try:
        assert process.run("catchup").returncode == 0
        keep_log_from(own_weed, ago(hours=2))
        assert process.run("checkpoint set", ago(hours=1, minutes=50).isoformat()).returncode == 0
        [row] = process.status()
        assert isinstance(row["log_left_s"], float) and 480 < row["log_left_s"] < 720

        async def full(request: web.Request, _body: bytes) -> web.Response | None:
            is_copy = request.method == "PUT" and ".filerbackup" not in request.path
            return web.Response(status=507) if is_copy else None

        proxy.fault = full
        own_weed.put("/data/f1", b"2")
        own_weed.delete("/data/f2")
        process.start()
        wait_until(lambda: "the change log reaches only 0.2 h" in process.log, what=lambda: process.log)
        keep_log_from(own_weed, ago(minutes=30))
        wait_until(lambda: "heals a gap" in process.log, what=lambda: process.log)
        own_weed.put("/buckets/horizon/stray", b"its removal was in the part of the log that is gone")
        proxy.fault = None
        wait_until(
            lambda: not difference(filer_tree(own_weed, "/data"), s3_tree(own_weed, bucket)),
            what=lambda: process.log[-4000:],
        )
        assert process.stop() == 0
        assert "Traceback" not in process.log
    finally:
        process.kill()


def test_the_filers_clock_was_set_back(weed: WeedServer, tmp_path: Path) -> None:
    """An offset in the future would wait for what never comes."""
    put_many(weed, ((f"/clock/f{i}", b"1") for i in range(5)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/clock") + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        [shown] = json.loads(process.run("checkpoint show", "--json").stdout)
        ahead_ns = shown["checkpoint"]["offset_ns"] + 3_600_000_000_000

        async def store(client: FilerClient) -> None:
            await FilerCheckpoints(KeyValues(client), Pair(**shown["pair"])).save(
                Checkpoint(ahead_ns, updated_ns=ahead_ns)
            )

        on_filer(weed, store)
        weed.delete("/clock/f2")
        process.start()
        wait_until(lambda: "clock was set back" in process.log, what=lambda: process.log)
        wait_until(lambda: not (target / "f2").exists(), what=lambda: process.log)
        weed.put("/clock/new", b"2")
        wait_until((target / "new").exists, what=lambda: process.log)
        [shown] = json.loads(process.run("checkpoint show", "--json").stdout)
        assert shown["checkpoint"]["offset_ns"] < ahead_ns


def test_the_filer_is_replaced_by_a_new_one(own_weed: WeedServer, tmp_path: Path) -> None:
    """An empty one is not taken for ours. One with our files and no log of them is compared."""
    put_many(own_weed, ((f"/data/f{i}", b"1") for i in range(20)))
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(own_weed, delete_guard="off") + local_sink(target)) as process:
        process.start()
        wait_until(lambda: process.status()[0]["state"] == "following", what=lambda: process.log)
        cluster = json.loads((target / ".filerbackup/sink.json").read_bytes())["source"]["cluster"]
        own_weed.kill()
        shutil.rmtree(own_weed.directory)
        own_weed.start()
        wait_until(lambda: "was it replaced?" in process.log, what=lambda: process.log)
        assert len(local_tree(target)) == 20
        put_many(own_weed, ((f"/data/f{i}", b"2" * i) for i in range(3, 20)))

        async def restore(client: FilerClient) -> None:
            await write_entry(client, STATE_DIRECTORY, "cluster.json", {"version": 1, "cluster": cluster})

        on_filer(own_weed, restore)
        wait_until(
            lambda: not difference(filer_tree(own_weed, "/data"), local_tree(target)),
            what=lambda: process.log[-4000:],
        )
        assert not (target / "f1").exists()
        own_weed.put("/data/new", b"3")
        wait_until((target / "new").exists, what=lambda: process.log)
        assert process.stop() == 0

        async def rename(client: FilerClient) -> None:
            await write_entry(client, STATE_DIRECTORY, "cluster.json", {"version": 1, "cluster": "another"})

        on_filer(own_weed, rename)
        done = process.run("catchup")
        assert done.returncode in (1, 2), done.stderr
        assert "belongs to folder" in done.stderr


def on_filer(weed: WeedServer, work: object) -> None:
    """Do something with a client of our own."""

    async def with_client() -> None:
        client = FilerClient([weed.filer])
        try:
            await work(client)  # type: ignore[operator]
        finally:
            await client.close()

    asyncio.run(with_client())
