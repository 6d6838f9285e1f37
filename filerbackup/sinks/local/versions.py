"""Which version of the source's file a copy holds, kept in an extended attribute of the copy.

Size and modified time are not enough to know a version by: the S3 gateway of SeaweedFS keeps whole
seconds, so that two uploads of the same size within one second look the same. What the filer stored
the bytes under (chunk ids, their times, MD5) tells them apart. Beside it is the modified time that the
copy was given: another hand that changes the bytes changes that, and leaves the attribute alone.
"""

from __future__ import annotations

import errno
import os

from filerbackup.events import Entry
from filerbackup.sinks.metadata import content_digest

_ATTRIBUTE = "user.filerbackup"
_FORMAT = b"1"
_DIGEST_BYTES = 16
_VERSION_BYTES = len(_FORMAT) + _DIGEST_BYTES
_TIME_BYTES = 12
_NONE_HERE = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES})
_NS = 1_000_000_000


def version_of(entry: Entry) -> bytes:
    """A short name for the content of this entry; empty when the entry says nothing about it."""
    if not (entry.md5 or entry.chunks or entry.content):
        return b""
    return _FORMAT + content_digest(entry, entry.md5 + b"|")


def is_version(kept: bytes, entry: Entry) -> bool:
    """Whether a copy of the entry's size and modified time, with this name kept, holds its content.

    Where one of the two names is missing, a modified time with a fraction of a second must do.
    """
    wanted = version_of(entry)
    if kept and wanted:
        return kept[:_VERSION_BYTES] == wanted
    return entry.size == 0 or entry.mtime_ns % _NS != 0


def is_proven(kept: bytes, mtime_ns: int, entry: Entry) -> bool:
    """Whether a copy of this modified time, with this name kept, surely holds the entry's content."""
    version = version_of(entry)
    return bool(version) and kept == version + _time(mtime_ns)


def keep_version(fd: int, mtime_ns: int, entry: Entry) -> None:
    """Keep the name with an open file, where the file system can. Raises OSError when the disk is full.

    `mtime_ns`: the modified time that the file has, or is about to be given.
    """
    version = version_of(entry)
    if version:
        _set(fd, version + _time(mtime_ns))


def kept_version(name: bytes, directory_fd: int) -> bytes:
    """The name that is kept with a file, or empty. Never raises for a file that has none."""
    try:
        # There is no call that takes a directory descriptor; a last component that is a symlink
        # is not followed.
        return os.getxattr(b"/proc/self/fd/%d/%s" % (directory_fd, name), _ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NONE_HERE or error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return b""
        raise


def version_on(fd: int) -> bytes:
    """The name that is kept with an open file, or empty. Raises OSError."""
    try:
        return os.getxattr(fd, _ATTRIBUTE)
    except OSError as error:
        if error.errno in _NONE_HERE:
            return b""
        raise


def keeps_versions(fd: int) -> bool:
    """Try it on an open file. Raises OSError for other reasons than that it is not supported."""
    _set(fd, _FORMAT)
    try:
        return os.getxattr(fd, _ATTRIBUTE) == _FORMAT
    except OSError as error:
        if error.errno in _NONE_HERE:
            return False
        raise


def _time(mtime_ns: int) -> bytes:
    return mtime_ns.to_bytes(_TIME_BYTES, "little", signed=True)


def _set(fd: int, version: bytes) -> None:
    try:
        os.setxattr(fd, _ATTRIBUTE, version)
    except OSError as error:
        if error.errno not in _NONE_HERE:
            raise
