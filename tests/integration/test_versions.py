"""Buckets with versions on a real gateway, followed live and copied from scratch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.configs import general, local_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.s3_tree import client, make_bucket, s3_tree
from tests.support.trees import DIRECTORY, Tree, difference, digest, filer_tree, local_tree
from tests.support.weed import WeedServer, running_weed

Step = Callable[[Any], Awaitable[object]]


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A server with room for many buckets: each takes several volumes."""
    with running_weed(tmp_path_factory.mktemp("versions"), volume_max=300) as server:
        yield server


def with_s3(weed: WeedServer, *steps: Step) -> list[Any]:
    """Run steps with an S3 client, one after the other."""

    async def run() -> list[Any]:
        async with client(weed) as s3:
            return [await step(s3) for step in steps]

    return asyncio.run(run())


def versioned(weed: WeedServer, bucket: str, status: str = "Enabled") -> str:
    """A bucket with versions, or a change of its state."""
    if status == "Enabled":
        make_bucket(weed, bucket)
    with_s3(
        weed,
        lambda s3: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status}),
    )
    return bucket


def expected(weed: WeedServer, bucket: str) -> Tree:
    """What the gateway shows as current, with the directories that a local tree needs for it."""
    found = {key: item for key, item in s3_tree(weed, bucket).items() if not key.endswith("/")}
    for key in list(found):
        while key := key.rpartition("/")[0]:
            found[key] = DIRECTORY
    return found


def copied(target: Path) -> Tree:
    """The copy, without directories that were left empty: the gateway shows none."""
    tree = local_tree(target)
    files = [key for key, item in tree.items() if item != DIRECTORY]
    return {
        key: item
        for key, item in tree.items()
        if item != DIRECTORY or any(file.startswith(key + "/") for file in files)
    }


def settle(weed: WeedServer, bucket: str, target: Path, process: Daemon) -> None:
    wanted = expected(weed, bucket)
    wait_until(
        lambda: not difference(wanted, copied(target)),
        within_s=30,
        what=lambda: difference(wanted, copied(target)) + process.log[-3000:],
    )


def test_a_history_is_followed_live(weed: WeedServer, tmp_path: Path) -> None:
    bucket = versioned(weed, "versions-live")
    target, fresh = tmp_path / "copy", tmp_path / "fresh"
    folder = f"/buckets/{bucket}"
    with daemon(tmp_path / "d", general(weed, folder) + local_sink(target)) as process:
        process.start()
        versions: dict[str, list[str]] = {}

        async def put(s3: Any, key: str, data: bytes, **more: Any) -> None:
            answer = await s3.put_object(Bucket=bucket, Key=key, Body=data, **more)
            versions.setdefault(key, []).append(answer["VersionId"])

        async def drop(s3: Any, key: str, **more: Any) -> Any:
            return await s3.delete_object(Bucket=bucket, Key=key, **more)

        with_s3(weed, lambda s3: put(s3, "o", b"one"), lambda s3: put(s3, "d/x", b"below"))
        settle(weed, bucket, target, process)
        with_s3(weed, lambda s3: put(s3, "o", b"two"), lambda s3: put(s3, "o-x", b"beside"))
        settle(weed, bucket, target, process)
        assert (target / "o").read_bytes() == b"two"
        [marker] = with_s3(weed, lambda s3: drop(s3, "o"))
        settle(weed, bucket, target, process)
        assert not (target / "o").exists()
        with_s3(weed, lambda s3: drop(s3, "o", VersionId=marker["VersionId"]))
        settle(weed, bucket, target, process)
        assert (target / "o").read_bytes() == b"two"
        with_s3(weed, lambda s3: drop(s3, "o", VersionId=versions["o"][1]))
        settle(weed, bucket, target, process)
        assert (target / "o").read_bytes() == b"one"
        with_s3(weed, lambda s3: drop(s3, "o", VersionId=versions["o"][0]))
        with_s3(weed, lambda s3: multipart(s3, bucket, "big"))
        settle(weed, bucket, target, process)
        versioned(weed, bucket, "Suspended")
        with_s3(
            weed,
            lambda s3: s3.put_object(Bucket=bucket, Key="d/x", Body=b"null version"),
            lambda s3: s3.put_object(Bucket=bucket, Key="n", Body=b"null version of n"),
            lambda s3: drop(s3, "o-x"),
        )
        settle(weed, bucket, target, process)
        assert (target / "d/x").read_bytes() == b"null version"
        with_s3(weed, lambda s3: drop(s3, "n"))
        settle(weed, bucket, target, process)
        assert process.stop() == 0
        assert "Traceback" not in process.log
    assert not [path for path in local_tree(target) if "v_" in path or path.endswith("o.versions")]
    with daemon(tmp_path / "e", general(weed, folder) + local_sink(fresh)) as process:
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    assert difference(copied(target), copied(fresh)) == ""
    assert all(
        (target / key).stat().st_mtime_ns == (fresh / key).stat().st_mtime_ns for key in ("d/x", "big")
    )


async def multipart(s3: Any, bucket: str, key: str) -> None:
    upload = (await s3.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"]
    parts = []
    for number, data in enumerate((b"a" * (5 << 20), b"tail"), start=1):
        part = await s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    await s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
    )


def test_random_histories_converge(weed: WeedServer, tmp_path: Path) -> None:
    """Puts, deletes, removals of single versions; overtaken in the backlog, then compared."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    bucket = versioned(weed, "versions-random")
    names = ["a", "a-", "a-b", "a.b", "a.w", "b/a", "b/a-1", "b/c", "c"]

    async def one(s3: Any) -> None:
        key = rng.choice(names)
        choice = rng.random()
        if choice < 0.6:
            await s3.put_object(Bucket=bucket, Key=key, Body=rng.randbytes(rng.choice((0, 10, 5000))))
        elif choice < 0.8:
            await s3.delete_object(Bucket=bucket, Key=key)
        else:
            listed = await s3.list_object_versions(Bucket=bucket, Prefix=key)
            some = [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]
            if some:
                gone = rng.choice(some)
                await s3.delete_object(Bucket=bucket, Key=gone["Key"], VersionId=gone["VersionId"])

    target, fresh = tmp_path / "copy", tmp_path / "fresh"
    config = general(weed, f"/buckets/{bucket}")
    with daemon(tmp_path / "d", config + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        for _ in range(3):
            with_s3(weed, *[one] * 25)
            done = process.run("catchup")
            assert done.returncode == 0, done.stderr
            assert difference(expected(weed, bucket), copied(target)) == ""
    with daemon(tmp_path / "e", config + local_sink(fresh)) as process:
        assert process.run("catchup").returncode == 0
    assert difference(copied(target), copied(fresh)) == ""


@pytest.mark.parametrize("how", ["snapshot", "log"])
def test_all_versions_as_the_filer_keeps_them(weed: WeedServer, tmp_path: Path, how: str) -> None:
    bucket = versioned(weed, f"versions-all-{how}")
    target = tmp_path / "copy"
    config = general(weed, f"/buckets/{bucket}", versions="all") + local_sink(target)
    with daemon(tmp_path / "d", config) as process:
        if how == "log":
            assert process.run("catchup").returncode == 0
        with_s3(
            weed,
            lambda s3: s3.put_object(Bucket=bucket, Key="o", Body=b"one"),
            lambda s3: s3.put_object(Bucket=bucket, Key="o", Body=b"two"),
            lambda s3: s3.delete_object(Bucket=bucket, Key="o"),
        )
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    assert difference(filer_tree(weed, f"/buckets/{bucket}"), local_tree(target)) == ""
    contents = sorted(item.size for item in local_tree(target, directories=False).values())
    assert contents == [0, 3, 3]


def test_a_sink_of_all_versions_becomes_one_of_the_current(weed: WeedServer, tmp_path: Path) -> None:
    bucket = versioned(weed, "versions-switch")
    with_s3(
        weed,
        lambda s3: s3.put_object(Bucket=bucket, Key="o", Body=b"one"),
        lambda s3: s3.put_object(Bucket=bucket, Key="o", Body=b"two"),
    )
    target = tmp_path / "copy"
    with daemon(
        tmp_path / "d", general(weed, f"/buckets/{bucket}", versions="all") + local_sink(target)
    ) as process:
        assert process.run("catchup").returncode == 0
        assert len(local_tree(target)) == 3
    with daemon(tmp_path / "e", general(weed, f"/buckets/{bucket}") + local_sink(target)) as process:
        done = process.run("catchup", "--start", "snapshot")
        assert done.returncode == 0, done.stderr
    assert local_tree(target) == {"o": digest(b"two")}


def test_a_prefix_called_like_versions_is_kept_though_the_gateway_does_not_list_it(
    weed: WeedServer, tmp_path: Path
) -> None:
    bucket = versioned(weed, "versions-prefix")
    key = "app.versions/1.0"
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, f"/buckets/{bucket}") + local_sink(target)) as process:
        assert process.run("catchup").returncode == 0
        with_s3(weed, lambda s3: s3.put_object(Bucket=bucket, Key=key, Body=b"release"))
        assert process.run("catchup").returncode == 0
        assert local_tree(target) == {"app.versions": DIRECTORY, key: digest(b"release")}
        assert process.run("catchup", "--start", "snapshot").returncode == 0
        assert local_tree(target) == {"app.versions": DIRECTORY, key: digest(b"release")}
    assert s3_tree(weed, bucket) == {}
