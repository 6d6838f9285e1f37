"""Mode, owner and times of a copy, and what this file system keeps of them.

What a file system keeps is found out by trying, not from its name or the user id: root without
capabilities, root on NFS and a FAT disk are all told apart by one probe.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from dataclasses import dataclass

from filerbackup.events import Entry, EntryKind
from filerbackup.sinks.base import Listed
from filerbackup.sinks.local.versions import (
    is_version,
    keep_version,
    keeps_versions,
    kept_version,
    version_on,
)
from filerbackup.sinks.local.workspace import LOCK, Workspace

_log = logging.getLogger(__name__)

_SET_ID = stat.S_ISUID | stat.S_ISGID
_PROBE_TIME_NS = 1_000_000_001_123_456_789
_TIME_STEPS_NS = (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
_PROBE_ID = 1
_NO_ID = 0xFFFFFFFF
"""To chown this means "leave it": a file with it is ours instead, so its set-id bits must not be set."""
_WRITTEN_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class LocalListed(Listed):
    """A listed object with what `matches` needs, so that it costs no second look.

    `content` is the version that is kept with a file.
    """

    mode: int = 0
    uid: int = 0
    gid: int = 0
    ctime_ns: int = 0
    inode: int = 0
    target: bytes = b""
    content: bytes = b""


def kind_of(mode: int) -> EntryKind:
    """The kind of what has this `st_mode`."""
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    if stat.S_ISDIR(mode):
        return EntryKind.DIRECTORY
    return EntryKind.SYMLINK if stat.S_ISLNK(mode) else EntryKind.SPECIAL


class Metadata:
    """Puts an entry's metadata on its copy, and compares the two.

    `gives_owner`: files may be given to others, and directories of others with any mode still be
    written to (root's usual rights). `keeps_mode`: permission bits can be set at all.
    `time_step_ns`: modified times are cut down to a multiple of it. `keeps_versions`: see
    `versions`. `folds_case`: names that differ only in case are one file.
    """

    def __init__(self, workspace: Workspace, *, keep_set_id: bool = False) -> None:
        """`keep_set_id`: copies may be set-uid and set-gid, once they have the source's owner."""
        self._keep_set_id = keep_set_id
        self._set_id_dropped = False
        name, fd = workspace.create()
        try:
            own = os.fstat(fd)
            self._own = (own.st_uid, own.st_gid)
            self.keeps_mode = _keeps_mode(fd)
            self.time_step_ns = _time_step_ns(fd)
            self.keeps_versions = keeps_versions(fd)
            self.folds_case = _exists(LOCK.upper(), workspace.fd)
        finally:
            os.close(fd)
            workspace.discard(name)
        self.gives_owner = _gives_owner(workspace)
        self._owner_failed = False

    def put_on(self, fd: int, entry: Entry) -> None:
        """Give an open file or directory the entry's owner, mode and modified time. Raises OSError.

        The owner comes first: changing it clears the set-id bits. Those are only set when they are
        wanted and the owner is the source's: a set-uid file of somebody else would be a gift to its users.
        """
        if self.keeps_versions and entry.kind is EntryKind.FILE:
            # First, while the mode still lets us.
            keep_version(fd, self._time(entry), entry)
        owned = self._give(fd, entry)
        if self.keeps_mode:
            mode = self._mode(entry, owned)
            os.fchmod(fd, mode)
            if entry.mode & _SET_ID & ~mode:
                self._say_dropped()
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def may_change(self, status: os.stat_result, entry: Entry) -> bool:
        """Whether a copy that stands there may get the entry's metadata, without being written anew.

        A second name of it may stand outside of the sink. And a copy's owner, and nearly so whoever may
        write to it, can exchange the bytes and forge all that tells which version they are: so it may not
        become somebody else's then, nor a program that runs with another one's rights.
        """
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return False
        if self._keep_set_id and entry.mode & _SET_ID:
            return False
        if not self.gives_owner or status.st_uid == self._owner(entry)[0]:
            return True
        return status.st_uid == self._own[0] and not status.st_mode & _WRITTEN_BY_OTHERS

    def narrow(self, fd: int, entry: Entry) -> None:
        """Before `put_on` what others can already open: no mode of the old owner with the new group.

        What is left of the mode is what both the old one and the entry's allow. Raises OSError.
        """
        status = os.fstat(fd)
        if self.gives_owner and self.keeps_mode and (status.st_uid, status.st_gid) != self._owner(entry):
            os.fchmod(fd, stat.S_IMODE(status.st_mode) & entry.mode & 0o777)

    def put_on_symlink(self, name: bytes, directory_fd: int, entry: Entry) -> None:
        """Give a symlink the entry's owner and modified time. Raises OSError."""
        owner = self._owner(entry)
        if self.gives_owner and owner != self._own:
            try:
                os.chown(name, *owner, dir_fd=directory_fd, follow_symlinks=False)
            except OSError as error:
                self._warn_owner(entry, error)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=directory_fd, follow_symlinks=False)

    def put_on_open_symlink(self, name: bytes, directory_fd: int, entry: Entry) -> None:
        """The same for a new symlink in a directory where somebody else may exchange it meanwhile."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISLNK(status.st_mode) or status.st_nlink != 1 or status.st_uid != os.geteuid():
                raise OSError(errno.EAGAIN, "a symlink is exchanged as soon as it is made")
            # Leads to the open symlink itself and not on from there.
            here = b"/proc/self/fd/%d" % fd
            owner = self._owner(entry)
            if self.gives_owner and owner != (status.st_uid, status.st_gid):
                try:
                    os.chown(here, *owner)
                except OSError as error:
                    self._warn_owner(entry, error)
            os.utime(here, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def version_of(self, fd: int) -> bytes:
        """The version that is kept with an open file, or empty. Raises OSError."""
        return version_on(fd) if self.keeps_versions else b""

    def same(self, listed: LocalListed, entry: Entry) -> bool:
        """Whether a copy has just this entry's kind, content, times, mode, owner and symlink target.

        The content goes by size, modified time and version, not by a look at the bytes. A
        directory's own modified time is left out: every write in it changes that.
        """
        if listed.kind is not entry.kind or entry.kind is EntryKind.SPECIAL:
            return False
        if self.gives_owner and not self._owner_failed and (listed.uid, listed.gid) != self._owner(entry):
            return False
        match entry.kind:
            case EntryKind.DIRECTORY:
                return self._same_mode(listed, entry)
            case EntryKind.SYMLINK:
                target = entry.symlink_target.encode("utf-8", "surrogatepass")
                return listed.target == target and self._same_time(listed, entry)
            case _:
                return (
                    listed.size == entry.size
                    and self._same_time(listed, entry)
                    and self._same_mode(listed, entry)
                    and is_version(listed.content, entry)
                )

    def describe(self, key: str, name: bytes, directory_fd: int) -> LocalListed:
        """What stands under `name` in the directory. Raises OSError; FileNotFoundError: nothing does."""
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        kind = kind_of(status.st_mode)
        is_file = kind is EntryKind.FILE
        return LocalListed(
            key=key,
            kind=kind,
            size=status.st_size if is_file else 0,
            mtime_ns=status.st_mtime_ns,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
            target=_target(name, directory_fd) if kind is EntryKind.SYMLINK else b"",
            content=kept_version(name, directory_fd) if is_file and self.keeps_versions else b"",
        )

    def _owner(self, entry: Entry) -> tuple[int, int]:
        """Who is to own a copy, where files can be given to others at all."""
        owner = (entry.uid, entry.gid)
        return self._own if _NO_ID in owner else owner

    def _give(self, fd: int, entry: Entry) -> bool:
        """Whether it has the entry's owner now. If that cannot be, it is ours: never still another one's."""
        status = os.fstat(fd)
        owner = (status.st_uid, status.st_gid)
        if self.gives_owner and owner != self._owner(entry):
            try:
                os.fchown(fd, *self._owner(entry))
                owner = self._owner(entry)
            except OSError as error:
                self._warn_owner(entry, error)
                if owner != self._own:
                    os.fchown(fd, *self._own)
                    owner = self._own
        return owner == (entry.uid, entry.gid)

    def _warn_owner(self, entry: Entry, error: OSError) -> None:
        if not self._owner_failed:
            self._owner_failed = True
            owner = f"{entry.uid}:{entry.gid}"
            _log.warning("copies cannot be given to %s, they stay ours: %s", owner, error.strerror)

    def _say_dropped(self) -> None:
        if not self._set_id_dropped:
            self._set_id_dropped = True
            _log.info("set-uid and set-gid bits of the source are left out of copies")

    def _mode(self, entry: Entry, owned: bool) -> int:
        mode = stat.S_IMODE(entry.mode)
        if not (owned and self._keep_set_id):
            mode &= ~_SET_ID
        # Without root's rights a directory that its owner may not write to could take no later copy.
        # The owner is then this process's user, so nobody else gains anything.
        if entry.is_directory and not self.gives_owner:
            mode |= stat.S_IRWXU
        return mode

    def _same_mode(self, listed: LocalListed, entry: Entry) -> bool:
        owned = (listed.uid, listed.gid) == (entry.uid, entry.gid)
        return not self.keeps_mode or listed.mode == self._mode(entry, owned)

    def _same_time(self, listed: LocalListed, entry: Entry) -> bool:
        return listed.mtime_ns == self._time(entry)

    def _time(self, entry: Entry) -> int:
        return entry.mtime_ns - entry.mtime_ns % self.time_step_ns


def _target(name: bytes, directory_fd: int) -> bytes:
    try:
        return os.readlink(name, dir_fd=directory_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise FileNotFoundError(errno.ENOENT, "the symlink was replaced") from error


def _keeps_mode(fd: int) -> bool:
    try:
        for mode in (0o640, 0o705):
            os.fchmod(fd, mode)
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                return False
    except OSError:
        return False
    return True


def _time_step_ns(fd: int) -> int:
    os.utime(fd, ns=(_PROBE_TIME_NS, _PROBE_TIME_NS))
    kept = os.fstat(fd).st_mtime_ns
    for step in _TIME_STEPS_NS:
        if _PROBE_TIME_NS - _PROBE_TIME_NS % step == kept:
            return step
    return _TIME_STEPS_NS[-1]


def _exists(name: bytes, directory_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _gives_owner(workspace: Workspace) -> bool:
    """Try: a directory of another user that nobody may enter, and a file in it."""
    if os.geteuid() != 0:
        return False
    name = workspace.name()
    os.mkdir(name, 0o700, dir_fd=workspace.fd)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=workspace.fd)
        try:
            os.fchown(fd, _PROBE_ID, _PROBE_ID)
            os.fchmod(fd, 0)
            os.close(os.open(b"probe", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
            os.unlink(b"probe", dir_fd=fd)
        except OSError:
            return False
        finally:
            os.close(fd)
    finally:
        workspace.discard(name)
    return True
