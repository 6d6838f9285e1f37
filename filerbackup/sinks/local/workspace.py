"""Temporary files: a directory of this process's own under `.filerbackup/tmp/`, on the same file system.

Several processes may have one sink open (a daemon, its standby, a `verify`). Each holds a lock on a
file in its own directory for as long as it lives; what nobody holds any more was left by a killed
process and is removed at the next open. A file system without locks keeps such leftovers for a day.

A *note* is a symlink in the workspace whose target is the key of a temporary file that had to be
made elsewhere (on another file system mounted below the sink); it lets that file be found again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator

from filerbackup.sinks.keys import TEMPORARY_PREFIX
from filerbackup.sinks.local.files import new_file, private_directory, remove_one

_log = logging.getLogger(__name__)

TMP = b"tmp"
LOCK = b"lock"
_NOTE = b"note-"
_ATTEMPTS = 16
_UNLOCKABLE_AGE_S = 86400.0

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_LOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class Workspace:
    """One process's directory for temporary files. All calls block, and raise OSError."""

    def __init__(self, own_fd: int) -> None:
        """`own_fd` is of `.filerbackup`; it stays the caller's."""
        self._tmp_fd = private_directory(TMP, own_fd)
        try:
            self._name, self.fd, self._lock_fd = self._claim()
        except BaseException:
            os.close(self._tmp_fd)
            raise
        self._numbers = itertools.count()

    def name(self) -> bytes:
        """A name that is free in this workspace."""
        return b"%x" % next(self._numbers)

    def elsewhere(self) -> bytes:
        """A name for a temporary file in another directory, which no listing shows."""
        return TEMPORARY_PREFIX.encode() + self._name + b"-" + self.name()

    def create(self) -> tuple[bytes, int]:
        """A new empty file of mode 0600, open for writing: its name and descriptor."""
        name = self.name()
        return name, new_file(name, self.fd)

    def discard(self, name: bytes) -> None:
        """Remove a temporary file (or an empty directory); absent is fine."""
        remove_one(name, self.fd)

    @contextlib.contextmanager
    def note(self, path: bytes) -> Iterator[None]:
        """Remember, while this is entered, a temporary file at `path` of the sink."""
        name = _NOTE + self.name()
        # A path too long for a symlink goes without a note: a leftover there is only untidy.
        with contextlib.suppress(OSError):
            os.symlink(path, name, dir_fd=self.fd)
        try:
            yield
        finally:
            self.discard(name)

    def clean(self, remove_elsewhere: Callable[[bytes], None]) -> None:
        """Remove what killed processes left; `remove_elsewhere` gets the paths of their notes."""
        for name in _names(self._tmp_fd):
            if name != self._name:
                try:
                    self._clean_one(name, remove_elsewhere)
                except OSError as error:
                    _log.warning("a leftover temporary directory cannot be removed: %s", error)

    def close(self) -> None:
        """Remove the workspace and what is in it, as far as that goes, and let go of the lock."""
        with contextlib.suppress(OSError):
            self._empty(self.fd, lambda _path: None)
            remove_one(LOCK, self.fd)
            os.rmdir(self._name, dir_fd=self._tmp_fd)
        for fd in (self.fd, self._lock_fd, self._tmp_fd):
            os.close(fd)

    def _claim(self) -> tuple[bytes, int, int]:
        """Make and lock a directory. Another process's cleaning may take it before the lock is held."""
        for _ in range(_ATTEMPTS):
            name = secrets.token_hex(8).encode()
            with contextlib.suppress(FileNotFoundError, BlockingIOError), contextlib.ExitStack() as undo:
                os.mkdir(name, 0o700, dir_fd=self._tmp_fd)
                fd = os.open(name, _DIRECTORY, dir_fd=self._tmp_fd)
                undo.callback(os.close, fd)
                lock_fd = new_file(LOCK, fd)
                undo.callback(os.close, lock_fd)
                _lock(lock_fd)
                if os.fstat(lock_fd).st_nlink:
                    undo.pop_all()
                    return name, fd, lock_fd
        raise OSError(errno.EBUSY, "temporary directories vanish as soon as they are made")

    def _clean_one(self, name: bytes, remove_elsewhere: Callable[[bytes], None]) -> None:
        with contextlib.ExitStack() as stack:
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=self._tmp_fd)
                stack.callback(os.close, fd)
                lock_fd = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                stack.callback(os.close, lock_fd)
            except (FileNotFoundError, NotADirectoryError):
                # Not a workspace, or one that is just being made or removed: only its empty shell goes.
                remove_one(name, self._tmp_fd)
                return
            if _is_free(lock_fd):
                self._empty(fd, remove_elsewhere)
                remove_one(LOCK, fd)
                remove_one(name, self._tmp_fd)

    @staticmethod
    def _empty(fd: int, remove_elsewhere: Callable[[bytes], None]) -> None:
        for name in _names(fd):
            if name.startswith(_NOTE):
                path = os.readlink(name, dir_fd=fd)
                if path.rpartition(b"/")[2].startswith(TEMPORARY_PREFIX.encode()):
                    remove_elsewhere(path)
            if name != LOCK:
                remove_one(name, fd)


def _names(fd: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(fd)]


def _lock(fd: int) -> None:
    """Raises BlockingIOError when another process holds it; without locks here, nothing happens."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise


def _is_free(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        return time.time() - os.fstat(lock_fd).st_mtime > _UNLOCKABLE_AGE_S
    return True
