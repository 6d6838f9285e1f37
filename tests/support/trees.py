"""Both sides as plain dictionaries, read without filerbackup's own code: path -> what is there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.weed import WeedServer

_SYMLINK_BIT = 1 << 27


@dataclass(frozen=True, slots=True)
class Item:
    """A file (`digest` of its bytes), a directory ("directory") or a symlink ("-> target")."""

    digest: str
    size: int = 0


DIRECTORY = Item("directory")
Tree = dict[str, Item]


def digest(data: bytes) -> Item:
    """A file with these bytes."""
    return Item(hashlib.sha256(data).hexdigest()[:24], len(data))


def filer_tree(weed: WeedServer, folder: str, *, directories: bool = True) -> Tree:
    """What the filer holds below a folder; contents are read through its HTTP API."""
    found: Tree = {}
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        stub = SeaweedFilerStub(channel)
        for path, entry in _walk(stub, folder.rstrip("/") or "/"):
            relative = path[len(folder.rstrip("/")) + 1 :]
            if entry.is_directory:
                if directories:
                    found[relative] = DIRECTORY
            elif entry.attributes.file_mode & _SYMLINK_BIT:
                found[relative] = Item("-> " + entry.attributes.symlink_target)
            else:
                found[relative] = digest(weed.get(path))
    return found


def _walk(stub: SeaweedFilerStub, directory: str) -> Iterator[tuple[str, pb.Entry]]:
    last = ""
    while True:
        request = pb.ListEntriesRequest(directory=directory, startFromFileName=last, limit=1000)
        page = [response.entry for response in stub.ListEntries(request)]
        for entry in page:
            path = f"{directory.rstrip('/')}/{entry.name}"
            if path in ("/etc/filerbackup", "/topics"):
                continue
            yield path, entry
            if entry.is_directory:
                yield from _walk(stub, path)
        if len(page) < 1000:
            return
        last = page[-1].name


def local_tree(root: Path, *, directories: bool = True) -> Tree:
    """What a directory holds, without filerbackup's own."""
    found: Tree = {}
    for place, names, files in os.walk(os.fsencode(root)):
        base = os.path.relpath(place, os.fsencode(root))
        if base == b"." and b".filerbackup" in names:
            names.remove(b".filerbackup")
        for name in [*names, *files]:
            path = os.path.join(place, name)
            relative = os.path.normpath(os.path.join(base, name)).decode()
            # What is moved away while we look is not there.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                item = _item(path)
                if directories or item != DIRECTORY:
                    found[relative] = item
    return found


def _item(path: bytes) -> Item:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return Item("-> " + os.readlink(path).decode())
    if stat.S_ISDIR(mode):
        return DIRECTORY
    with open(path, "rb") as file:
        return digest(file.read())


def difference(source: Tree, copy: Tree) -> str:
    """What differs, for a person; empty when nothing does."""
    lines = [f"only in the source: {path!r}" for path in sorted(source.keys() - copy.keys())]
    lines += [f"only in the copy: {path!r}" for path in sorted(copy.keys() - source.keys())]
    lines += [
        f"differs: {path!r}: {source[path]} in the source, {copy[path]} in the copy"
        for path in sorted(source.keys() & copy.keys())
        if source[path] != copy[path]
    ]
    rest = f"\n... and {len(lines) - 20} more" if len(lines) > 20 else ""
    return "\n".join(lines[:20]) + rest
