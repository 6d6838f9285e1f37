"""The sink protocol: the few calls that every place for copies must offer.

Keys are relative to the sink's directory, separated by "/", never empty, never with a leading or
trailing slash and never with an empty, "." or ".." component (`filerbackup.sinks.keys` checks it;
a key that breaks these rules is an ObjectRejected).

What a caller may count on, for every sink:

- `write` is whole-or-absent: a reader of the key sees the previous complete version, or the new
  complete one, also when the process dies in the middle.
- Writing or deleting again is harmless. Calls for different keys may run at the same time; calls
  for one key, or for a tree and something in it, never do (the scheduler sees to that).
- Nothing counts as durable before `flush` returns.
- Everything under `.filerbackup/` belongs to filerbackup; `list` never shows it.

Errors: SinkUnavailable (and SinkThrottled), SinkRefused, ObjectRejected; errors of the content that
is being read pass through unchanged. No other exception leaves a sink, but for CancelledError.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from filerbackup.content import Content
from filerbackup.events import Entry, EntryKind

OWN_PREFIX = ".filerbackup"
"""Everything of filerbackup's own in a sink lives under this name."""

MARK_KEY = ".filerbackup/sink.json"
"""The mark that says whose sink it is; read and written with `read_own` and `write_own`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a sink can do, as data.

    `directories`: an empty directory can be kept. `symlinks`: a symlink can be kept as such.
    `move`: a file can be moved without its bytes passing through here. `move_tree`: so can a whole
    directory in one step. `write_buffer_bytes`: the most that one `write` holds in memory beside
    what the content itself does, however large the file is. `directory_bodies`: a directory can have
    content of its own (on the filer, a file below which something was created keeps its bytes).
    `update`: the attributes of a file can change without its bytes passing through here.
    """

    directories: bool
    symlinks: bool
    move: bool
    move_tree: bool
    write_buffer_bytes: int
    directory_bodies: bool = False
    update: bool = False


@dataclass(frozen=True, slots=True)
class SinkIdentity:
    """Which place this is, down to the directory, with no secret in it: part of the checkpoint key.

    `endpoint` and `container` are empty where the kind has none (a local directory).
    """

    kind: str
    endpoint: str
    container: str
    directory: str

    def __str__(self) -> str:
        where = "/".join(part.strip("/") for part in (self.container, self.directory) if part.strip("/"))
        if self.kind == "local":
            return f"local:{self.directory}"
        return f"{self.kind}:{where}" + (f" at {self.endpoint}" if self.endpoint else "")


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as a listing shows it.

    `mtime_ns` is the *source's* modified time where a listing gives it, else None; `etag` is the
    service's own tag in lower case without quotes, or empty. `version` is the name of the content
    that was kept with it (`filerbackup.sinks.metadata.content_version`), `md5` the raw MD5 of the
    bytes, where a listing gives them.
    """

    key: str
    kind: EntryKind
    size: int
    mtime_ns: int | None = None
    etag: str = ""
    version: str = ""
    md5: bytes = b""


@runtime_checkable
class Fenceable(Protocol):
    """A sink that changes things outside of its calls' own steps: in threads, in requests that it collects.

    `may_change` is called right before each such change, also from threads. It raises LeaseLost, which
    passes through to whoever waits for the change.
    """

    may_change: Callable[[], None]


class Sink(Protocol):
    """A place for copies."""

    @property
    def identity(self) -> SinkIdentity:
        """Which place this is."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    async def open(self) -> None:
        """Connect; prove that the place exists and may be written. May be called again after an error.

        Raises SinkRefused with what to change (missing bucket, bad credentials, not a directory),
        SinkUnavailable when nobody answers.
        """
        ...

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """Make `key` hold this content and the entry's metadata, replacing what is there.

        For a directory or a symlink the content is empty and not read. Where a file stands in the
        way of a directory, or the reverse, what stands there goes first.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove one object (or one empty directory). Absent is fine."""
        ...

    async def delete_tree(self, key: str) -> None:
        """Remove `key` and everything below `key/`, and nothing beside it. Absent is fine."""
        ...

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """Move without the bytes passing through here, if `old_key` holds just this entry.

        False, with nothing changed: not possible, or what is there is not surely this entry's content;
        the caller then writes and deletes. True also when an earlier call has moved it already. A
        directory moves only with `move_tree`, and only when nothing is at `new_key`.
        """
        ...

    async def update(self, key: str, entry: Entry) -> bool:
        """Give the file at `key` the entry's attributes, if it has just this entry's content.

        False, with nothing changed: not possible, or not surely the same content; the caller then
        writes. Called for files only.
        """
        ...

    def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """All objects whose key starts with `prefix`, after `start_after`, in order, lazily.

        The order is that of the keys' UTF-8 bytes, where a directory counts as its key plus "/".
        Directories are listed where the sink keeps them.
        """
        ...

    async def stat(self, key: str) -> Listed | None:
        """One object as a listing would show it, or None when it is absent."""
        ...

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        """Whether what was listed is surely the same file as the entry; in doubt, False.

        May cost a request where the listing was not enough. Where it does not tell of mode, owner and
        user metadata, those count only when `thorough`, for a request more.
        """
        ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object. Raises FileNotFoundError when it does not exist."""
        ...

    async def read_own(self, key: str) -> bytes | None:
        """A small object under `.filerbackup/`, or None when it is absent."""
        ...

    async def write_own(self, key: str, data: bytes) -> None:
        """Write a small object under `.filerbackup/`, durable when it returns."""
        ...

    async def flush(self) -> None:
        """When this returns, every write, move and delete that had returned before is durable."""
        ...

    async def close(self) -> None:
        """Release connections and handles. Never raises for a sink that is down."""
        ...
