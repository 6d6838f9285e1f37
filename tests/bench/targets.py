"""Where copies go: fresh for each run, looked at with little effort, checked, and removed."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.bench.cases import Load
from tests.bench.source import content, digest, names
from tests.support.configs import local_sink, s3_sink
from tests.support.s3_tree import make_bucket
from tests.support.weed import WeedServer

_SAMPLE = 100
_OWN = ".filerbackup"
_READ_BYTES = 1 << 20


class WrongCopy(Exception):
    """The target is not what the source holds: no number counts then."""


class Target(Protocol):
    """An empty place for the copies of one run."""

    @property
    def config(self) -> str:
        """Its section of replication.toml."""
        ...

    @property
    def rclone(self) -> str:
        """Its name for rclone."""
        ...

    def size_of(self, name: str) -> int | None:
        """The length of one file, None while it is not there; cheap enough to be asked all the time."""
        ...

    def sizes(self) -> dict[str, int]:
        """All files by their path in the target, without filerbackup's own."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """One file."""
        ...

    def remove(self) -> None:
        """All of it, unless it costs the next run less to leave it to the end."""
        ...


class Directory:
    """A directory of this machine."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self.config = local_sink(path)
        self.rclone = str(path)

    def size_of(self, name: str) -> int | None:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._path / name).st_size
        return None

    def sizes(self) -> dict[str, int]:
        return dict(self._below(""))

    def _below(self, relative: str) -> Iterator[tuple[str, int]]:
        with os.scandir(self._path / relative) as entries:
            for entry in entries:
                name = relative + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name != _OWN:
                        yield from self._below(name + "/")
                else:
                    yield name, entry.stat(follow_symlinks=False).st_size

    def read(self, name: str) -> Iterator[bytes]:
        with open(self._path / name, "rb") as file:
            while block := file.read(_READ_BYTES):
                yield block

    def remove(self) -> None:
        """Nothing: ext4 looks for a new inode among those freed in the last minute one by one, at a cost
        of up to a third of all the work. The scratch directory goes as a whole.
        """


class Bucket:
    """A bucket of another weed. Looked at through that weed's filer, which costs the gateway nothing."""

    def __init__(self, weed: WeedServer, name: str, endpoint: str) -> None:
        make_bucket(weed, name)
        self._weed = weed
        self._folder = f"/buckets/{name}"
        self._connection = http.client.HTTPConnection("127.0.0.1", weed.filer_port, timeout=60)
        self.config = s3_sink(weed, name, endpoint=endpoint)
        self.rclone = f"target:{name}"

    def size_of(self, name: str) -> int | None:
        self._connection.request("HEAD", quote(f"{self._folder}/{name}"))
        response = self._connection.getresponse()
        response.read()
        return int(response.headers["Content-Length"]) if response.status == 200 else None

    def sizes(self) -> dict[str, int]:
        with grpc.insecure_channel(self._weed.filer_grpc) as channel:
            return dict(self._below(SeaweedFilerStub(channel), ""))

    def _below(self, stub: SeaweedFilerStub, relative: str) -> Iterator[tuple[str, int]]:
        folder = f"{self._folder}/{relative}".rstrip("/")
        request = pb.ListEntriesRequest(directory=folder, limit=1_000_000)
        for entry in [response.entry for response in stub.ListEntries(request)]:
            name = relative + entry.name
            if entry.is_directory:
                if name not in (_OWN, ".uploads"):
                    yield from self._below(stub, name + "/")
            else:
                ends = (chunk.offset + chunk.size for chunk in entry.chunks)
                yield name, max(entry.attributes.file_size, len(entry.content), *ends, 0)

    def read(self, name: str) -> Iterator[bytes]:
        self._connection.request("GET", quote(f"{self._folder}/{name}"))
        response = self._connection.getresponse()
        if response.status != 200:
            response.read()
            raise WrongCopy(f"{name}: HTTP {response.status}")
        while block := response.read(_READ_BYTES):
            yield block

    def remove(self) -> None:
        self._connection.close()
        self._weed.delete(self._folder, recursive=True)


def is_complete(target: Target, load: Load) -> bool:
    """Whether every file is there in its length."""
    return target.sizes() == dict.fromkeys(names(load), load.size)


def check(target: Target, load: Load) -> None:
    """Every file in its length and no other, and the content of a sample. Raises WrongCopy."""
    expected, found = dict.fromkeys(names(load), load.size), target.sizes()
    if found != expected:
        missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
        wrong = [name for name in expected.keys() & found.keys() if found[name] != load.size]
        raise WrongCopy(
            f"{len(found)} files instead of {load.count}: {len(missing)} missing {sorted(missing)[:3]}, "
            f"{len(more)} that nobody wrote {sorted(more)[:3]}, {len(wrong)} of a wrong size {wrong[:3]}"
        )
    for name in random.sample(sorted(expected), min(_SAMPLE, load.count)):
        if digest(target.read(name)) != digest(content(load, name)):
            raise WrongCopy(f"{name} holds other bytes than the source")
