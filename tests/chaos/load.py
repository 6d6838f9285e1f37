"""A random write load on the source, of all that its users do, and every version that it ever made."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.chaos.book import Book
from tests.chaos.content import assembled
from tests.support.every_kind import GO_DIRECTORY, GO_SYMLINK
from tests.support.needles import at
from tests.support.s3_tree import client
from tests.support.weed import WeedServer

MIB = 1 << 20
NAMES = ("a", "b", "a-b", "c.d", "é", "x y", "e%2f", "f+")
"""Few, so that paths collide; some that programs get wrong."""
_SIZES = (0, 1, 50, 3000, 20_000, 200_000)
_LARGE = (1 * MIB, 3 * MIB + 1, 9 * MIB)
_HUGE = 64 * MIB
FIRST = b"the first file"
"""What is there before a load begins."""
_CALL_S = 20.0


class Refused(Exception):
    """The source said no, or cannot do this now: nothing has changed."""


class Load(threading.Thread):
    """Changes a bucket's folder until told to stop; `versions` are the digests of all contents ever made.

    An outcome that is not known (a server died) is neither counted nor assumed: each step looks first.
    """

    def __init__(
        self, weed: WeedServer, bucket: str, *, seed: int, book: Book, per_s: float, bytes_per_s: float
    ) -> None:
        super().__init__(daemon=True)
        self.folder = f"/buckets/{bucket}"
        self.versions: set[str] = {digest_of(b""), digest_of(FIRST)}
        self._weed, self._bucket, self._book = weed, bucket, book
        self._rng = random.Random(seed)
        self._pause_s = 1 / per_s
        self._bytes_per_s = bytes_per_s
        self._written = 0
        self._stopping = threading.Event()
        self._channel = grpc.insecure_channel(weed.filer_grpc)
        self._stub = SeaweedFilerStub(self._channel)
        self._steps: dict[Callable[[], str], int] = {
            self._write: 40,
            self._overwrite: 12,
            self._append: 8,
            self._truncate: 6,
            self._change_attributes: 8,
            self._rename_file: 8,
            self._rename_tree: 5,
            self._delete_file: 8,
            self._delete_tree: 2,
            self._make_directory: 2,
            self._symlink: 4,
            self._hard_link: 3,
            self._write_hard_link: 2,
            self._multipart: 3,
            self._huge: 1,
        }

    def stop(self) -> None:
        """No more changes after this returns."""
        self._stopping.set()
        self.join(120)
        self._channel.close()

    def run(self) -> None:
        with self._book.guarding("the load"):
            self._change()

    def _change(self) -> None:
        names, weights = list(self._steps), list(self._steps.values())
        while not self._stopping.wait(self._pause_s * self._rng.uniform(0.2, 1.8)):
            step = self._rng.choices(names, weights)[0]
            kind = step.__name__.strip("_").replace("_", " ")
            try:
                what = step()
            except Refused:
                continue
            except (TimeoutError, OSError, http.client.HTTPException, grpc.RpcError) as error:
                self._book.count("unsure " + kind)
                self._book.note("unsure", op=kind, error=f"{type(error).__name__}: {error}"[:200])
                # A server is away: it will not be back at once.
                self._stopping.wait(0.2)
                continue
            self._book.count("done " + kind)
            self._book.note("done", op=kind, on=what)

    # -- looking ------------------------------------------------------------------------------------

    def _path(self) -> str:
        parts = [self._rng.choice(NAMES) for _ in range(self._rng.randint(1, 3))]
        return "/".join([self.folder, *parts])

    def lookup(self, path: str) -> pb.Entry | None:
        """The live entry, or None. Raises RpcError when the filer does not answer."""
        directory, _, name = path.rpartition("/")
        request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
        try:
            return self._stub.LookupDirectoryEntry(request, timeout=_CALL_S).entry
        except grpc.RpcError as error:
            if "no entry is found" in str(error):
                return None
            raise

    def _some(self, wanted: Callable[[pb.Entry], bool]) -> tuple[str, pb.Entry]:
        """An entry that is there, found by walking down at random."""
        for _ in range(4):
            above = self.folder
            for _ in range(4):
                request = pb.ListEntriesRequest(directory=above, limit=1000)
                entries = [answer.entry for answer in self._stub.ListEntries(request, timeout=_CALL_S)]
                entries = [entry for entry in entries if entry.name != ".uploads"]
                if not entries:
                    break
                entry = self._rng.choice(entries)
                path = f"{above}/{entry.name}"
                if wanted(entry) and (not entry.is_directory or self._rng.random() < 0.5):
                    return path, entry
                if not entry.is_directory:
                    break
                above = path
        raise Refused

    def _file_path(self) -> str:
        """A path where a file may be: not below a file, not a directory's."""
        path = self._path()
        entry = self.lookup(path)
        if entry is not None and entry.is_directory:
            raise Refused
        self._need_parents(path)
        return path

    def _need_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while len(parent) > len(self.folder):
            entry = self.lookup(parent)
            if entry is not None and not entry.is_directory:
                raise Refused
            parent = parent.rpartition("/")[0]

    def _data(self, size: int) -> bytes:
        data = self._rng.randbytes(size)
        self._know(data)
        return data

    def _know(self, data: bytes) -> None:
        """From now on this content may be seen."""
        self.versions.add(digest_of(data))

    def _can_afford(self, size: int) -> None:
        if self._written + size > self._bytes_per_s * (time.time() - self._book.began) + 20 * MIB:
            raise Refused
        self._written += size

    # -- files --------------------------------------------------------------------------------------

    def _size(self) -> int:
        size = self._rng.choice(_LARGE) if self._rng.random() < 0.06 else self._rng.choice(_SIZES)
        self._can_afford(size)
        return size

    def _put(self, path: str, data: bytes) -> str:
        query = "maxMB=1" if self._rng.random() < 0.3 else ""
        if self._weed.put(path, data, query=query) >= 300:
            raise OSError("not written")
        return f"{path} {len(data)} {digest_of(data)}"

    def _write(self) -> str:
        return self._put(self._file_path(), self._data(self._size()))

    def _overwrite(self) -> str:
        path, _ = self._some(_is_file)
        return self._put(path, self._data(self._size()))

    def _huge(self) -> str:
        self._can_afford(_HUGE)
        path = f"{self.folder}/huge{self._rng.randrange(2)}"
        if (entry := self.lookup(path)) is not None and entry.is_directory:
            raise Refused
        return self._put(path, self._data(_HUGE))

    def _append(self) -> str:
        path, entry = self._some(_is_file)
        if entry.hard_link_id:
            raise Refused
        more = self._rng.randbytes(self._rng.choice((1, 100, 5000, 100_000)))
        before = assembled(self._weed, entry)
        self._know(before + more)
        if self._weed.put(path, more, query="op=append") >= 300:
            raise OSError("not appended")
        return f"{path} +{len(more)} {digest_of(before + more)}"

    def _truncate(self) -> str:
        """As a mount does it: chunks behind the new end go, the one across it is shortened."""
        path, entry = self._some(_is_file)
        before = assembled(self._weed, entry)
        if len(before) < 2 or entry.hard_link_id or any(chunk.is_chunk_manifest for chunk in entry.chunks):
            raise Refused
        size = self._rng.randrange(len(before))
        self._know(before[:size])
        chunks = []
        for chunk in entry.chunks:
            if chunk.offset < size:
                chunk.size = min(chunk.size, size - chunk.offset)
                chunks.append(at(chunk, chunk.offset))
        del entry.chunks[:]
        entry.chunks.extend(chunks)
        entry.content = entry.content[:size]
        entry.attributes.file_size = size
        _touch(entry)
        self._update(path, entry)
        return f"{path} to {size} {digest_of(before[:size])}"

    def _change_attributes(self) -> str:
        path, entry = self._some(lambda entry: not entry.attributes.file_mode & GO_SYMLINK)
        kept = entry.attributes.file_mode & (GO_DIRECTORY | GO_SYMLINK)
        entry.attributes.file_mode = kept | self._rng.choice((0o644, 0o600, 0o755, 0o750, 0o640))
        if not entry.is_directory and self._rng.random() < 0.5:
            entry.attributes.mtime = self._rng.randrange(1_500_000_000, 1_700_000_000)
            entry.attributes.mtime_ns = self._rng.randrange(10**9)
        self._update(path, entry)
        return f"{path} {entry.attributes.file_mode & 0o777:o}"

    def _update(self, path: str, entry: pb.Entry) -> None:
        request = pb.UpdateEntryRequest(directory=path.rpartition("/")[0], entry=entry)
        self._stub.UpdateEntry(request, timeout=_CALL_S)

    def _create(self, path: str, entry: pb.Entry) -> None:
        directory, _, entry.name = path.rpartition("/")
        answer = self._stub.CreateEntry(
            pb.CreateEntryRequest(directory=directory, entry=entry), timeout=_CALL_S
        )
        if answer.error:
            raise OSError(answer.error)

    # -- names --------------------------------------------------------------------------------------

    def _rename(self, old: str, new: str) -> str:
        if (new + "/").startswith(old + "/") or (old + "/").startswith(new + "/"):
            raise Refused
        if self._weed.rename(old, new) >= 300:
            raise OSError("not renamed")
        return f"{old} -> {new}"

    def _rename_file(self) -> str:
        path, _ = self._some(lambda entry: not entry.is_directory)
        return self._rename(path, self._file_path())

    def _rename_tree(self) -> str:
        path, _ = self._some(lambda entry: entry.is_directory)
        new = self._file_path()
        if self.lookup(new) is not None:
            raise Refused
        return self._rename(path, new)

    def _delete_file(self) -> str:
        path, _ = self._some(lambda entry: not entry.is_directory)
        if self._weed.delete(path) >= 300:
            raise OSError("not deleted")
        return path

    def _delete_tree(self) -> str:
        path, _ = self._some(lambda entry: entry.is_directory)
        if self._weed.delete(path, recursive=True) >= 300:
            raise OSError("not deleted")
        return path

    def _make_directory(self) -> str:
        path = self._file_path()
        if self.lookup(path) is not None:
            raise Refused
        attributes = pb.FuseAttributes(file_mode=GO_DIRECTORY | 0o755, mtime=int(time.time()))
        self._create(path, pb.Entry(is_directory=True, attributes=attributes))
        return path

    def _symlink(self) -> str:
        path = self._file_path()
        target = self._rng.choice(("a", "../b", "nowhere/at all", "/abs/é"))
        self._know(target.encode())
        attributes = pb.FuseAttributes(
            file_mode=GO_SYMLINK | 0o777, mtime=int(time.time()), symlink_target=target
        )
        self._create(path, pb.Entry(attributes=attributes))
        return f"{path} -> {target}"

    def _hard_link(self) -> str:
        """As a mount does it: both names get the link's id and the new count."""
        path, entry = self._some(_is_file)
        new = self._file_path()
        if self.lookup(new) is not None or new == path:
            raise Refused
        if not entry.hard_link_id:
            entry.hard_link_id = self._rng.randbytes(16) + b"\1"
            entry.hard_link_counter = 1
        entry.hard_link_counter += 1
        self._update(path, entry)
        self._create(new, entry)
        return f"{path} = {new}"

    def _write_hard_link(self) -> str:
        """New content through one name; the filer tells of that name only."""
        path, entry = self._some(lambda entry: _is_file(entry) and bool(entry.hard_link_id))
        data = self._data(self._rng.choice((10, 500)))
        del entry.chunks[:]
        entry.content = data
        entry.attributes.file_size = len(data)
        entry.attributes.md5 = b""
        _touch(entry)
        self._update(path, entry)
        return f"{path} {digest_of(data)}"

    # -- through S3 ---------------------------------------------------------------------------------

    def _multipart(self) -> str:
        path = self._file_path()
        sizes = self._rng.choice(((5 * MIB, 11), (5 * MIB, 5 * MIB, 1), (5 * MIB + 3, 70_000)))
        self._can_afford(sum(sizes))
        parts = [self._rng.randbytes(size) for size in sizes]
        self._know(b"".join(parts))
        asyncio.run(asyncio.wait_for(self._upload(path[len(self.folder) + 1 :], parts), 60))
        return f"{path} {sum(sizes)}"

    async def _upload(self, key: str, parts: list[bytes]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with client(self._weed) as s3:
                where: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
                begun = await s3.create_multipart_upload(**where)
                where["UploadId"] = begun["UploadId"]
                done = []
                for number, body in enumerate(parts, 1):
                    answer = await s3.upload_part(**where, PartNumber=number, Body=body)
                    done.append({"PartNumber": number, "ETag": answer["ETag"]})
                await s3.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
        except (ClientError, BotoCoreError) as error:
            raise OSError(str(error)) from None


def digest_of(data: bytes) -> str:
    """The same as `tests.support` uses."""
    return hashlib.sha256(data).hexdigest()[:24]


def _is_file(entry: pb.Entry) -> bool:
    return not entry.is_directory and not entry.attributes.file_mode & GO_SYMLINK


def _touch(entry: pb.Entry) -> None:
    now_ns = time.time_ns()
    entry.attributes.mtime, entry.attributes.mtime_ns = divmod(now_ns, 10**9)


@contextlib.contextmanager
def loading(load: Load) -> Any:
    """A load that runs until the end of the block."""
    load.start()
    try:
        yield load
    finally:
        load.stop()
