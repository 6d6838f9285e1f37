"""Directories below a root descriptor, one component at a time, never through a symlink.

A path here is the UTF-8 bytes of a key: relative, separated by "/", b"" for the root itself. Each
component is opened relative to the descriptor of the one before, as a directory and nothing else,
so no symlink, wherever somebody plants one and however quickly, leads out of the sink. It also makes
the depth of a path free of the system's limit on the length of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_NAMES = frozenset({b"", b".", b".."})
_ATTEMPTS = 16

BeforeChange = Callable[[bytes, int], None]
"""Called with the path and descriptor of a directory that is about to be changed."""


def open_directory(root_fd: int, path: bytes) -> int:
    """A descriptor of the directory, good as `dir_fd`; the caller closes it.

    Raises FileNotFoundError also where something else stands in its place or on the way.
    """
    if not path:
        return os.open(b".", _STEP, dir_fd=root_fd)
    first, *others = path.split(b"/")
    fd = _step(first, root_fd)
    for component in others:
        try:
            below = _step(component, fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def make_directories(root_fd: int, path: bytes, before_change: BeforeChange) -> int:
    """The same, and what is missing is made; a file or symlink in the way is removed first.

    New directories are for their owner only (0700): until the source's own entry for them comes
    along, nobody sees more of the copy than they may see of the source. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        return open_directory(root_fd, path)
    fd = os.open(b".", _STEP, dir_fd=root_fd)
    components = path.split(b"/")
    for depth, component in enumerate(components):
        try:
            try:
                below = _step(component, fd)
            except FileNotFoundError:
                before_change(b"/".join(components[:depth]), fd)
                below = _make_step(component, fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def readable(fd: int) -> int:
    """A second descriptor of a directory, for reading, changing and syncing it. Raises OSError."""
    return os.open(b".", _READABLE, dir_fd=fd)


def sync_directory(root_fd: int, path: bytes) -> None:
    """fsync(2) of one directory. Raises OSError."""
    path_fd = open_directory(root_fd, path)
    try:
        fd = readable(path_fd)
    finally:
        os.close(path_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _step(component: bytes, fd: int) -> int:
    if component in _NOT_NAMES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    try:
        return os.open(component, _STEP, dir_fd=fd)
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, "something else stands there") from error


def _make_step(component: bytes, fd: int) -> int:
    """Others may make the same directory at the same time, and a hostile hand may keep changing it."""
    for _ in range(_ATTEMPTS):
        try:
            os.mkdir(component, 0o700, dir_fd=fd)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(component, dir_fd=fd)
        with contextlib.suppress(FileNotFoundError):
            return _step(component, fd)
    raise OSError(errno.EAGAIN, "a directory is replaced as soon as it is made")
