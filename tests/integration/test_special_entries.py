"""What a filer holds besides plain files: hard links, times to live, WORM, remote storage, bodies."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session

from filerbackup.filer.stubs import filer_pb2 as pb
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.filer_entries import look_up, make_entry, mounted, weed_shell
from tests.support.moto import MotoServer, running_moto
from tests.support.s3_tree import client, make_bucket
from tests.support.trees import difference, digest, filer_tree, local_tree
from tests.support.weed import WeedServer, running_weed


def follow(weed: WeedServer, folder: str, target: Path, **more: object) -> str:
    return general(weed, folder, **more) + local_sink(target)


def until_equal(weed: WeedServer, folder: str, target: Path, process: Daemon) -> None:
    wait_until(
        lambda: not difference(filer_tree(weed, folder), local_tree(target)),
        within_s=30,
        what=lambda: difference(filer_tree(weed, folder), local_tree(target)) + process.log[-3000:],
    )


def letters(process: Daemon) -> list[dict[str, object]]:
    return json.loads(process.run("dead-letters list", "--json").stdout)


# -- hard links -------------------------------------------------------------------------------------


def test_hard_links_of_a_mount(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/links/d/one", b"first content")
    target = tmp_path / "copy"
    with mounted(weed, tmp_path / "mnt", "/links") as place:
        if place is None:
            pytest.skip("this machine cannot mount (no /dev/fuse, or no right to)")
        with daemon(tmp_path / "d", follow(weed, "/links", target)) as process:
            process.start()
            until_equal(weed, "/links", target, process)
            os.link(place / "d/one", place / "two")
            until_equal(weed, "/links", target, process)
            (place / "two").write_bytes(b"written through the other name")
            wait_until(lambda: weed.get("/links/two").startswith(b"written"))
            assert weed.get("/links/d/one") == b"written through the other name"
            until_equal(weed, "/links", target, process)
            assert (target / "d/one").read_bytes() == b"written through the other name"
            (place / "d/one").chmod(0o600)
            wait_until(
                lambda: (
                    {file.stat().st_mode & 0o777 for file in (target / "two", target / "d/one")} == {0o600}
                )
            )
            os.unlink(place / "two")
            until_equal(weed, "/links", target, process)
            assert process.stop() == 0


def test_a_write_through_one_name_reaches_the_others(weed: WeedServer, tmp_path: Path) -> None:
    """The filer logs one name only. The walk has shown the other, or a comparison finds it."""
    link = {"hard_link_id": os.urandom(16) + b"\x01", "hard_link_counter": 2}
    for name in ("a", "b"):
        make_entry(weed, f"/hard/{name}", b"one", age_s=60, **link)
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", follow(weed, "/hard", target)) as process:
        process.start()
        until_equal(weed, "/hard", target, process)
        make_entry(weed, "/hard/a", b"second", age_s=30, **link)
        until_equal(weed, "/hard", target, process)
        assert (target / "b").read_bytes() == b"second"
        assert process.stop() == 0
    # A process that has not seen the names yet: the comparison finds what it cannot know.
    make_entry(weed, "/hard/a", b"third..", age_s=10, **link)
    with daemon(tmp_path / "e", follow(weed, "/hard", target, reconcile_every="1s")) as process:
        process.start()
        until_equal(weed, "/hard", target, process)
        assert (target / "b").read_bytes() == b"third.."


# -- times to live, WORM ----------------------------------------------------------------------------


def test_an_expired_entry_goes_with_the_next_comparison(weed: WeedServer, tmp_path: Path) -> None:
    for number in range(4):
        make_entry(weed, f"/ttl/keeps{number}", b"for ever")
    weed.put("/ttl/minutes", b"for a while", query="ttl=9m")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", follow(weed, "/ttl", target, reconcile_every="1s")) as process:
        process.start()
        until_equal(weed, "/ttl", target, process)
        make_entry(weed, "/ttl/a", b"short", ttl_s=4)
        make_entry(weed, "/ttl/z", b"short", ttl_s=4)
        wait_until(lambda: (target / "a").exists() and (target / "z").exists(), what=lambda: process.log)
        wait_until(
            lambda: not (target / "a").exists() and not (target / "z").exists(), what=lambda: process.log
        )
        assert set(local_tree(target)) == {"keeps0", "keeps1", "keeps2", "keeps3", "minutes"}
        assert process.stop() == 0
        assert letters(process) == []


def test_what_expired_before_it_was_read_is_no_dead_letter(weed: WeedServer, tmp_path: Path) -> None:
    """Once the entry is gone too; once its chunk, whose time is kept in whole minutes, went before it."""
    weed.put("/past/real", b"bytes")
    volume = look_up(weed, "/past/real").chunks[0].file_id.partition(",")[0]
    written_ns = time.time_ns() - 70 * 10**9
    gone = [pb.FileChunk(file_id=f"{volume},0fffffff01020304", size=9, modified_ts_ns=written_ns)]
    make_entry(weed, "/past/expired", age_s=70, ttl_s=60, chunks=gone)
    make_entry(weed, "/past/half", age_s=70, ttl_s=110, chunks=gone)
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", follow(weed, "/past", target)) as process:
        done = process.run("catchup", "--start", "log")
        assert done.returncode == 0, done.stderr
        assert letters(process) == []
        assert set(local_tree(target)) == {"real"}
        # What should still be there is another matter.
        make_entry(weed, "/past/lost", ttl_s=6000, chunks=gone)
        done = process.run("catchup")
        assert done.returncode == 1
        assert [letter["path"] for letter in letters(process)] == ["/past/lost"]


@pytest.mark.parametrize("how", ["snapshot", "log"])
def test_worm_files_are_copied(weed: WeedServer, tmp_path: Path, how: str) -> None:
    folder = f"/worm-{how}"
    assert "worm" in weed_shell(weed, f"fs.configure -locationPrefix={folder}/rule/ -worm=true -apply")
    target = tmp_path / "copy"
    weed.put(f"{folder}/plain", b"1")
    with daemon(tmp_path / "d", follow(weed, folder, target)) as process:
        if how == "log":
            assert process.run("catchup").returncode == 0
        make_entry(weed, f"{folder}/entry", b"2", worm_enforced_at_ts_ns=time.time_ns())
        assert weed.put(f"{folder}/rule/f", b"3") < 300
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    assert difference(filer_tree(weed, folder), local_tree(target)) == ""
    assert set(local_tree(target, directories=False)) == {"plain", "entry", "rule/f"}


# -- remote storage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def remote_weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A SeaweedFS that may mount its own gateway as remote storage."""
    allowed = ["-volume.allowUntrustedRemoteEndpoints"]
    with running_weed(tmp_path_factory.mktemp("remote"), filer_args=allowed, volume_max=300) as server:
        yield server


def mount_remote(weed: WeedServer, name: str, objects: dict[str, bytes]) -> str:
    """A folder whose files are only in a bucket; its path."""
    bucket = make_bucket(weed, f"far-{name}")

    async def fill() -> None:
        async with client(weed) as s3:
            for key, data in objects.items():
                await s3.put_object(Bucket=bucket, Key=key, Body=data)

    asyncio.run(fill())
    said = weed_shell(
        weed,
        f"remote.configure -name={name} -type=s3 -s3.endpoint={weed.s3_endpoint} -s3.access_key=any "
        "-s3.secret_key=any-secret -s3.region=us-east-1 -s3.force_path_style=true",
        f"remote.mount -dir=/{name} -remote={name}/{bucket}",
    )
    assert "(create)" in said, said
    return f"/{name}"


REMOTE = {"d/one": b"in remote storage", "two": b"2" * 300_000, "empty": b""}
WANTED = {key: digest(data) for key, data in REMOTE.items()}


def cached(weed: WeedServer, path: str) -> bool:
    return bool(look_up(weed, path).chunks)


def test_remote_files_are_fetched(remote_weed: WeedServer, tmp_path: Path) -> None:
    folder = mount_remote(remote_weed, "fetched", REMOTE)
    target = tmp_path / "copy"
    config = follow(remote_weed, folder, target, reconcile_every="1s")
    with daemon(tmp_path / "d", config) as process:
        process.start()
        wait_until(lambda: local_tree(target, directories=False) == WANTED, what=lambda: process.log)
        assert cached(remote_weed, f"{folder}/two")
        written = (target / "two").stat().st_ino
        # The filer drops its copy again: no change of the file, and no reason to fetch it once more.
        weed_shell(remote_weed, f"remote.uncache -dir={folder}")
        assert not cached(remote_weed, f"{folder}/two")
        compared = process.log.count("compared:")
        wait_until(lambda: process.log.count("compared:") > compared + 1, what=lambda: process.log)
        assert not cached(remote_weed, f"{folder}/two")
        assert (target / "two").stat().st_ino == written
        assert process.stop() == 0
        assert letters(process) == []


def test_remote_files_are_skipped(remote_weed: WeedServer, tmp_path: Path) -> None:
    folder = mount_remote(remote_weed, "skipped", REMOTE)
    target = tmp_path / "copy"
    config = follow(remote_weed, folder, target, remote_entries="skip")
    with daemon(tmp_path / "d", config) as process:
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("only in remote storage") == 1
        assert set(local_tree(target, directories=False)) == {"empty"}
        assert not cached(remote_weed, f"{folder}/two")
        weed_shell(remote_weed, f"remote.cache -dir={folder} -deleteLocalExtra=false")
        wait_until(lambda: cached(remote_weed, f"{folder}/two"))
        assert process.run("catchup").returncode == 0
        assert local_tree(target, directories=False) == WANTED
        weed_shell(remote_weed, f"remote.uncache -dir={folder}")
        assert not cached(remote_weed, f"{folder}/two")
        assert process.run("catchup", "--start", "snapshot").returncode == 0
        assert local_tree(target, directories=False) == WANTED
        assert letters(process) == []


def test_a_remote_storage_that_is_gone_makes_a_dead_letter(weed: WeedServer, tmp_path: Path) -> None:
    """For its file alone."""
    remote = pb.RemoteEntry(storage_name="unknown", remote_size=5)
    make_entry(weed, "/refused/far", remote_entry=remote)
    make_entry(weed, "/refused/near", b"here")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", follow(weed, "/refused", target)) as process:
        assert process.run("catchup").returncode == 1
        assert [letter["path"] for letter in letters(process)] == ["/refused/far"]
    assert set(local_tree(target)) == {"near"}


# -- directories with a body ------------------------------------------------------------------------


def test_bodies_of_directories(remote_weed: WeedServer, tmp_path: Path) -> None:
    """Made by a client, and come about when something is created below a file."""
    weed = remote_weed
    folder = f"/buckets/{make_bucket(weed, 'bodies')}"
    target, bucket = tmp_path / "copy", "bodies"

    async def put(key: str, data: bytes) -> None:
        async with client(weed) as s3:
            await s3.put_object(Bucket="bodies", Key=key, Body=data)

    asyncio.run(put("made/", b"body of a directory"))
    asyncio.run(put("promoted", b"was a file"))
    with running_moto(tmp_path / "moto") as moto:
        # weed's own gateway gives out an empty body for such a key.
        config = general(weed, folder) + local_sink(target) + s3_sink(weed, bucket, endpoint=moto.endpoint)
        asyncio.run(make_moto_bucket(moto, bucket))
        with daemon(tmp_path / "d", config) as process:
            assert process.run("catchup").returncode == 1
            assert (target / "promoted").read_bytes() == b"was a file"
            assert asyncio.run(moto_objects(moto, bucket)) == {
                "made/": b"body of a directory", "promoted": b"was a file",
            }  # fmt: skip
            weed.put(f"{folder}/promoted/below", b"below it")
            process.run("catchup")
            # One each, of the local sink.
            assert sorted(str(letter["path"]) for letter in letters(process)) == [
                f"{folder}/made", f"{folder}/promoted",
            ]  # fmt: skip
            weed.rename(f"{folder}/promoted", f"{folder}/renamed")
            assert process.run("catchup").returncode == 1
            assert f"{folder}/renamed" in [letter["path"] for letter in letters(process)]
        assert set(local_tree(target, directories=False)) == {"renamed/below"}
        assert asyncio.run(moto_objects(moto, bucket)) == {
            "made/": b"body of a directory", "renamed/": b"was a file", "renamed/below": b"below it",
        }  # fmt: skip


def moto_client(moto: MotoServer) -> Any:
    return get_session().create_client(
        "s3",
        endpoint_url=moto.endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any-secret",
        region_name="us-east-1",
    )


async def make_moto_bucket(moto: MotoServer, bucket: str) -> None:
    async with moto_client(moto) as s3:
        await s3.create_bucket(Bucket=bucket)


async def moto_objects(moto: MotoServer, bucket: str) -> dict[str, bytes]:
    async with moto_client(moto) as s3:
        listed = (await s3.list_objects_v2(Bucket=bucket)).get("Contents", [])
        names = [item["Key"] for item in listed if not item["Key"].startswith(".filerbackup/")]
        return {name: await (await s3.get_object(Bucket=bucket, Key=name))["Body"].read() for name in names}
