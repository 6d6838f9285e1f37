"""Single files below an open directory. Every call blocks and raises OSError."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1 << 20


def new_file(name: bytes, directory_fd: int) -> int:
    """Make a file of mode 0600 and open it for writing."""
    return os.open(name, _NEW, 0o600, dir_fd=directory_fd)


def make_directory(name: bytes, directory_fd: int) -> None:
    """Make a directory of mode 0700; that it exists is fine."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=directory_fd)


def private_directory(name: bytes, directory_fd: int) -> int:
    """Make, or take over, a directory that nobody else may look into, and open it; never a symlink.

    One that belongs to another user stays as it is.
    """
    make_directory(name, directory_fd)
    fd = os.open(name, _DIRECTORY, dir_fd=directory_fd)
    status = os.fstat(fd)
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        # A file system without modes shows what it likes, and takes no other.
        with contextlib.suppress(OSError):
            os.fchmod(fd, 0o700)
    return fd


def write_all(fd: int, blocks: Sequence[bytes]) -> None:
    """Append the blocks: a full disk may take only a part of one call."""
    for block in blocks:
        written = os.write(fd, block)
        while written < len(block):
            written += os.write(fd, memoryview(block)[written:])


def copy_bytes(name: bytes, directory_fd: int, to_fd: int) -> None:
    """Append the content of a file."""
    fd = os.open(name, _READ, dir_fd=directory_fd)
    try:
        while block := os.read(fd, _COPY_BYTES):
            write_all(to_fd, (block,))
    finally:
        os.close(fd)


def remove_one(name: bytes, directory_fd: int) -> None:
    """Remove a file, a symlink or an empty directory; absent is fine, a full directory stays."""
    if unlinked(name, directory_fd):
        return
    try:
        os.rmdir(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def unlinked(name: bytes, directory_fd: int) -> bool:
    """Remove anything but a directory; False when a directory stands there. Absent is fine."""
    try:
        os.unlink(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        # POSIX lets unlink(2) of a directory fail with either.
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode):
            raise
        return False
    return True
