"""What happened at the source: entries, changes, and the two kinds of empty events.

Values only, no behaviour that needs a filer or a sink. Times are Unix nanoseconds (`*_ns`), sizes
are bytes, paths are absolute filer paths without a trailing slash ("/" is the root).
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_TTL_UNITS_S = (60, 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
_TTL_MOST_UNITS = 256
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


class EntryKind(enum.Enum):
    """What an entry is. SPECIAL (device, pipe, socket) has no content that could be copied."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    SPECIAL = "special"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One stored piece of a file; `size` counts clear bytes, whatever is on the volume server.

    `e_tag` is base64 of the MD5 of the clear bytes as they were first stored, or anything else, or
    empty. (A truncation through a mount shrinks `size` and leaves the stored bytes and this alone.)
    `sse_type` and `sse_metadata` are those of the S3 gateway's encryption (`filerbackup.source.sse`).
    """

    file_id: str
    offset: int
    size: int
    modified_ts_ns: int
    cipher_key: bytes = field(default=b"", repr=False)
    is_compressed: bool = False
    is_manifest: bool = False
    sse_type: int = 0
    e_tag: str = field(default="", repr=False)
    sse_metadata: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or symlink as the filer described it at one moment.

    `mode` holds POSIX bits (type and permissions as in `st_mode`); `md5` is of the whole file or
    empty; `content`, when not empty, is the whole file.
    """

    path: str
    kind: EntryKind
    size: int = 0
    mode: int = stat.S_IFREG | 0o644
    mtime_ns: int = 0
    crtime_ns: int = 0
    uid: int = 0
    gid: int = 0
    mime: str = ""
    md5: bytes = b""
    symlink_target: str = ""
    ttl_s: int = 0
    content: bytes = field(default=b"", repr=False)
    chunks: tuple[Chunk, ...] = field(default=(), repr=False)
    extended: Mapping[str, bytes] = field(default_factory=lambda: _NOTHING, repr=False)
    hard_link_id: bytes = b""
    remote_size: int = 0

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def is_directory(self) -> bool:
        """Whether other entries can live below this one."""
        return self.kind is EntryKind.DIRECTORY

    @property
    def is_remote_only(self) -> bool:
        """Whether the filer knows the file but has none of its bytes: they are in remote storage."""
        return self.remote_size > 0 and not self.has_body and self.kind is EntryKind.FILE

    @property
    def bytes_end_ns(self) -> int | None:
        """When a volume server stops giving out the first of the bytes by their time to live; None: never.

        It keeps a time to live as at most 255 of a unit, rounded down, from when a chunk was written.
        (Read in weed's source: needle.SecondsToTTL and the volume server's check.)
        """
        if not self.ttl_s:
            return None
        begins_ns = min((chunk.modified_ts_ns for chunk in self.chunks), default=self.crtime_ns)
        for unit_s in _TTL_UNITS_S:
            if self.ttl_s // unit_s < _TTL_MOST_UNITS:
                return begins_ns + (self.ttl_s // unit_s * unit_s or self.ttl_s) * 1_000_000_000
        return None

    @property
    def has_body(self) -> bool:
        """A directory can carry content too: an S3 object whose key ends in a slash."""
        return bool(self.content or self.chunks)


@dataclass(frozen=True, slots=True)
class Upsert:
    """The entry exists now with this content: created, overwritten, or its attributes changed.

    `same_content`: just before this, the same path had the same content. `is_new`: just before this,
    nothing was there.
    """

    ts_ns: int
    entry: Entry
    same_content: bool = False
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """The entry is gone. A deleted directory's descendants had events of their own before."""

    ts_ns: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Rename:
    """The entry moved. A renamed directory's descendants have events of their own after it."""

    ts_ns: int
    old: Entry
    new: Entry


@dataclass(frozen=True, slots=True)
class Marker:
    """Nothing of interest up to `ts_ns`: a resume may start there."""

    ts_ns: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The filer is alive and has nothing newer at `ts_ns`: freshness only, never a position."""

    ts_ns: int


Change = Upsert | Delete | Rename
Event = Change | Marker | Heartbeat
