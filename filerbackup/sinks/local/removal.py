"""Removing a whole tree: no recursion, no descriptor for each level, never through a symlink."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from filerbackup.sinks.local.files import unlinked
from filerbackup.sinks.local.paths import BeforeChange, open_directory, readable

_ATTEMPTS = 16


def remove_tree(root_fd: int, path: bytes, before_change: BeforeChange) -> Iterator[None]:
    """Remove what stands at `path`, whatever it is, and everything below it; absent is fine.

    Yields after each removal, so that a caller can pause. Raises OSError, also when something is put
    there faster than it is removed.
    """
    parent, _, name = path.rpartition(b"/")
    try:
        fd = open_directory(root_fd, parent)
    except FileNotFoundError:
        return
    try:
        before_change(parent, fd)
        is_directory = not unlinked(name, fd)
    finally:
        os.close(fd)
    if is_directory:
        yield from _remove_directories(root_fd, path)


def _remove_directories(root_fd: int, top: bytes) -> Iterator[None]:
    waiting = [top]
    full = 0
    while waiting:
        path = waiting[-1]
        below: list[bytes] = []
        try:
            yield from _remove_files(root_fd, path, below)
            gone = not below and _removed_empty(root_fd, path)
        except FileNotFoundError:
            gone = True
        if gone:
            waiting.pop()
        elif below:
            waiting.extend(path + b"/" + name for name in below)
        else:
            full += 1
            if full > _ATTEMPTS:
                raise OSError(errno.EAGAIN, "files are put into a directory that is being removed")
        yield


def _remove_files(root_fd: int, path: bytes, below: list[bytes]) -> Iterator[None]:
    """Remove all but directories from one directory; their names go to `below`."""
    path_fd = open_directory(root_fd, path)
    try:
        fd = readable(path_fd)
    finally:
        os.close(path_fd)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False) or not unlinked(name, fd):
                    below.append(name)
                else:
                    yield
    finally:
        os.close(fd)


def _removed_empty(root_fd: int, path: bytes) -> bool:
    """Remove an empty directory; False when it is not empty. Raises OSError."""
    parent, _, name = path.rpartition(b"/")
    fd = open_directory(root_fd, parent)
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return True
        raise
    finally:
        os.close(fd)
    return True
