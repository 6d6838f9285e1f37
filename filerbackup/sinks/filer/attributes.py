"""A source's entry as the target's filer keeps it, and the reverse: what is the same.

The filer keeps all that an entry has, so nothing is translated. What is left out means something in
the source's cluster only: chunk ids, hard link ids (each name is a file of its own here), the tie to
a remote storage, and what says that the source's chunks are encrypted (these are written in clear).
"""

from __future__ import annotations

import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from filerbackup.errors import ObjectRejected
from filerbackup.events import Entry, EntryKind
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import is_directory
from filerbackup.sinks.base import Listed
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import content_version

VERSION_NAME = "filerbackup-version"
"""The extended attribute that names the content (`content_version`)."""

_EXPIRES_BY_MTIME = "X-Seaweedfs-Expires-S3"
"""Where it is set the filer counts a TTL from the modified time. It sets it itself on S3 objects."""
_OF_S3, _OF_VERSION = "Seaweed-X-Amz-", "Seaweed-X-Amz-Version-Id"
_LONGEST_TTL_S = (1 << 31) - 1
_NOT_KEPT = ("x-seaweedfs-sse-", "x-amz-server-side-encryption", "seaweed-x-amz-server-side-encryption")
_SECOND = 1_000_000_000
_MD5_BYTES = 16

# Bits of Go's os.FileMode above the nine of POSIX.
_GO_DIRECTORY = 1 << 31
_GO_SYMLINK = 1 << 27
_GO_DEVICE, _GO_PIPE, _GO_SOCKET, _GO_CHARACTER = 1 << 26, 1 << 25, 1 << 24, 1 << 21
_GO_SPECIAL = _GO_DEVICE | _GO_PIPE | _GO_SOCKET | _GO_CHARACTER
_GO_SET_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_GO_TYPE = {EntryKind.DIRECTORY: _GO_DIRECTORY, EntryKind.SYMLINK: _GO_SYMLINK}


@dataclass(frozen=True, slots=True)
class FilerListed(Listed):
    """As listed, with all that a comparison needs."""

    mode: int = 0
    uid: int = 0
    gid: int = 0
    mime: str = ""
    target: str = ""
    ttl_s: int = 0
    extended: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def go_mode(entry: Entry) -> int:
    """The mode as the filer has it.

    Set-id and sticky bits twice: where Go has them, and where POSIX has them, which is what a mount
    of the filer reads and writes.
    """
    mode = _GO_TYPE.get(entry.kind, 0) | (entry.mode & 0o7777)
    for posix, go in _GO_SET_BITS:
        if entry.mode & posix:
            mode |= go
    return mode


def posix_mode(mode: int) -> int:
    """Permissions, set-id and sticky bits of a filer's mode."""
    found = mode & 0o7777
    for posix, go in _GO_SET_BITS:
        if mode & go:
            found |= posix
    return found


def ttl_of(entry: Entry, sink_ttl_s: int) -> int:
    """Seconds that a copy lives: the sink's setting, else the entry's own; directories never expire."""
    return 0 if entry.kind is EntryKind.DIRECTORY else sink_ttl_s or entry.ttl_s


def extended_of(entry: Entry, sink_ttl_s: int = 0) -> dict[str, bytes]:
    """The extended attributes of the copy, without our own."""
    kept = {name: value for name, value in entry.extended.items() if not name.lower().startswith(_NOT_KEPT)}
    kept.pop(VERSION_NAME, None)
    if sink_ttl_s:
        kept.pop(_EXPIRES_BY_MTIME, None)
    return kept


def copy_of(entry: Entry, *, size: int, md5: bytes = b"", sink_ttl_s: int = 0) -> pb.Entry:
    """The entry for the target, without name and chunks. `md5`: of the content, where it is known."""
    mtime_s, mtime_ns = divmod(entry.mtime_ns, _SECOND)
    # A TTL of the sink's own counts from the copy, not from when the source was made.
    crtime = time.time_ns() if sink_ttl_s or not entry.crtime_ns else entry.crtime_ns
    crtime_s, crtime_ns = divmod(crtime, _SECOND)
    is_link = entry.kind is EntryKind.SYMLINK
    extended = extended_of(entry, sink_ttl_s)
    ttl_s = ttl_of(entry, sink_ttl_s)
    if sink_ttl_s and ttl_s and _expires_by_mtime(extended):
        ttl_s = min(max(1, ttl_s + crtime_s - mtime_s), _LONGEST_TTL_S)
    made = pb.Entry(
        is_directory=entry.kind is EntryKind.DIRECTORY,
        attributes=pb.FuseAttributes(
            file_size=size,
            mtime=mtime_s,
            mtime_ns=mtime_ns,
            crtime=crtime_s,
            crtime_ns=crtime_ns,
            file_mode=go_mode(entry),
            uid=entry.uid,
            gid=entry.gid,
            mime=entry.mime,
            md5=md5,
            ttl_sec=ttl_s,
            symlink_target=entry.symlink_target if is_link else "",
        ),
        extended=extended,
    )
    version = "" if is_link else content_version(entry)
    if version:
        made.extended[VERSION_NAME] = version.encode()
    return made


def check_target(key: str, entry: Entry) -> None:
    """Raise ObjectRejected for a symlink that no file system can hold."""
    target = entry.symlink_target
    if not target or "\0" in target:
        raise ObjectRejected(f"{shown(key)} is a symlink whose target is empty or holds a NUL character")
    try:
        target.encode()
    except UnicodeEncodeError as error:
        raise ObjectRejected(f"{shown(key)} is a symlink whose target is not valid Unicode") from error


def listed_of(key: str, message: pb.Entry) -> FilerListed:
    """An entry of the target as a listing shows it."""
    attributes = message.attributes
    kind = _kind(message)
    extended = dict(message.extended)
    version = extended.pop(VERSION_NAME, b"").decode("ascii", "replace")
    target = attributes.symlink_target if kind is EntryKind.SYMLINK else ""
    return FilerListed(
        key=key,
        kind=kind,
        size=len(target.encode()) if target else size_of(message),
        mtime_ns=attributes.mtime * _SECOND + attributes.mtime_ns,
        version=version,
        md5=attributes.md5 if len(attributes.md5) == _MD5_BYTES else b"",
        mode=posix_mode(attributes.file_mode),
        uid=attributes.uid,
        gid=attributes.gid,
        mime=attributes.mime,
        target=target,
        ttl_s=attributes.ttl_sec,
        extended=extended,
    )


def size_of(message: pb.Entry) -> int:
    """As the filer computes it."""
    ends = max((chunk.offset + chunk.size for chunk in message.chunks), default=0)
    return max(message.attributes.file_size, ends, len(message.content))


def has_content(found: FilerListed, entry: Entry) -> bool | None:
    """Whether a file has the entry's content; None when nothing tells."""
    size = max(entry.size, len(entry.content))
    if found.size != size:
        return False
    if entry.md5 and found.md5:
        return found.md5 == entry.md5
    wanted = content_version(entry)
    if wanted and found.version:
        return found.version == wanted
    return True if size == 0 else None


def surely_has_content(found: FilerListed, entry: Entry) -> bool:
    """The same with the modified time where nothing else tells: of use when it has a fraction of a second."""
    proven = has_content(found, entry)
    if proven is None:
        return found.mtime_ns == entry.mtime_ns and entry.mtime_ns % _SECOND != 0
    return proven


def is_same(found: FilerListed, entry: Entry, sink_ttl_s: int) -> bool:
    """Whether what was found is surely what would be written for the entry."""
    if found.kind is not entry.kind or entry.kind is EntryKind.SPECIAL:
        return False
    if entry.kind is EntryKind.DIRECTORY:
        body = entry.has_body or found.size > 0
        return _same_attributes(found, entry, sink_ttl_s) and (not body or has_content(found, entry) is True)
    if found.mtime_ns != entry.mtime_ns or not _same_attributes(found, entry, sink_ttl_s):
        return False
    if entry.kind is EntryKind.SYMLINK:
        return found.target == entry.symlink_target
    return surely_has_content(found, entry)


def has_ttl(found: FilerListed, entry: Entry, sink_ttl_s: int) -> bool:
    """Whether a copy lives as long as it should.

    A rule of the target may give a time to live where none is asked for.
    """
    wanted_s = ttl_of(entry, sink_ttl_s)
    if not wanted_s:
        return True
    return found.ttl_s > 0 if sink_ttl_s else found.ttl_s == wanted_s


def _expires_by_mtime(extended: Mapping[str, bytes]) -> bool:
    """Whether the filer will count the TTL of an entry with these from its modified time."""
    return _OF_VERSION not in extended and any(name.startswith(_OF_S3) for name in extended)


def _same_attributes(found: FilerListed, entry: Entry, sink_ttl_s: int) -> bool:
    if (found.mode, found.uid, found.gid) != (stat.S_IMODE(entry.mode), entry.uid, entry.gid):
        return False
    if found.mime != entry.mime or not has_ttl(found, entry, sink_ttl_s):
        return False
    return _without_expiry(found.extended) == _without_expiry(extended_of(entry, sink_ttl_s))


def _without_expiry(extended: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in extended.items() if name != _EXPIRES_BY_MTIME}


def _kind(message: pb.Entry) -> EntryKind:
    if is_directory(message):
        return EntryKind.DIRECTORY
    mode = message.attributes.file_mode
    if mode & _GO_SYMLINK:
        return EntryKind.SYMLINK
    return EntryKind.SPECIAL if mode & _GO_SPECIAL else EntryKind.FILE
