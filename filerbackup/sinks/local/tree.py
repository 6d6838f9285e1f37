"""One change at a time in the sink's directory. Everything here blocks and runs in a worker thread.

Paths are those of `paths`. Every method may raise OSError, which the sink translates.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Sequence

from filerbackup.events import Entry, EntryKind
from filerbackup.sinks.base import OWN_PREFIX
from filerbackup.sinks.local.durability import FlushRecord
from filerbackup.sinks.local.files import copy_bytes, new_file, private_directory, remove_one, write_all
from filerbackup.sinks.local.flushing import Changed, Flusher
from filerbackup.sinks.local.metadata import LocalListed, Metadata
from filerbackup.sinks.local.paths import make_directories, open_directory, readable, sync_directory
from filerbackup.sinks.local.removal import remove_tree
from filerbackup.sinks.local.versions import is_proven
from filerbackup.sinks.local.workspace import Workspace

_OWN = OWN_PREFIX.encode()
_ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 16
_REFUSED_MOVES = frozenset(
    {
        errno.EXDEV,  # another file system
        errno.EISDIR,  # a directory stands where a file should go
        errno.ENOTDIR,  # and the reverse
        errno.ENOTEMPTY,
        errno.EEXIST,
        errno.EINVAL,  # into itself
        errno.ENOENT,  # gone meanwhile
    }
)


class Tree:
    """The directory of a sink, held open: writes, removals, moves and reads below it."""

    def __init__(
        self, directory: str, carried: FlushRecord | None = None, *, keep_set_id: bool = False
    ) -> None:
        """Open an existing directory, prove that it may be written, clean up after killed processes.

        `carried` is the record of an earlier Tree of this process on the same directory.
        """
        with contextlib.ExitStack() as undo:
            self.root_fd = os.open(directory, _ROOT_FLAGS)
            undo.callback(os.close, self.root_fd)
            self.is_open_to_all = bool(os.fstat(self.root_fd).st_mode & stat.S_IWOTH)
            own_fd = private_directory(_OWN, self.root_fd)
            undo.callback(os.close, own_fd)
            self.workspace = Workspace(own_fd)
            undo.callback(self.workspace.close)
            self._changed = Changed(self.root_fd)
            undo.callback(self._changed.close)
            self.workspace.clean(self._remove_leftover)
            self.metadata = Metadata(self.workspace, keep_set_id=keep_set_id)
            self.flusher = Flusher(directory, self.root_fd, own_fd, self.workspace, self._changed, carried)
            self.name_max = os.fpathconf(self.root_fd, "PC_NAME_MAX")
            self._undo = undo.pop_all()

    def asks(self, may_change: Callable[[], None]) -> None:
        """Call it right before each change; what it raises keeps that from happening."""
        self._changed.may_change = may_change

    def close(self) -> None:
        """Remove the temporary files and close every descriptor. No other call may be running."""
        self._undo.close()

    # -- writing ------------------------------------------------------------------------------

    def write_small(self, path: bytes, entry: Entry, data: bytes) -> None:
        """Make `path` a file with these bytes and the entry's metadata."""
        name, fd = self.workspace.create()
        try:
            try:
                write_all(fd, (data,))
                self.finish_file(fd, entry)
            finally:
                os.close(fd)
            self.place(name, path, entry)
        except BaseException:
            self.workspace.discard(name)
            raise

    def finish_file(self, fd: int, entry: Entry) -> None:
        """Metadata, and the bytes on the disk where the flush will not see to that."""
        self.metadata.put_on(fd, entry)
        if not self.flusher.by_group:
            os.fsync(fd)

    def write_directory(self, path: bytes, entry: Entry) -> None:
        """Make `path` a directory with the entry's metadata; what is in it stays."""
        path_fd = make_directories(self.root_fd, path, self._changed.before)
        try:
            fd = readable(path_fd)
        finally:
            os.close(path_fd)
        try:
            self._changed.before(path, fd)
            self.metadata.narrow(fd, entry)
            self.metadata.put_on(fd, entry)
        finally:
            os.close(fd)
        self._changed.wants(path, entry.mtime_ns)
        self._changed.after()

    def write_symlink(self, path: bytes, entry: Entry, target: bytes) -> None:
        """Make `path` a symlink with this target, which is never looked at."""
        name = self.workspace.name()
        os.symlink(target, name, dir_fd=self.workspace.fd)
        try:
            self.metadata.put_on_symlink(name, self.workspace.fd, entry)
            self.place(name, path, entry)
        except BaseException:
            self.workspace.discard(name)
            raise

    def place(self, name: bytes, path: bytes, entry: Entry | None = None) -> None:
        """Rename a finished temporary file (of this entry) to `path`, over whatever stands there."""
        parent = path.rpartition(b"/")[0]
        for attempt in range(_ATTEMPTS):
            fd = make_directories(self.root_fd, parent, self._changed.before)
            try:
                self._changed.before(parent, fd)
                self._rename_in(name, path, fd, entry)
            except IsADirectoryError:
                for _ in remove_tree(self.root_fd, path, self._changed.before):
                    pass
            except FileNotFoundError:
                # The parent was removed by another hand in between, or the temporary file was.
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                self._changed.after()
                return
            finally:
                os.close(fd)
        raise OSError(errno.EAGAIN, "a directory comes back as soon as it is removed")

    def _rename_in(self, name: bytes, path: bytes, parent_fd: int, entry: Entry | None) -> None:
        base = path.rpartition(b"/")[2]
        try:
            os.rename(name, base, src_dir_fd=self.workspace.fd, dst_dir_fd=parent_fd)
            return
        except OSError as error:
            if error.errno != errno.EXDEV or entry is None:
                raise
        # Another file system is mounted there: the temporary file has to stand beside its target.
        beside = self.workspace.elsewhere()
        with self.workspace.note(path[: len(path) - len(base)] + beside):
            try:
                self._copy(name, beside, parent_fd, entry)
                os.rename(beside, base, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
            except BaseException:
                remove_one(beside, parent_fd)
                raise
        self.workspace.discard(name)

    def _copy(self, name: bytes, beside: bytes, parent_fd: int, entry: Entry) -> None:
        if entry.kind is EntryKind.SYMLINK:
            os.symlink(entry.symlink_target.encode(), beside, dir_fd=parent_fd)
            self.metadata.put_on_open_symlink(beside, parent_fd, entry)
            return
        fd = new_file(beside, parent_fd)
        try:
            copy_bytes(name, self.workspace.fd, fd)
            self.finish_file(fd, entry)
        finally:
            os.close(fd)

    # -- removing and moving ------------------------------------------------------------------

    def remove(self, path: bytes) -> None:
        """Remove a file, a symlink or an empty directory; absent is fine, a full directory stays."""
        parent, _, base = path.rpartition(b"/")
        try:
            fd = open_directory(self.root_fd, parent)
        except FileNotFoundError:
            return
        try:
            self._changed.before(parent, fd)
            remove_one(base, fd)
        finally:
            os.close(fd)
        self._changed.after()

    def removal(self, path: bytes) -> Generator[None, None, None]:
        """Remove a whole tree step by step; absent is fine."""
        try:
            for _ in remove_tree(self.root_fd, path, self._changed.before):
                yield
                self._changed.may_change()
        finally:
            self._changed.after()

    def move(self, old: bytes, new: bytes, entry: Entry) -> bool:
        """Rename `old` to `new` if it is equal to the entry and trusted; else False, and nothing changed.

        A directory need not be equal, it gets the entry's metadata: what counts is what is in it.
        """
        old_parent, _, old_base = old.rpartition(b"/")
        new_parent, _, new_base = new.rpartition(b"/")
        try:
            old_fd = open_directory(self.root_fd, old_parent)
        except FileNotFoundError:
            return False
        try:
            if not self._movable(old_base, old_fd, new, entry):
                return False
            new_fd = make_directories(self.root_fd, new_parent, self._changed.before)
            try:
                self._changed.before(old_parent, old_fd)
                self._changed.before(new_parent, new_fd)
                os.rename(old_base, new_base, src_dir_fd=old_fd, dst_dir_fd=new_fd)
            finally:
                os.close(new_fd)
        except OSError as error:
            if error.errno not in _REFUSED_MOVES:
                raise
            return False
        finally:
            os.close(old_fd)
        self._changed.after()
        if entry.kind is EntryKind.DIRECTORY:
            self.write_directory(new, entry)
        return True

    def _movable(self, base: bytes, fd: int, new: bytes, entry: Entry) -> bool:
        try:
            found = self.metadata.describe(base.decode(), base, fd)
        except FileNotFoundError:
            return False
        there = self.look(new)
        if found.kind is EntryKind.DIRECTORY:
            return entry.kind is EntryKind.DIRECTORY and there is None
        if not self.matches(found, entry):
            return False
        # rename(2) does nothing at all when both names are hard links to one file.
        return there is None or there.inode != found.inode

    def update(self, path: bytes, entry: Entry) -> bool:
        """Give a file the entry's metadata if it has its content; else False, and nothing changed.

        What is looked at and what is changed is one open file: a name can be given to another one in
        between. What another user may have prepared stays as it is: see `Metadata.may_change`.
        """
        parent, _, base = path.rpartition(b"/")
        try:
            parent_fd = open_directory(self.root_fd, parent)
        except FileNotFoundError:
            return False
        try:
            fd = os.open(base, _READ_FLAGS, dir_fd=parent_fd)
            try:
                if not self._holds(fd, entry):
                    return False
                self._changed.before(parent, parent_fd)
                self.metadata.narrow(fd, entry)
                self.finish_file(fd, entry)
            finally:
                os.close(fd)
        except OSError as error:
            # Gone, replaced by a symlink, or without root's rights not even ours to read.
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES):
                return False
            raise
        finally:
            os.close(parent_fd)
        self._changed.after()
        return True

    def _holds(self, fd: int, entry: Entry) -> bool:
        status = os.fstat(fd)
        return (
            self.metadata.may_change(status, entry)
            and status.st_size == entry.size
            and is_proven(self.metadata.version_of(fd), status.st_mtime_ns, entry)
            and self.flusher.record.trusts(status.st_ctime_ns)
        )

    def _remove_leftover(self, path: bytes) -> None:
        """A note may be wrong, or not ours at all: what cannot be removed is only untidy."""
        parent, _, base = path.rpartition(b"/")
        with contextlib.suppress(OSError):
            fd = open_directory(self.root_fd, parent)
            try:
                remove_one(base, fd)
            finally:
                os.close(fd)

    # -- looking ------------------------------------------------------------------------------

    def look(self, path: bytes) -> LocalListed | None:
        """What stands at `path`; None when nothing does."""
        parent, _, base = path.rpartition(b"/")
        with contextlib.suppress(FileNotFoundError):
            fd = open_directory(self.root_fd, parent)
            try:
                return self.metadata.describe(path.decode(), base, fd)
            finally:
                os.close(fd)
        return None

    def matches(self, found: LocalListed, entry: Entry) -> bool:
        """Whether what was found is equal to the entry, and its bytes were not at risk in a power loss."""
        if entry.kind is EntryKind.FILE and not self.flusher.record.trusts(found.ctime_ns):
            return False
        return self.metadata.same(found, entry)

    def open_file(self, path: bytes) -> int | bytes:
        """A descriptor for reading, or the target when a symlink stands there. Raises FileNotFoundError."""
        parent, _, base = path.rpartition(b"/")
        parent_fd = open_directory(self.root_fd, parent)
        try:
            fd = os.open(base, _READ_FLAGS, dir_fd=parent_fd)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return os.readlink(base, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "not a file")
        return fd

    # -- filerbackup's own files --------------------------------------------------------------

    def read_own(self, path: bytes) -> bytes | None:
        """A whole file of filerbackup's own, or None."""
        try:
            fd = self.open_file(path)
        except FileNotFoundError:
            return None
        if isinstance(fd, bytes):
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def write_own(self, path: bytes, data: bytes) -> None:
        """Replace a file of filerbackup's own; durable when it returns."""
        name, fd = self.workspace.create()
        try:
            try:
                write_all(fd, (data,))
                os.fsync(fd)
            finally:
                os.close(fd)
            self.place(name, path)
            while path:
                path = path.rpartition(b"/")[0]
                sync_directory(self.root_fd, path)
        except BaseException:
            self.workspace.discard(name)
            raise


class Unfinished:
    """A file that is written block by block and gets its name when it is complete."""

    def __init__(self, tree: Tree, path: bytes, entry: Entry) -> None:
        """Make the temporary file."""
        self._tree = tree
        self._path = path
        self._entry = entry
        self._name, self._fd = tree.workspace.create()
        self._is_closed = False
        self.is_published = False

    def append(self, blocks: Sequence[bytes]) -> None:
        """Write more bytes."""
        write_all(self._fd, blocks)

    def publish(self, blocks: Sequence[bytes]) -> None:
        """Write the last bytes and the metadata, and give it its name."""
        write_all(self._fd, blocks)
        self._tree.finish_file(self._fd, self._entry)
        self.close()
        self._tree.place(self._name, self._path, self._entry)
        self.is_published = True

    def discard(self) -> None:
        """Remove it."""
        self.close()
        self._tree.workspace.discard(self._name)

    def close(self) -> None:
        """Close it only: what it was made in may have been removed as a whole."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._fd)
