"""Random histories on a real filer, copied to a real directory and a real bucket in random steps.

The seed is printed with a failure; set FILERBACKUP_SEED to repeat one.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import grpc
import pytest

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import daemon, wait_until
from tests.support.s3_tree import make_bucket, s3_tree
from tests.support.trees import difference, filer_tree, local_tree
from tests.support.weed import WeedServer

NAMES = ("a", "b", "a-b", "c.d", "é", "x y")
UNGUARDED = ("--reconcile-every", "0", "--delete-guard", "off")
"""One history in fifty deletes more than the hundred that go from a small tree without a question."""


class History:
    """Creates, overwrites, deletes and renames files and trees; few names, so that they collide."""

    def __init__(self, weed: WeedServer, stub: SeaweedFilerStub, folder: str, rng: random.Random) -> None:
        self.weed, self.stub, self.folder, self.rng = weed, stub, folder, rng

    def path(self) -> str:
        parts = [self.rng.choice(NAMES) for _ in range(self.rng.randint(1, 3))]
        return "/".join([self.folder, *parts])

    def step(self) -> None:
        """One change; what the filer refuses (a file where a directory is) changes nothing."""
        rng = self.rng
        match rng.choices(("write", "delete", "rename", "mkdir"), (6, 2, 2, 1))[0]:
            case "write":
                size = rng.choice((0, 1, 50, 3000, 200_000))
                chunked = "maxMB=1" if rng.random() < 0.2 else ""
                path = self.path()
                if self.can_be_file(path):
                    self.weed.put(path, rng.randbytes(size), query=chunked)
            case "delete":
                self.weed.delete(self.path(), recursive=True)
            case "rename":
                old, new = self.path(), self.path()
                nested = (new + "/").startswith(old + "/") or (old + "/").startswith(new + "/")
                if not nested and self.can_be_file(new):
                    self.weed.rename(old, new)
            case "mkdir":
                self.mkdir(self.path())

    def can_be_file(self, path: str) -> bool:
        """Whether no directory gets a body by it: a case of its own, which most sinks cannot hold."""
        entry = self.lookup(path)
        return self.parents_are_directories(path) and not (entry is not None and entry.is_directory)

    def parents_are_directories(self, path: str) -> bool:
        parent = path.rpartition("/")[0]
        while len(parent) > len(self.folder):
            entry = self.lookup(parent)
            if entry is not None and not entry.is_directory:
                return False
            parent = parent.rpartition("/")[0]
        return True

    def lookup(self, path: str) -> pb.Entry | None:
        directory, _, name = path.rpartition("/")
        try:
            request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
            return self.stub.LookupDirectoryEntry(request).entry
        except grpc.RpcError:
            return None

    def mkdir(self, path: str) -> None:
        if self.lookup(path) is None and self.parents_are_directories(path):
            directory, _, name = path.rpartition("/")
            attributes = pb.FuseAttributes(file_mode=(1 << 31) | 0o755, mtime=int(time.time()))
            entry = pb.Entry(name=name, is_directory=True, attributes=attributes)
            self.stub.CreateEntry(pb.CreateEntryRequest(directory=directory, entry=entry))


@pytest.mark.parametrize("number", range(3))
def test_random_histories(weed: WeedServer, tmp_path: Path, number: int) -> None:
    seed = int(os.environ.get("FILERBACKUP_SEED", time.time_ns() % 1_000_000)) + number
    rng = random.Random(seed)
    folder = f"/history{number}"
    weed.put(f"{folder}/first", b"1")
    bucket = make_bucket(weed, f"history{number}")
    target = tmp_path / "copy"
    config = general(weed, folder) + local_sink(target) + s3_sink(weed, bucket)
    channel = grpc.insecure_channel(weed.filer_grpc)
    history = History(weed, SeaweedFilerStub(channel), folder, rng)
    with channel, daemon(tmp_path / "d", config) as process:
        for _ in range(3):
            for _ in range(rng.randrange(60)):
                history.step()
            process.start(*UNGUARDED)
            for _ in range(rng.randrange(60)):
                history.step()
            if rng.random() < 0.5:
                time.sleep(rng.uniform(0, 2.0))
            process.kill()
        done = process.run("catchup", *UNGUARDED, timeout=90)
        assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"

    def unlike() -> str:
        return (
            difference(filer_tree(weed, folder), local_tree(target))
            + difference(filer_tree(weed, folder, directories=False), s3_tree(weed, bucket))
        )  # fmt: skip

    assert unlike() == "", f"seed {seed}: {unlike()}"


def test_moves_of_trees_while_following(weed: WeedServer, tmp_path: Path) -> None:
    """A tree that is renamed again and again while files are written into it."""
    rng = random.Random(5)
    target = tmp_path / "copy"
    weed.put("/wander/t0/f", b"0")
    with daemon(tmp_path / "d", general(weed, "/wander") + local_sink(target)) as process:
        process.start()
        wait_until((target / "t0/f").exists, what=lambda: process.log)
        for i in range(30):
            for j in range(5):
                weed.put(f"/wander/t{i}/d{j}/f{i}", rng.randbytes(100))
            weed.rename(f"/wander/t{i}", f"/wander/t{i + 1}")
        wait_until(
            lambda: not difference(filer_tree(weed, "/wander"), local_tree(target)),
            what=lambda: difference(filer_tree(weed, "/wander"), local_tree(target)) + process.log[-2000:],
        )
