"""What both sides hold, content and metadata; bytes that were read before are not read again."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.chaos.content import assembled
from tests.chaos.load import digest_of
from tests.support.every_kind import GO_SETUID, GO_STICKY, GO_SYMLINK, Kept, Shape
from tests.support.s3_tree import client
from tests.support.weed import WeedServer

_OURS = (".filerbackup", ".uploads")


class FilerSide:
    """A folder of a filer. `hard_linked` are the keys that were hard links at the last look."""

    def __init__(self, weed: WeedServer, folder: str) -> None:
        self._weed, self._folder = weed, folder
        self._digests: dict[bytes, str] = {}
        self.hard_linked: set[str] = set()

    def shape(self) -> Shape:
        """Attributes by gRPC, bytes from the volume server. Raises OSError, RpcError."""
        found: Shape = {}
        self.hard_linked.clear()
        with grpc.insecure_channel(self._weed.filer_grpc) as channel:
            stub = SeaweedFilerStub(channel)
            waiting = [self._folder]
            while waiting:
                above = waiting.pop()
                request = pb.ListEntriesRequest(directory=above, limit=100_000)
                for entry in [answer.entry for answer in stub.ListEntries(request, timeout=30)]:
                    path = f"{above}/{entry.name}"
                    key = path[len(self._folder) + 1 :]
                    if key in _OURS:
                        continue
                    if entry.is_directory:
                        waiting.append(path)
                    if entry.hard_link_id:
                        self.hard_linked.add(key)
                    found[key] = self._item(entry)
        return found

    def _item(self, entry: pb.Entry) -> Kept:
        attributes = entry.attributes
        mtime_ns = attributes.mtime * 10**9 + attributes.mtime_ns
        # A directory that the filer made on the way to a symlink has the bit of a symlink too.
        if attributes.file_mode & GO_SYMLINK and not entry.is_directory:
            return Kept("link", attributes.symlink_target, mtime_ns=mtime_ns)
        mode = attributes.file_mode & 0o7777
        for go_bit, bit in ((GO_SETUID, stat.S_ISUID), (GO_STICKY, stat.S_ISVTX)):
            mode |= bit if attributes.file_mode & go_bit else 0
        if entry.is_directory:
            return Kept("directory", mode=mode)
        known = entry.content + b"".join(chunk.SerializeToString() for chunk in entry.chunks)
        known += attributes.file_size.to_bytes(8, "big")
        if known not in self._digests:
            data = assembled(self._weed, entry)
            self._digests[known] = f"{digest_of(data)} {len(data)}"
        digest, _, size_text = self._digests[known].partition(" ")
        return Kept("file", digest, int(size_text), mode, mtime_ns)


class LocalSide:
    """A directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[tuple[int, ...], str] = {}

    def shape(self) -> Shape:
        """What is there. Raises FileNotFoundError when it changes meanwhile."""
        found: Shape = {}
        for above, names, files in os.walk(self._root):
            if Path(above) == self._root and ".filerbackup" in names:
                names.remove(".filerbackup")
            for name in [*names, *files]:
                path = Path(above) / name
                found[str(path.relative_to(self._root))] = self._item(path)
        return found

    def _item(self, path: Path) -> Kept:
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            return Kept("link", os.readlink(path), mtime_ns=status.st_mtime_ns)
        if stat.S_ISDIR(status.st_mode):
            return Kept("directory", mode=mode)
        known = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if known not in self._digests:
            self._digests[known] = digest_of(path.read_bytes())
        return Kept("file", self._digests[known], status.st_size, mode, status.st_mtime_ns)


class S3Side:
    """A bucket, with what HEAD says of each object."""

    def __init__(self, weed: WeedServer, bucket: str) -> None:
        self._weed, self._bucket = weed, bucket
        self._digests: dict[tuple[str, str], str] = {}

    def shape(self) -> Shape:
        """Keys as in the source; symlinks without the end of their names. Raises OSError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return asyncio.run(asyncio.wait_for(self._read(), 60))
        except (ClientError, BotoCoreError) as error:
            raise OSError(str(error)) from None

    async def _read(self) -> Shape:
        found: Shape = {}
        few = asyncio.Semaphore(8)
        async with client(self._weed) as s3:

            async def look(key: str) -> None:
                async with few:
                    name, item = await self._item(s3, key)
                found[name] = item

            async with asyncio.TaskGroup() as group:
                async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
                    for listed in page.get("Contents", []):
                        if not listed["Key"].startswith(".filerbackup/"):
                            group.create_task(look(listed["Key"]))
        return found

    async def _item(self, s3: Any, key: str) -> tuple[str, Kept]:
        head = await s3.head_object(Bucket=self._bucket, Key=key)
        said = head["Metadata"]
        known = (key, head["ETag"])
        if known not in self._digests:
            body = await (await s3.get_object(Bucket=self._bucket, Key=key))["Body"].read()
            if key.endswith(".rclonelink"):
                return key.removesuffix(".rclonelink"), _link(body, said)
            self._digests[known] = f"{digest_of(body)} {len(body)}"
        digest, _, size = self._digests[known].partition(" ")
        mode = int(said["mode"], 8) & 0o7777 if "mode" in said else None
        return key, Kept("file", digest, int(size), mode, _ns(said.get("mtime", "0")))


def _link(body: bytes, said: dict[str, str]) -> Kept:
    return Kept("link", body.decode(), mtime_ns=_ns(said.get("mtime", "0")))


def _ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)


def without_directories(shape: Shape) -> Shape:
    """As an object store shows it."""
    return {key: item for key, item in shape.items() if item.kind != "directory"}
