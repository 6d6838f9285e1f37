"""Durability in groups: one flush for all that was written since the last one.

A flush writes a whole file system back with one syncfs(2). Linux reports through it, since 5.8,
that data written earlier could not be stored, once for each descriptor: hence the descriptors that
stay open here. Where syncfs is missing or silent, each file is synced before it is renamed, and the
directories at the flush.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.local.durability import RECORD_NAME, FlushRecord, record_at_start
from filerbackup.sinks.local.files import write_all
from filerbackup.sinks.local.paths import open_directory, sync_directory
from filerbackup.sinks.local.workspace import Workspace

_ERRORS_REPORTED_SINCE = (5, 8)
_LOST_HINT = "look at the disk and the kernel's log"
_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


class Changed:
    """The directories in which something changed since the last flush, with their modified times.

    Used by many threads. Every change calls `before` with the directory it is about to change, and
    `after` when it is done.
    """

    def __init__(self, root_fd: int) -> None:
        """`root_fd` stays the caller's, and open."""
        self._volumes = {os.fstat(root_fd).st_dev: root_fd}
        self._root_fd = root_fd
        self.may_change: Callable[[], None] = lambda: None
        self._mtimes: dict[bytes, int] = {}
        self._last_mtimes: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._dirty = False

    def before(self, path: bytes, fd: int) -> None:
        """Remember the directory at `path`, open as `fd`, as it is before the change.

        Raises OSError, and what `may_change` does: there is to be no change.
        """
        self.may_change()
        if path in self._mtimes:
            return
        status = os.fstat(fd)
        self._mtimes.setdefault(path, self._last_mtimes.get(path, status.st_mtime_ns))
        if status.st_dev not in self._volumes:
            self._add_volume(status.st_dev, fd)

    def after(self) -> None:
        """A change is done, and the next flush has work."""
        self._dirty = True

    def wants(self, path: bytes, mtime_ns: int) -> None:
        """The directory at `path` was given this modified time: later changes in it do not count."""
        self._mtimes[path] = mtime_ns

    def take(self) -> dict[bytes, int] | None:
        """The directories and their times, to be restored and flushed now; None when nothing changed.

        A change that is under way across a flush may disturb a time after it was restored, so each
        directory is handed out by two flushes.
        """
        if not self._dirty:
            return None
        self._dirty = False
        before, self._last_mtimes, self._mtimes = self._last_mtimes, self._mtimes, {}
        return before | self._last_mtimes

    def sync(self) -> None:
        """Write back every file system that was touched. Raises OSError."""
        for fd in list(self._volumes.values()):
            sync_file_system(fd)

    def close(self) -> None:
        """Close what was opened here."""
        for fd in self._volumes.values():
            if fd != self._root_fd:
                os.close(fd)
        self._volumes = {}

    def _add_volume(self, device: int, fd: int) -> None:
        with self._lock:
            if device not in self._volumes:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                self._volumes[device] = os.open(b".", flags, dir_fd=fd)


class Flusher:
    """Makes the changes durable, and keeps the record of it.

    After a failed write-back nobody knows which data is lost: the descriptor reports it only once,
    so a second try would succeed and prove nothing. Everything fails from then on, until the sink
    is opened again, and what was written since the last good flush stays suspect.
    """

    def __init__(
        self,
        directory: str,
        root_fd: int,
        own_fd: int,
        workspace: Workspace,
        changed: Changed,
        carried: FlushRecord | None,
    ) -> None:
        """The descriptors stay the caller's. `carried`: see `record_at_start`. Raises OSError."""
        self.by_group = group_flush_works()
        self._directory = directory
        self._root_fd = root_fd
        self._own_fd = own_fd
        self._workspace = workspace
        self._changed = changed
        self._lock = threading.Lock()
        self._lost = ""
        self.record = self._begin(carried)

    def check(self) -> None:
        """Raise SinkUnavailable when data was lost since the sink was opened."""
        if self._lost:
            raise SinkUnavailable(self._lost, hint=_LOST_HINT)

    def flush(self) -> None:
        """Make every finished change durable. Raises OSError, SinkUnavailable."""
        with self._lock:
            self.check()
            self._check_place()
            touched = self._changed.take()
            if touched is None:
                return
            try:
                self._flush(touched)
            except BaseException:
                self._changed.after()
                raise

    def _flush(self, touched: Mapping[bytes, int]) -> None:
        with self._clock() as (name, fd, started_ns):
            for path, mtime_ns in touched.items():
                self._restore_time(path, mtime_ns)
            try:
                self._sync(touched)
            except OSError as error:
                self._lose(error)
                raise SinkUnavailable(self._lost, hint=_LOST_HINT) from error
            self._store(replace(self.record, flushed_ns=started_ns), name, fd)

    def _sync(self, touched: Iterable[bytes]) -> None:
        if self.by_group:
            self._changed.sync()
            return
        for path in touched:
            with contextlib.suppress(FileNotFoundError):
                sync_directory(self._root_fd, path)

    def _restore_time(self, path: bytes, mtime_ns: int) -> None:
        """A directory's own time is worth a try and no error: it may be gone, or another's."""
        with contextlib.suppress(OSError):
            fd = open_directory(self._root_fd, path)
            try:
                os.utime(b".", ns=(mtime_ns, mtime_ns), dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(fd)

    def _lose(self, error: OSError) -> None:
        self._lost = f"{self._directory}: data written before could not be stored: {error.strerror}"
        with contextlib.suppress(OSError), self._clock() as (name, fd, now_ns):
            self.record = self.record.distrusting(now_ns)
            self._store(self.record, name, fd)

    def _check_place(self) -> None:
        """The descriptors would go on writing to a directory that was moved away or unmounted."""
        held = os.fstat(self._root_fd)
        try:
            named = Path(self._directory).stat()
        except FileNotFoundError:
            named = None
        if named is None or (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            raise SinkUnavailable(f"the backup directory {self._directory} was removed or replaced")

    def _begin(self, carried: FlushRecord | None) -> FlushRecord:
        with self._clock() as (name, fd, now_ns):
            stored = self._stored()
            record = record_at_start(stored, now_ns, carried)
            if record.to_bytes() != stored:
                self._store(record, name, fd)
            return record

    def _stored(self) -> bytes | None:
        """The record as an earlier process left it; None when there is none."""
        try:
            fd = os.open(RECORD_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._own_fd)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def _store(self, record: FlushRecord, name: bytes, fd: int) -> None:
        """Publish the record through an open temporary file.

        Its data is synced; its rename need not be: the record before it only trusts less.
        """
        write_all(fd, (record.to_bytes(),))
        os.fdatasync(fd)
        os.rename(name, RECORD_NAME, src_dir_fd=self._workspace.fd, dst_dir_fd=self._own_fd)
        self.record = record

    @contextlib.contextmanager
    def _clock(self) -> Iterator[tuple[bytes, int, int]]:
        """A new temporary file, and the time of it by the file system's clock, in nanoseconds."""
        name, fd = self._workspace.create()
        try:
            yield name, fd, os.fstat(fd).st_ctime_ns
        finally:
            os.close(fd)
            self._workspace.discard(name)


def group_flush_works() -> bool:
    """Whether syncfs exists here and reports what could not be stored."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if _SYNCFS is None or release is None:
        return False
    return (int(release[1]), int(release[2])) >= _ERRORS_REPORTED_SINCE


def sync_file_system(fd: int) -> None:
    """syncfs(2): everything written to the file system of `fd` is durable. Raises OSError."""
    if _SYNCFS is None:
        os.sync()
    elif _SYNCFS(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
