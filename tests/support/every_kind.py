"""A tree with every kind of file that a filer holds, and what a copy of it has to show.

The tree lives in a bucket, because only there both clients of S3 and mounts can make entries.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.load import ODD_NAMES, put_many
from tests.support.needles import at, put_needle
from tests.support.s3_tree import client, make_bucket
from tests.support.weed import WeedServer

MIB = 1 << 20
SIZES = (0, 1, 4095, 65_536, 3 * MIB + 1, 8 * MIB, 8 * MIB + 1, 20 * MIB)
MTIME_NS = 1_600_000_000_123_456_789
TIMES_NS = (0, 1, 999_999_999, 10**9, MTIME_NS, 4_000_000_000_000_000_001)
MODES = (0o644, 0o600, 0o400, 0o755, 0o777, 0o640, 0o000)
GO_DIRECTORY, GO_SYMLINK, GO_SETUID, GO_STICKY = 1 << 31, 1 << 27, 1 << 23, 1 << 20
PLAIN_NAMES = tuple(name for name in ODD_NAMES if name.isprintable())
"""Control characters are refused by B2 and by Azure."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one path is; `mode` holds permission bits. None: not known, or not to be compared."""

    kind: str
    digest: str = ""
    size: int = 0
    mode: int | None = None
    mtime_ns: int | None = None


Shape = dict[str, Kept]


class Tree:
    """Makes and changes the tree in a bucket of a filer."""

    def __init__(self, weed: WeedServer, bucket: str) -> None:
        self.weed = weed
        self.bucket = bucket
        self.folder = f"/buckets/{bucket}"
        self._channel = grpc.insecure_channel(weed.filer_grpc)
        self._stub = SeaweedFilerStub(self._channel)

    def close(self) -> None:
        """Release the connection."""
        self._channel.close()

    def make(self) -> None:
        """Everything, as it is at first."""
        make_bucket(self.weed, self.bucket)
        rng = random.Random(7)
        for number, size in enumerate(SIZES):
            self.weed.put(f"{self.folder}/sizes/{size}", rng.randbytes(size), query="maxMB=2")
            self.change(f"sizes/{size}", mtime_ns=MTIME_NS + number)
        put_many(self.weed, ((f"{self.folder}/many/d{n % 7}/f{n}", rng.randbytes(n)) for n in range(200)))
        odd = [f"{self.folder}/odd/{name}" for name in PLAIN_NAMES]
        put_many(self.weed, ((path, path.encode()) for path in [*odd, f"{self.folder}/odd/ö/é/\U0001f600"]))
        for time_ns in TIMES_NS:
            self.inline(f"times/{time_ns}", b"time", mtime_ns=time_ns)
        for mode in MODES:
            self.inline(f"modes/{mode:o}", b"mode", mode=mode, uid=1000, gid=1001)
        self.inline("modes/setuid", b"setuid", mode=0o755 | GO_SETUID)
        self.inline("modes/sticky", b"sticky", mode=0o644 | GO_STICKY)
        self.inline("links/target", b"target")
        for name, target in (
            ("near", "target"),
            ("up", "../sizes/1"),
            ("gone", "nowhere/at all"),
            ("ü", "/a b"),
        ):
            self.entry(f"links/{name}", mode=0o777 | GO_SYMLINK, symlink_target=target)
        for name in ("empty", "deep/er/empty"):
            self.directory(name, mode=0o750)
        self.directory("full", mode=0o711)
        self.inline("full/file", b"in a directory with a mode")
        self.sparse("sparse/hole", [(0, b"a" * 1000), (2 * MIB, b"b" * 1000)], size=3 * MIB)
        self.sparse("sparse/overlap", [(0, b"c" * 5000), (1000, b"d" * 1000)], size=5000)
        self.sparse("sparse/nothing", [], size=100_000)
        self.hard_link(["hard/one", "hard/two", "hard/elsewhere/three"], b"the same file" * 1000)
        asyncio.run(self._make_objects(rng))

    async def _make_objects(self, rng: random.Random) -> None:
        async with client(self.weed) as s3:
            put = s3.put_object
            await put(Bucket=self.bucket, Key="s3/plain", Body=rng.randbytes(5000))
            await put(
                Bucket=self.bucket,
                Key="s3/with everything",
                Body=b"<p>hello</p>",
                ContentType="text/html; charset=utf-8",
                CacheControl="max-age=60",
                ContentDisposition='inline; filename="x.html"',
                ContentLanguage="de",
                Metadata={"owner": "anna", "project": "backup"},
                Tagging="team=storage&cost=4711",
            )
            await put(Bucket=self.bucket, Key="s3/marker/", Body=b"")
            upload = (await s3.create_multipart_upload(Bucket=self.bucket, Key="s3/in parts"))["UploadId"]
            parts = []
            for number, size in ((1, 6 * MIB), (2, 6 * MIB + 11), (3, 5)):
                answer = await s3.upload_part(
                    Bucket=self.bucket,
                    Key="s3/in parts",
                    UploadId=upload,
                    PartNumber=number,
                    Body=rng.randbytes(size),
                )
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            await s3.complete_multipart_upload(
                Bucket=self.bucket, Key="s3/in parts", UploadId=upload, MultipartUpload={"Parts": parts}
            )

    def make_changes(self) -> None:
        """Renames, attributes, new content, and deletes; what moved or changed mode has the bytes it had."""
        # weed 4.48 tells nobody of the directories that a rename makes on its way.
        for path in ("moved", "many-moved", "many-moved/deep"):
            self.directory(path, mode=0o755)
        move = self.weed.rename
        move(f"{self.folder}/sizes/{20 * MIB}", f"{self.folder}/moved/large")
        move(f"{self.folder}/sizes/{8 * MIB}", f"{self.folder}/sizes/renamed in place")
        move(f"{self.folder}/many/d1", f"{self.folder}/many-moved/deep/d1")
        move(f"{self.folder}/odd", f"{self.folder}/odder")
        move(f"{self.folder}/s3/with everything", f"{self.folder}/s3/everything moved")
        move(f"{self.folder}/links/up", f"{self.folder}/links/up and away")
        self.change("modes/644", mode=0o440)
        self.change("modes/setuid", mode=0o755)
        self.change(f"sizes/{8 * MIB + 1}", mode=0o600, mtime_ns=MTIME_NS + 77)
        self.change("s3/in parts", mtime_ns=MTIME_NS + 78)
        self.change("full", mode=0o700)
        for path in ("sizes/1", "many/d2/f2", "links/near", "hard/two"):
            self.weed.delete(f"{self.folder}/{path}")
        self.weed.delete(f"{self.folder}/many/d3", recursive=True)
        self.weed.delete(f"{self.folder}/deep", recursive=True)
        self.weed.put(f"{self.folder}/many/d4/f4", b"other content")
        self.weed.put(f"{self.folder}/sizes/0", b"no longer empty")
        self.inline("empty/no longer", b"a file")
        self.entry("links/gone", mode=0o777 | GO_SYMLINK, symlink_target="another target")

    # -- single entries ---------------------------------------------------------------------------

    def entry(
        self, path: str, *, content: bytes = b"", mode: int = 0o644, mtime_ns: int = MTIME_NS, **more: object
    ) -> None:
        """Create or replace an entry; further fields are those of its attributes."""
        directory, _, name = f"{self.folder}/{path}".rpartition("/")
        attributes = pb.FuseAttributes(
            mtime=mtime_ns // 10**9,
            mtime_ns=mtime_ns % 10**9,
            crtime=1_600_000_000,
            file_mode=mode,
            file_size=len(content),
            **more,  # type: ignore[arg-type]
        )
        made = pb.Entry(
            name=name, is_directory=bool(mode & GO_DIRECTORY), content=content, attributes=attributes
        )
        self._create(directory, made)

    def inline(self, path: str, content: bytes, **attributes: object) -> None:
        """A small file whose bytes are in the entry."""
        self.entry(path, content=content, **attributes)  # type: ignore[arg-type]

    def directory(self, path: str, *, mode: int) -> None:
        """A directory of its own."""
        self.entry(path, mode=mode | GO_DIRECTORY)

    def sparse(self, path: str, pieces: list[tuple[int, bytes]], *, size: int) -> None:
        """A file of `size` bytes of which only these are stored."""
        directory, _, name = f"{self.folder}/{path}".rpartition("/")
        attributes = pb.FuseAttributes(mtime=1_600_000_000, file_mode=0o644, file_size=size)
        chunks = [
            at(put_needle(self.weed, data), offset, 1_000 + number)
            for number, (offset, data) in enumerate(pieces)
        ]
        self._create(directory, pb.Entry(name=name, chunks=chunks, attributes=attributes))

    def hard_link(self, paths: list[str], data: bytes) -> None:
        """One file under several names."""
        identity = random.Random(11).randbytes(16) + b"\1"
        chunk = put_needle(self.weed, data)
        for path in paths:
            directory, _, name = f"{self.folder}/{path}".rpartition("/")
            attributes = pb.FuseAttributes(mtime=1_600_000_000, file_mode=0o640, file_size=len(data))
            made = pb.Entry(
                name=name,
                chunks=[chunk],
                attributes=attributes,
                hard_link_id=identity,
                hard_link_counter=len(paths),
            )
            self._create(directory, made)

    def change(self, path: str, *, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """Change attributes of what is there, as a mount does."""
        directory, _, name = f"{self.folder}/{path}".rpartition("/")
        request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
        entry = self._stub.LookupDirectoryEntry(request).entry
        if mode is not None:
            entry.attributes.file_mode = mode | (entry.attributes.file_mode & GO_DIRECTORY)
        if mtime_ns is not None:
            entry.attributes.mtime, entry.attributes.mtime_ns = divmod(mtime_ns, 10**9)
        self._stub.UpdateEntry(pb.UpdateEntryRequest(directory=directory, entry=entry))

    def _create(self, directory: str, entry: pb.Entry) -> None:
        answer = self._stub.CreateEntry(pb.CreateEntryRequest(directory=directory, entry=entry))
        assert not answer.error, answer.error


@contextmanager
def every_kind(weed: WeedServer, bucket: str) -> Iterator[Tree]:
    """The tree, made; its connection is closed at the end."""
    tree = Tree(weed, bucket)
    try:
        tree.make()
        yield tree
    finally:
        tree.close()


def filer_shape(weed: WeedServer, folder: str) -> Shape:
    """What a filer holds below a folder: attributes by gRPC, bytes by HTTP."""
    found: Shape = {}
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        stub = SeaweedFilerStub(channel)
        waiting = [folder]
        while waiting:
            above = waiting.pop()
            request = pb.ListEntriesRequest(directory=above, limit=100_000)
            for entry in [response.entry for response in stub.ListEntries(request)]:
                path = f"{above}/{entry.name}"
                key = path[len(folder) + 1 :]
                # Ours, and the gateway's room for unfinished uploads.
                if key in (".filerbackup", ".uploads"):
                    continue
                if entry.is_directory:
                    waiting.append(path)
                found[key] = _filer_item(weed, path, entry)
    return found


def _filer_item(weed: WeedServer, path: str, entry: pb.Entry) -> Kept:
    attributes = entry.attributes
    mtime_ns = attributes.mtime * 10**9 + attributes.mtime_ns
    go_mode = attributes.file_mode
    if go_mode & GO_SYMLINK:
        return Kept("link", attributes.symlink_target, mtime_ns=mtime_ns)
    mode = go_mode & 0o7777
    for go_bit, bit in ((GO_SETUID, stat.S_ISUID), (GO_STICKY, stat.S_ISVTX)):
        mode |= bit if go_mode & go_bit else 0
    if entry.is_directory:
        return Kept("directory", mode=mode)
    data = weed.get(path) if attributes.file_size or entry.chunks or entry.content else b""
    return Kept("file", hashlib.sha256(data).hexdigest()[:24], len(data), mode, mtime_ns)


def local_shape(root: Path) -> Shape:
    """What a directory holds."""
    found: Shape = {}
    for above, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(above) / name
            status = path.lstat()
            mode = stat.S_IMODE(status.st_mode)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = Kept("link", os.readlink(path), mtime_ns=status.st_mtime_ns)
            elif path.is_dir():
                found[key] = Kept("directory", mode=mode)
            else:
                data = path.read_bytes()
                digest = hashlib.sha256(data).hexdigest()[:24]
                found[key] = Kept("file", digest, len(data), mode, status.st_mtime_ns)
    found.pop(".filerbackup", None)
    return {key: item for key, item in found.items() if not key.startswith(".filerbackup/")}


def without(item: Kept, *, mode: bool = False, time_unit_ns: int = 1) -> Kept:
    """The item with no mode, or with a coarser time.

    rclone 1.75.2 never restores set-id and sticky bits, also with --local-metadata-restore-special-bits.
    """
    mtime_ns = None if item.mtime_ns is None else item.mtime_ns // time_unit_ns * time_unit_ns
    bits = None if mode or item.mode is None else item.mode & 0o777
    return dataclasses.replace(item, mode=bits, mtime_ns=mtime_ns)


def differences(wanted: Shape, found: Shape) -> str:
    """For a person; empty when there are none."""
    lines = [f"missing: {key!r}" for key in sorted(wanted.keys() - found.keys())]
    lines += [f"too much: {key!r}: {found[key]}" for key in sorted(found.keys() - wanted.keys())]
    lines += [
        f"differs: {key!r}: {found[key]} instead of {wanted[key]}"
        for key in sorted(wanted.keys() & found.keys())
        if wanted[key] != found[key]
    ]
    return "\n".join([*lines[:20], *([f"... and {len(lines) - 20} more"] if len(lines) > 20 else [])])
