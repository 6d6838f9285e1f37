"""What a broken or hostile client can make a real filer keep: dead letters for that, copies of all else."""

from __future__ import annotations

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from botocore.session import get_session

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.configs import general, local_sink, sink
from tests.support.daemon import daemon
from tests.support.moto import MotoServer
from tests.support.trees import local_tree
from tests.support.weed import WeedServer

GO_DIRECTORY, GO_SYMLINK, GO_DEVICE = 1 << 31, 1 << 27, 1 << 26
GO_PIPE, GO_SOCKET, GO_CHARACTER = 1 << 25, 1 << 24, 1 << 21
CONTROLS = "control\x01\n\r\x1b[31m"
GOOD = {"before": b"1", "in the middle": b"22", "zz/last": b"333"}


class Client:
    """Makes entries as no sane client does."""

    def __init__(self, weed: WeedServer, folder: str) -> None:
        self._weed, self._folder = weed, folder

    def make(
        self, name: str, *, below: str = "", attributes: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Create an entry; the filer has to take it, for this is about what it takes."""
        given = {"file_size": 0, "mtime": 1_700_000_000, "crtime": 1_700_000_000, "file_mode": 0o644}
        entry = pb.Entry(name=name, attributes=pb.FuseAttributes(**{**given, **(attributes or {})}), **more)
        with grpc.insecure_channel(self._weed.filer_grpc) as channel:
            request = pb.CreateEntryRequest(directory=self._folder + below, entry=entry)
            answer = SeaweedFilerStub(channel).CreateEntry(request)
        assert not answer.error, f"{name!r}: {answer.error}"

    def chunks(self, name: str, *chunks: pb.FileChunk, **attributes: Any) -> None:
        """A file with these chunks."""
        self.make(name, attributes=attributes, chunks=chunks)

    def stored(self, path: str) -> pb.FileChunk:
        """The chunk of a file that was written in an honest way."""
        directory, _, name = (self._folder + "/" + path).rpartition("/")
        with grpc.insecure_channel(self._weed.filer_grpc) as channel:
            request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
            return SeaweedFilerStub(channel).LookupDirectoryEntry(request).entry.chunks[0]


@contextmanager
def boto(moto: MotoServer) -> Iterator[Any]:
    s3 = get_session().create_client(
        "s3",
        endpoint_url=moto.endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any-secret",
        region_name="us-east-1",
    )
    try:
        yield s3
    finally:
        s3.close()


def at(chunk: pb.FileChunk, offset: int, size: int, **more: Any) -> pb.FileChunk:
    return pb.FileChunk(
        file_id=chunk.file_id, offset=offset, size=size, modified_ts_ns=time.time_ns(), **more
    )


def symlink(target: str) -> dict[str, Any]:
    return {"file_mode": GO_SYMLINK | 0o777, "symlink_target": target}


def make_hostile(client: Client) -> None:
    """What each sink copies, and what none can."""
    real = client.stored("before")
    # Odd, and good all the same.
    client.make("mtime in year 292 billion", content=b"m", attributes={"mtime": (1 << 63) - 1})
    client.make("mtime before everything", content=b"m", attributes={"mtime": -(1 << 63)})
    client.make("mtime of 1969", content=b"m", attributes={"mtime": -1})
    client.make(CONTROLS, content=b"c")
    client.make(
        "attributes of MBs", content=b"a", extended={f"X-Amz-Meta-k{i}": b"v" * 100_000 for i in range(30)}
    )
    client.make(
        "odd attributes", content=b"a", extended={"X-Amz-Meta-\r\nX: y": b"\xff\0\r\n", "": b"", "\0": b"\0"}
    )
    client.make("all bits", content=b"b", attributes={"file_mode": 0o7777})
    client.make("absolute link", attributes=symlink("/etc/passwd"))
    client.make("upward link", attributes=symlink("../" * 40 + "etc"))
    client.chunks("longer than its chunks", at(real, 0, 1), file_size=3_000_000)
    client.chunks("the same twice", at(real, 0, 1), at(real, 1, 1), at(real, 0, 1), file_size=2)
    # What nobody can copy.
    client.make("..", content=b"up")
    client.make(".", content=b"here")
    client.make("..", is_directory=True, below="/dir", attributes={"file_mode": GO_DIRECTORY | 0o755})
    client.make("inside", content=b"escaped", below="/dir/..")
    client.make("nul\0name", content=b"n")
    client.make(".filerbackup", content=b"not yours")
    client.make("file", content=b"not yours", below="/.filerbackup/pair")
    client.make("pipe", attributes={"file_mode": GO_PIPE | 0o644})
    client.make("socket", attributes={"file_mode": GO_SOCKET | 0o644})
    client.make("device", attributes={"file_mode": GO_DEVICE | GO_CHARACTER | 0o644})
    client.make("link with nul", attributes=symlink("a\0b"))
    client.make("huge size", attributes={"file_size": 1 << 63})
    client.make("more than any disk", attributes={"file_size": 1 << 49})
    client.chunks("negative offset", at(real, -5, 10), file_size=10)
    client.chunks("huge offset", at(real, (1 << 62), 10), file_size=10)
    client.chunks("manifest of itself", at(real, 0, 10, is_chunk_manifest=True), file_size=10)
    client.chunks("no file id", pb.FileChunk(file_id="../../etc/passwd", size=3), file_size=3)
    client.chunks("encrypted with nothing", at(real, 0, 10, cipher_key=b"short"), file_size=10)
    client.chunks("encrypted and huge", at(real, 0, 1 << 45, cipher_key=b"k" * 32), file_size=1 << 45)


COPIED = {
    **GOOD, "mtime in year 292 billion": b"m", "mtime before everything": b"m", "mtime of 1969": b"m",
    CONTROLS: b"c", "attributes of MBs": b"a", "odd attributes": b"a", "all bits": b"b",
    "longer than its chunks": b"1" + bytes(2_999_999), "the same twice": b"11",
}  # fmt: skip


LETTERED_ANYWHERE = {
    "..", ".", "dir/../inside", "nul\0name", ".filerbackup", ".filerbackup/pair/file", "pipe", "socket",
    "device", "huge size", "more than any disk", "negative offset", "huge offset", "manifest of itself",
    "no file id", "encrypted with nothing", "encrypted and huge",
}  # fmt: skip


def test_hostile_entries(weed: WeedServer, moto: MotoServer, tmp_path: Path) -> None:
    """By the walk, and once more by the log."""
    folder, bucket = "/hostile", "hostile"
    for name, data in GOOD.items():
        assert weed.put(f"{folder}/{name}", data) < 300
    make_hostile(Client(weed, folder))
    around = tmp_path / "around"
    target = around / "copy"
    target.mkdir(parents=True)
    (around / "secret").write_bytes(b"not to be touched")
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any-secret", "region": "us-east-1"}
    with boto(moto) as s3:
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="beside", Body=b"not to be touched")
    config = general(weed, folder) + local_sink(target)
    config += sink("s3", bucket=bucket, endpoint=moto.endpoint, directory="/in/here", **keys)
    with daemon(tmp_path / "d", config) as process:
        done = process.run("catchup", timeout=120)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        letters = json.loads(process.run("dead-letters list", "--json").stdout)
    lettered = Counter(letter["path"].removeprefix(f"{folder}/") for letter in letters)
    # One of either sink.
    assert {path for path, number in lettered.items() if number == 2} >= LETTERED_ANYWHERE
    # moto alters such a name, which is found before it costs anything.
    assert lettered.pop(CONTROLS) == 1
    assert not lettered.keys() & COPIED.keys()
    check_local(around, target)
    check_bucket(moto, bucket)


def check_local(around: Path, target: Path) -> None:
    for name, data in COPIED.items():
        assert (target / name).read_bytes() == data, name
    assert os.readlink(target / "absolute link") == "/etc/passwd"
    assert sorted(os.listdir(around)) == ["copy", "secret"]
    assert (around / "secret").read_bytes() == b"not to be touched"
    links = {"absolute link", "upward link"}
    tree = local_tree(target, directories=False)
    assert tree.keys() == COPIED.keys() | links
    assert all(stat.S_ISREG(os.lstat(target / name).st_mode) for name in tree.keys() - links)


def check_bucket(moto: MotoServer, bucket: str) -> None:
    with boto(moto) as s3:
        names = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
        assert [name for name in names if not name.startswith("in/here/")] == ["beside"]
        for name, data in COPIED.items() - {(CONTROLS, b"c")}:
            assert s3.get_object(Bucket=bucket, Key=f"in/here/{name}")["Body"].read() == data, name
