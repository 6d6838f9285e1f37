"""Renames and changes of attributes reach every copy without a second upload."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import grpc
import pytest
from aiohttp import web

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import daemon
from tests.support.proxy import Fault, Proxy
from tests.support.s3_tree import make_bucket, s3_heads
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer

FILES = {"small": 20_000, "parts": 9 << 20, "sub/deep": 70_000}


def change_attributes(weed: WeedServer, directory: str, name: str, **attributes: int) -> None:
    """What chmod, chown and touch do through a mount."""
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        stub = SeaweedFilerStub(channel)
        asked = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
        entry = stub.LookupDirectoryEntry(asked).entry
        for attribute, value in attributes.items():
            setattr(entry.attributes, attribute, value)
        entry.extended["X-Amz-Meta-Colour"] = b"blue"
        answer = stub.CreateEntry(pb.CreateEntryRequest(directory=directory, entry=entry))
    assert not answer.error


@pytest.fixture
def folder(weed: WeedServer) -> str:
    for number, (name, size) in enumerate(FILES.items()):
        weed.put(f"/place/{name}", random.Random(number).randbytes(size), query="maxMB=2")
    return "/place"


@pytest.fixture
def bucket(weed: WeedServer) -> str:
    return make_bucket(weed, "in-place")


def noting(sent: list[tuple[str, int]]) -> Fault:
    """Breaks nothing: path and size of what is put into the sink."""

    async def watch(request: web.Request, body: bytes) -> None:
        if request.method == "PUT" and "/.filerbackup/" not in request.path:
            sent.append((request.path, len(body)))

    return watch


async def test_renames_and_attributes_send_no_content(
    weed: WeedServer, folder: str, bucket: str, tmp_path: Path
) -> None:
    sent: list[tuple[str, int]] = []
    async with Proxy(weed.s3_endpoint).running() as proxy:
        proxy.fault = noting(sent)
        config = (
            general(weed, folder)
            + local_sink(tmp_path / "copy")
            + s3_sink(weed, bucket, endpoint=proxy.endpoint)
        )
        with daemon(tmp_path / "d", config) as process:
            done = await asyncio.to_thread(process.run, "catchup")
            assert done.returncode == 0, done.stderr
            assert sum(size for _, size in sent) >= sum(FILES.values())
            sent.clear()
            inodes = {path.stat().st_ino for path in (tmp_path / "copy").rglob("*") if path.is_file()}

            weed.rename("/place/small", "/place/other")
            weed.rename("/place/sub", "/place/moved")
            change_attributes(weed, "/place", "parts", file_mode=0o600, mtime=1_600_000_000, uid=7)
            change_attributes(weed, "/place", "other", file_mode=0o640, mtime=1_600_000_001)
            done = await asyncio.to_thread(process.run, "catchup")
            assert done.returncode == 0, done.stderr
    assert sent
    assert sum(size for _, size in sent) == 0
    assert difference(filer_tree(weed, folder), local_tree(tmp_path / "copy")) == ""
    kept = {path.stat().st_ino for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    # Its group could write it, so that it goes to another owner as a new file.
    anew = {(tmp_path / "copy" / name).stat().st_ino for name in (".filerbackup/flushed.json", "parts")}
    assert kept - inodes <= anew
    heads = await s3_heads(weed, bucket)
    assert set(heads) == {"other", "parts", "moved/deep"}
    assert heads["parts"]["Metadata"]["mode"] == "100600"
    assert heads["parts"]["Metadata"]["uid"] == "7"
    assert heads["parts"]["Metadata"]["colour"] == "blue"
    assert heads["other"]["Metadata"]["mtime"].startswith("1600000001")


@pytest.fixture
def untold(weed: WeedServer) -> str:
    return make_bucket(weed, "untold")


async def test_attributes_that_the_log_has_not_told_of(weed: WeedServer, untold: str, tmp_path: Path) -> None:
    """A snapshot looks at more than a listing shows, and mends what is not so without an upload."""
    folder = "/untold"
    for name, size in FILES.items():
        weed.put(f"{folder}/{name}", bytes(size), query="maxMB=2")
    sent: list[tuple[str, int]] = []
    async with Proxy(weed.s3_endpoint).running() as proxy:
        proxy.fault = noting(sent)
        config = general(weed, folder) + s3_sink(weed, untold, endpoint=proxy.endpoint)
        with daemon(tmp_path / "d", config) as process:
            for start in ("auto", "now", "snapshot"):
                done = await asyncio.to_thread(process.run, "catchup", "--start", start)
                assert done.returncode == 0, done.stderr
                if start == "auto":
                    sent.clear()
                    change_attributes(weed, folder, "parts", file_mode=0o600, uid=7)
                    change_attributes(weed, folder, "small", file_mode=0o640)
    assert {Path(path).name for path, size in sent if not size} == {"parts", "small"}
    assert sum(size for _, size in sent) == 0
    heads = await s3_heads(weed, untold)
    assert heads["parts"]["Metadata"]["mode"] == "100600"
    assert heads["parts"]["Metadata"]["colour"] == "blue"
    assert heads["small"]["Metadata"]["mode"] == "100640"


def modes(weed: WeedServer, folder: str, *paths: str) -> list[int]:
    """Permission bits of directories on the filer."""
    found = []
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        stub = SeaweedFilerStub(channel)
        for path in paths:
            directory, _, name = f"{folder}/{path}".rpartition("/")
            asked = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
            found.append(stub.LookupDirectoryEntry(asked).entry.attributes.file_mode & 0o777)
    return found


def test_directories_that_a_rename_makes_are_as_at_the_source(weed: WeedServer, tmp_path: Path) -> None:
    """The log does not tell of them."""
    weed.put("/made/a", b"data")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/made") + local_sink(target)) as process:
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
        weed.rename("/made/a", "/made/new/deep/a")
        change_attributes(weed, "/made", "new", file_mode=(1 << 31) | 0o751)
        done = process.run("catchup")
        assert done.returncode == 0, done.stderr
    kept = [(target / path).stat().st_mode & 0o777 for path in ("new", "new/deep")]
    assert kept == modes(weed, "/made", "new", "new/deep")
    assert 0o700 not in kept
    assert (target / "new/deep/a").read_bytes() == b"data"
