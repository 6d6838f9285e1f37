"""The filer's messages as values of `filerbackup.events`.

Called once for every event, so it does nothing that only a reader of the content needs: numbers that
cannot be are clamped where they would break a sink (times, sizes) and otherwise left for
`filerbackup.source.content` to refuse.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from types import MappingProxyType

from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.filer.fileid import file_id_of
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.checks import plausible_md5

# Bits of Go's os.FileMode above the nine of POSIX. Bits 9 to 11 mean nothing to Go, and a mount
# stores the raw 07000 of POSIX there.
_GO_DIRECTORY = 1 << 31
_GO_SYMLINK = 1 << 27
_GO_DEVICE = 1 << 26
_GO_PIPE = 1 << 25
_GO_SOCKET = 1 << 24
_GO_SETUID = 1 << 23
_GO_SETGID = 1 << 22
_GO_CHARACTER = 1 << 21
_GO_STICKY = 1 << 20
_GO_NOT_A_FILE = _GO_DIRECTORY | _GO_SYMLINK | _GO_DEVICE | _GO_PIPE | _GO_SOCKET | _GO_CHARACTER
_GO_SPECIAL_BITS = _GO_SETUID | _GO_SETGID | _GO_STICKY

_GO_ZERO_TIME_S = -62_135_596_800
"""The first second of year 1: how Go writes a time that was never set."""
_LAST_TIME_S = 253_402_300_799
"""The last second of year 9999."""

MOST_CHUNKS = 300_000
"""In one list: a filer packs more than ten thousand into manifests, but those of encrypted objects."""

_NO_EXTENDED: Mapping[str, bytes] = MappingProxyType({})
_MD5_BYTES = 16


def chunk_from_pb(message: pb.FileChunk) -> Chunk:
    """One chunk. A persisted event carries the file id as three numbers, a live entry as text."""
    file_id = message.file_id
    if not file_id:
        fid = message.fid
        file_id = file_id_of(fid.volume_id, fid.file_key, fid.cookie)
    sse_type = message.sse_type
    return Chunk(
        file_id,
        message.offset,
        message.size,
        message.modified_ts_ns,
        message.cipher_key,
        message.is_compressed,
        message.is_chunk_manifest,
        sse_type,
        message.e_tag,
        message.sse_metadata if sse_type else b"",
    )


def entry_from_pb(directory: str, message: pb.Entry) -> Entry:
    """An entry of `directory` (an absolute path; "" counts as "/")."""
    attributes = message.attributes
    kind, mode = _kind_and_mode(message, attributes)
    if len(message.chunks) <= MOST_CHUNKS:
        chunks = tuple(map(chunk_from_pb, message.chunks))
    else:
        chunks = (_too_many(message),)
    remote_size = message.remote_entry.remote_size if message.HasField("remote_entry") else 0
    size = _size(message, attributes, chunks, remote_size)
    md5 = attributes.md5
    extended = message.extended
    return Entry(
        path=join_path(directory, message.name),
        kind=kind,
        size=size,
        mode=mode,
        mtime_ns=_time_ns(attributes.mtime, attributes.mtime_ns),
        crtime_ns=_time_ns(attributes.crtime, attributes.crtime_ns),
        uid=attributes.uid,
        gid=attributes.gid,
        mime=attributes.mime,
        md5=_md5(md5, size, chunks, message.content) if md5 else b"",
        symlink_target=attributes.symlink_target,
        ttl_s=max(attributes.ttl_sec, 0),
        content=message.content,
        chunks=chunks,
        extended=dict(extended) if extended else _NO_EXTENDED,
        hard_link_id=message.hard_link_id,
        remote_size=max(remote_size, 0),
    )


def _too_many(message: pb.Entry) -> Chunk:
    """In place of a list that costs too much memory: one chunk that spans it, and that nobody can read."""
    end = max(chunk.offset + chunk.size for chunk in message.chunks)
    newest_ns = max(chunk.modified_ts_ns for chunk in message.chunks)
    return Chunk(f"a list of {len(message.chunks)} chunks", 0, max(end, 1), newest_ns)


def _md5(md5: bytes, size: int, chunks: tuple[Chunk, ...], content: bytes) -> bytes:
    """Sinks compare and store it: better none than one that a write through a mount left behind."""
    if len(md5) != _MD5_BYTES:
        return b""
    return md5 if content else plausible_md5(md5, size, chunks)


def join_path(directory: str, name: str) -> str:
    """The absolute path, without a trailing slash."""
    name = name.removesuffix("/")
    if directory.endswith("/") or not directory:
        directory = directory.rstrip("/")
    return f"{directory}/{name}"


def _kind_and_mode(message: pb.Entry, attributes: pb.FuseAttributes) -> tuple[EntryKind, int]:
    go_mode = attributes.file_mode
    permissions = go_mode & 0o7777
    if go_mode & _GO_SPECIAL_BITS:
        permissions |= stat.S_ISUID if go_mode & _GO_SETUID else 0
        permissions |= stat.S_ISGID if go_mode & _GO_SETGID else 0
        permissions |= stat.S_ISVTX if go_mode & _GO_STICKY else 0
    if message.is_directory or go_mode & _GO_DIRECTORY:
        if not message.HasField("attributes"):
            permissions = 0o755
        return EntryKind.DIRECTORY, stat.S_IFDIR | permissions
    if not go_mode & _GO_NOT_A_FILE:
        if not message.HasField("attributes"):
            permissions = 0o644
        return EntryKind.FILE, stat.S_IFREG | permissions
    if go_mode & _GO_SYMLINK:
        return EntryKind.SYMLINK, stat.S_IFLNK | permissions
    return EntryKind.SPECIAL, _special_type(go_mode) | permissions


def _special_type(go_mode: int) -> int:
    if go_mode & _GO_PIPE:
        return stat.S_IFIFO
    if go_mode & _GO_SOCKET:
        return stat.S_IFSOCK
    return stat.S_IFCHR if go_mode & _GO_CHARACTER else stat.S_IFBLK


def _size(
    message: pb.Entry, attributes: pb.FuseAttributes, chunks: tuple[Chunk, ...], remote_size: int
) -> int:
    """As the filer computes it: what is stored may end before the size (a hole) or go beyond it."""
    size: int = attributes.file_size
    for chunk in chunks:
        size = max(size, chunk.offset + chunk.size)
    size = max(size, len(message.content))
    # A file in remote storage: not fetched yet, or fetched before the remote one changed.
    if remote_size > size and (not chunks or message.remote_entry.remote_mtime > attributes.mtime):
        return remote_size
    return size


def _time_ns(seconds: int, nanoseconds: int) -> int:
    if seconds <= _GO_ZERO_TIME_S:
        return 0
    return min(seconds, _LAST_TIME_S) * 1_000_000_000 + min(max(nanoseconds, 0), 999_999_999)
