"""From errno to the error tree: this one name, the whole sink, or the moment."""

from __future__ import annotations

import errno
import os

from filerbackup.errors import ObjectRejected, SinkError, SinkFull, SinkRefused, SinkUnavailable
from filerbackup.sinks.keys import shown

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_THIS_NAME = {
    errno.ENAMETOOLONG: "is longer than the file system allows",
    errno.EILSEQ: "holds characters that the file system does not take",
    errno.EINVAL: "is not a name that the file system takes",
    errno.EFBIG: "is larger than the file system allows for one file",
    errno.EPERM: "may not be changed (immutable, or not permitted on this file system)",
    errno.EACCES: "may not be changed (permission denied below the backup directory)",
    errno.EOPNOTSUPP: "is of a type that the file system cannot hold",
    errno.EBUSY: "is in use (a mount point stands there)",
}
_RIGHTS = "let the user of this process read, write and search the directory"
_PLACE = "choose a directory, or move away what stands there"
_HINTS = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "mount the file system for writing",
    errno.ENOTDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.EISDIR: _PLACE,
    errno.ELOOP: _PLACE,
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EINVAL: "choose a path that the file system takes",
}


def problem(error: OSError, directory: str, key: str = "") -> SinkError:
    """The error of the tree for what the system said about `key`, or about the sink as a whole.

    What is not known to concern one name may pass: SinkUnavailable.
    """
    if error.errno in _FULL:
        return _full(error, directory)
    reason = _THIS_NAME.get(error.errno or 0)
    if key and reason:
        return ObjectRejected(f"{shown(key)} {reason}: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return open_problem(error, directory)
    about = f" ({shown(key)})" if key else ""
    return SinkUnavailable(f"the backup directory {directory} fails{about}: {error.strerror or error}")


def open_problem(error: OSError, directory: str) -> SinkError:
    """The error of the tree for a directory that could not be opened or written to."""
    if error.errno in _FULL:
        return _full(error, directory)
    if error.errno not in _HINTS:
        return SinkUnavailable(f"the backup directory {directory} fails: {_said(error)}")
    message = f"the backup directory {directory} cannot be used: {_said(error)}"
    return SinkRefused(message, hint=_HINTS[error.errno])


def check_lengths(key: str, path: bytes, name_max: int) -> None:
    """Raise ObjectRejected when a component is too long, before its content is read."""
    for component in path.split(b"/"):
        if len(component) > name_max:
            length = f"{len(component)} bytes long, and the file system allows {name_max}"
            raise ObjectRejected(f"a name in {shown(key)} is {length}")


def check_size(key: str, size: int, directory: str) -> None:
    """Raise ObjectRejected for what the file system could not hold if it were empty. Raises OSError.

    A file can be sparse at the source, and of any size: its zeros would fill the disk for nothing.
    """
    status = os.statvfs(directory)
    total = status.f_blocks * status.f_frsize
    if 0 < total < size:
        raise ObjectRejected(f"{shown(key)} has {size:,} bytes, the whole file system {total:,}")


def _said(error: OSError) -> str:
    what = error.strerror or str(error)
    name = error.filename
    return f"{what}: {os.fsdecode(name)}" if isinstance(name, str | bytes) else what


def _full(error: OSError, directory: str) -> SinkFull:
    if error.errno == errno.EDQUOT:
        return SinkFull(f"the quota of user {os.geteuid()} in {directory} is used up")
    return SinkFull(
        f"the disk of {directory} is full ({_free(directory)})", hint="free some space, or enlarge it"
    )


def _free(directory: str) -> str:
    try:
        status = os.statvfs(directory)
    except OSError:
        return "free space unknown"
    if status.f_files and not status.f_favail:
        return "no inodes are left for more files"
    return f"{status.f_bavail * status.f_frsize:,} bytes free"
