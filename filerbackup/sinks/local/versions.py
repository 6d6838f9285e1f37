"""Which version of the source's file a copy holds, kept in an extended attribute of the copy.

Size and modified time are not enough to know a version by: the S3 gateway of SeaweedFS keeps whole
seconds, so that two uploads of the same size within one second look the same. What the filer stored
the bytes under (chunk ids, their times, MD5) tells them apart.
"""

from __future__ import annotations

import errno
import hashlib
import os

from filerbackup.events import Entry

_ATTRIBUTE = "user.filerbackup"
_FORMAT = b"1"
_DIGEST_BYTES = 16
_NONE_HERE = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES})
_NS = 1_000_000_000


def version_of(entry: Entry) -> bytes:
    """A short name for the content of this entry; empty when the entry says nothing about it."""
    if not (entry.md5 or entry.chunks or entry.content):
        return b""
    digest = hashlib.blake2b(entry.md5, digest_size=_DIGEST_BYTES)
    digest.update(b"|%d|" % len(entry.content))
    digest.update(entry.content)
    for chunk in entry.chunks:
        known_by = f"{chunk.file_id} {chunk.offset} {chunk.size} {chunk.modified_ts_ns}\n"
        digest.update(known_by.encode("utf-8", "surrogatepass"))
    return _FORMAT + digest.digest()


def is_version(kept: bytes, entry: Entry) -> bool:
    """Whether a copy of the entry's size and modified time, with this name kept, holds its content.

    Where one of the two names is missing, a modified time with a fraction of a second must do.
    """
    wanted = version_of(entry)
    if kept and wanted:
        return kept == wanted
    return entry.size == 0 or entry.mtime_ns % _NS != 0


def is_proven(kept: bytes, entry: Entry) -> bool:
    """Whether a copy with this name kept surely holds the entry's content, whatever its times say."""
    return bool(kept) and kept == version_of(entry)


def keep_version(fd: int, entry: Entry) -> None:
    """Keep the name with an open file, where the file system can. Raises OSError when the disk is full."""
    version = version_of(entry)
    if version:
        _set(fd, version)


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


def keeps_versions(fd: int) -> bool:
    """Try it on an open file. Raises OSError for other reasons than that it is not supported."""
    _set(fd, _FORMAT)
    try:
        return os.getxattr(fd, _ATTRIBUTE) == _FORMAT
    except OSError as error:
        if error.errno in _NONE_HERE:
            return False
        raise


def _set(fd: int, version: bytes) -> None:
    try:
        os.setxattr(fd, _ATTRIBUTE, version)
    except OSError as error:
        if error.errno not in _NONE_HERE:
            raise
