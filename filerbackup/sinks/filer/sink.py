"""The filer sink: the protocol of `filerbackup.sinks.base`, put together from the parts beside it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import stat
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from filerbackup.content import Content, InlineContent
from filerbackup.errors import (
    FilerBackupError,
    LeaseLost,
    ObjectRejected,
    SinkError,
    SinkRefused,
    SinkUnavailable,
    UsageError,
)
from filerbackup.events import Entry, EntryKind
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import Walk, is_directory
from filerbackup.settings.model import FilerSinkSettings, SecuritySettings, SourceSettings
from filerbackup.sinks.base import OWN_PREFIX, Capabilities, Listed, SinkIdentity
from filerbackup.sinks.filer.assigning import FileIds
from filerbackup.sinks.filer.attributes import FilerListed, check_target, copy_of, is_same, listed_of
from filerbackup.sinks.filer.changes import Changes
from filerbackup.sinks.filer.leftovers import Leftovers
from filerbackup.sinks.filer.loops import LoopCheck
from filerbackup.sinks.filer.needles import Needles
from filerbackup.sinks.filer.parents import Parents
from filerbackup.sinks.filer.reading import Reader
from filerbackup.sinks.filer.rules import Rules
from filerbackup.sinks.filer.target import Target, as_sink_error, filer_client
from filerbackup.sinks.filer.uploads import Sizes, Uploads
from filerbackup.sinks.filer.writing import Writer
from filerbackup.sinks.keys import check_key, check_own_key, shown

_RESERVED = ("/topics/.system", "/etc/filerbackup")
"""The filer's own log and filerbackup's own state: of no copy, whatever the directory is."""


@dataclass(frozen=True, slots=True)
class _Open:
    """What there is between `open` and `close`."""

    target: Target
    ids: FileIds
    needles: Needles
    leftovers: Leftovers
    parents: Parents
    writer: Writer
    changes: Changes
    reader: Reader
    rules: Rules
    buckets: str


class FilerSink:
    """A directory of another SeaweedFS cluster; satisfies `Sink`.

    `source`, where it is known, is compared at `open`: a target inside of what is watched is refused.
    What the target's filer has confirmed is as durable as it makes it, so `flush` has little to do.
    Raises UsageError for settings that cannot be used.
    """

    def __init__(
        self,
        settings: FilerSinkSettings,
        security: SecuritySettings | None = None,
        *,
        source: SourceSettings | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        filer_client(settings.grpc_address, None)
        self._settings = settings
        self._security = security or SecuritySettings()
        self._source = source
        self._sizes = sizes or Sizes(settings.part_size_bytes, settings.part_concurrency)
        self._root = settings.directory.rstrip("/")
        self.may_change: Callable[[], None] = lambda: None
        self._opened: _Open | None = None

    @property
    def identity(self) -> SinkIdentity:
        """The filer's address and the directory as they were given."""
        return SinkIdentity("filer", self._settings.grpc_address, "", self._settings.directory)

    @property
    def capabilities(self) -> Capabilities:
        """Everything that a filer can do."""
        return Capabilities(
            directories=True,
            symlinks=True,
            move=True,
            move_tree=True,
            write_buffer_bytes=self._sizes.buffer_bytes,
            directory_bodies=True,
            update=True,
        )

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self) -> None:
        """See the protocol. A chunk is written, read and removed; a loop is refused.

        Chunks that a killed process of this sink has left are removed: one process at a time.
        """
        await self.close()
        settings = self._settings
        try:
            needles, target, loops = await asyncio.to_thread(self._connections)
        except UsageError as error:
            # The source has the same files and was made at the start, where they are a mistake. Later they
            # run out or are half exchanged, and a person mends that beside the running process.
            raise SinkRefused(str(error), hint=error.hint) from None
        opened: _Open | None = None
        try:
            said = await target.configuration()
            buckets = said.dir_buckets or "/buckets"
            reader = Reader(target, needles)
            rules = Rules(target, functools.partial(_all_of, reader), buckets)
            await rules.refresh()
            ids = FileIds(target, rules)
            leftovers = Leftovers(target, self._root)
            parents = Parents(target, self._root)
            uploads = Uploads(ids, needles, leftovers, self._sizes, cipher=said.cipher)
            writer = Writer(target, uploads, leftovers, parents, ttl_s=settings.ttl_s)
            changes = Changes(target, parents, ttl_s=settings.ttl_s)
            opened = _Open(
                target,
                ids,
                needles,
                leftovers,
                parents,
                writer,
                changes,
                reader,
                rules,
                buckets,
            )
            if loops is not None:
                await loops.before_writing(said)
            await self._probe(opened, loops)
        except BaseException:
            await _close(opened, target, needles)
            raise
        finally:
            if loops is not None:
                await loops.close()
        self._opened = opened

    def _connections(self) -> tuple[Needles, Target, LoopCheck | None]:
        """Nothing is connected yet; TLS files are read, which takes a while. Raises UsageError."""
        settings, security, source = self._settings, self._security, self._source
        needles = Needles(security)
        target = Target(settings, security.grpc, self.may_change)
        loops = LoopCheck(target, settings.directory, source, security.grpc) if source is not None else None
        return needles, target, loops

    async def _probe(self, at: _Open, loops: LoopCheck | None) -> None:
        """Prove that a file can be written and read there."""
        path = f"{self._root}/{OWN_PREFIX}/probe-{secrets.token_hex(8)}"
        data = secrets.token_bytes(32)
        try:
            await at.writer.write(path, _own_entry(path, data), InlineContent(data))
            made = await at.target.lookup(path)
            if made is None or await _all_of(at.reader, made) != data:
                raise SinkUnavailable(f"what was written to {at.target.address} cannot be read back")
            if loops is not None:
                await loops.after_writing(path)
        finally:
            with contextlib.suppress(SinkError):
                await at.target.remove(path)

    async def close(self) -> None:
        """See the protocol."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await _close(opened, opened.target, opened.needles)

    async def flush(self) -> None:
        """What was confirmed is there. What was in doubt for a minute is looked into."""
        at = self._at()
        with contextlib.suppress(SinkError):
            await at.leftovers.settle()
            await at.rules.refresh()

    # -- writing ----------------------------------------------------------------------------------

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """See the protocol. Directories above that the source has not told of are made with mode 0700."""
        path, at = self._path(key), self._at()
        # Not at `open`: a dry run opens too, beside another process that is at work.
        await at.leftovers.sweep()
        match entry.kind:
            case EntryKind.FILE:
                await at.writer.write(path, entry, content)
                at.parents.forget(path)
            case EntryKind.DIRECTORY if entry.has_body and content.size:
                await at.writer.write(path, entry, content)
                at.parents.know(path)
            case EntryKind.DIRECTORY:
                await at.writer.place(path, copy_of(entry, size=0))
                at.parents.know(path)
            case EntryKind.SYMLINK:
                check_target(key, entry)
                await at.writer.place(path, copy_of(entry, size=0, sink_ttl_s=self._settings.ttl_s))
                at.parents.forget(path)
            case EntryKind.SPECIAL:
                raise ObjectRejected(f"{shown(key)} is a device, a pipe or a socket")

    async def update(self, key: str, entry: Entry) -> bool:
        """See the protocol. Not for what has a time to live, which the chunks would not know of."""
        return await self._at().changes.update(self._path(key), entry)

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """See the protocol. Between buckets nothing moves: their chunks are in volumes of their own."""
        old, new, at = self._path(old_key), self._path(new_key), self._at()
        if new == old or new.startswith(old + "/") or self._bucket(at, old) != self._bucket(at, new):
            return False
        await at.leftovers.settle(old)
        return await at.changes.move(old, new, entry)

    # -- removing ---------------------------------------------------------------------------------

    async def delete(self, key: str) -> None:
        """See the protocol."""
        path, at = self._path(key), self._at()
        self._spare_collection(at, path)
        await at.target.remove(path)
        at.parents.forget(path)

    async def delete_tree(self, key: str) -> None:
        """See the protocol."""
        path, at = self._path(key), self._at()
        self._spare_collection(at, path)
        if self._settings.collection and path == self._bucket(at, path):
            # With a bucket the filer drops the bucket's collection, and not what is elsewhere.
            async with aclosing(self._walk(at, path).entries()) as entries:
                async for found in entries:
                    if found.kind is not EntryKind.DIRECTORY:
                        await at.target.remove(f"{self._root}/{found.key}")
        await at.target.remove(path, tree=True)
        at.parents.forget(path, tree=True)

    def _spare_collection(self, at: _Open, path: str) -> None:
        """Raise ObjectRejected when the filer would drop the volumes of all copies with a bucket."""
        name = self._settings.collection
        if name and path == f"{at.buckets}/{name}":
            raise ObjectRejected(
                f"with the bucket {path} the target would delete the whole collection {name!r}, "
                "which [sink.filer] has for all copies",
                hint="give [sink.filer] a collection that no bucket is named after",
            )

    # -- looking ----------------------------------------------------------------------------------

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """See the protocol."""
        at = self._at()
        if prefix.startswith(OWN_PREFIX + "/"):
            return
        above, slash, name_prefix = prefix.rpartition("/")
        start = above + slash
        after = ""
        if start_after.encode() > start.encode():
            if not start_after.startswith(start):
                return
            after = start_after[len(start) :]
        walk = self._walk(at, f"{self._root}/{above}".rstrip("/"))
        try:
            async with aclosing(walk.entries(after, name_prefix=name_prefix)) as entries:
                async for found in entries:
                    yield found
        except FilerBackupError as error:
            raise error if isinstance(error, SinkError) else as_sink_error(error, at.target.address) from None

    def _walk(self, at: _Open, directory: str) -> Walk[FilerListed]:
        above = len(self._root) + 1

        def take(parent: str, message: pb.Entry) -> FilerListed | None:
            path = f"{parent.rstrip('/')}/{message.name}"
            key = path[above:]
            return None if key == OWN_PREFIX or path in _RESERVED else listed_of(key, message)

        return Walk(at.target.client, directory or "/", take)

    async def stat(self, key: str) -> Listed | None:
        """See the protocol."""
        path, at = self._path(key), self._at()
        message = await at.target.lookup(path)
        return None if message is None else listed_of(key, message)

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        """Compares kind, size, modified time, content, mode, owner, type and extended attributes."""
        found: Listed | None = listed
        if not isinstance(found, FilerListed):
            found = await self.stat(listed.key)
        return isinstance(found, FilerListed) and is_same(found, entry, self._settings.ttl_s)

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol. The bytes of a symlink are its target; those of a directory its own content."""
        path, at = self._path(key), self._at()
        message = await at.target.lookup(path)
        if message is None or (is_directory(message) and not (message.chunks or message.content)):
            raise FileNotFoundError(key)
        found = listed_of(key, message)
        if found.kind is EntryKind.SYMLINK:
            end = None if length is None else offset + length
            if block := found.target.encode()[offset:end]:
                yield block
            return
        async with aclosing(at.reader.blocks(message, offset, length)) as blocks:
            async for block in blocks:
                yield block

    async def read_own(self, key: str) -> bytes | None:
        """See the protocol."""
        check_own_key(key)
        at = self._at()
        message = await at.target.lookup(f"{self._root}/{key}")
        return None if message is None or is_directory(message) else await _all_of(at.reader, message)

    async def write_own(self, key: str, data: bytes) -> None:
        """See the protocol."""
        check_own_key(key)
        path = f"{self._root}/{key}"
        await self._at().writer.write(path, _own_entry(path, data), InlineContent(data))

    # -- names ------------------------------------------------------------------------------------

    def _at(self) -> _Open:
        if self._opened is None:
            raise SinkUnavailable("the sink is not open")
        return self._opened

    def _path(self, key: str) -> str:
        """The absolute path on the target. Raises ObjectRejected for a bad key."""
        check_key(key)
        path = f"{self._root}/{key}"
        if any(path == each or path.startswith(each + "/") for each in _RESERVED):
            raise ObjectRejected(f"{shown(path)} on the target is its own")
        return path

    def _bucket(self, at: _Open, path: str) -> str:
        """The bucket's directory that a path is in or is, empty outside of buckets."""
        below = path.removeprefix(at.buckets + "/")
        return "" if below == path else f"{at.buckets}/{below.partition('/')[0]}"


async def _close(opened: _Open | None, target: Target, needles: Needles) -> None:
    if opened is not None:
        await opened.writer.close()
        await opened.parents.close()
        # Once the lease was given back nothing is changed any more: the next start settles it.
        with contextlib.suppress(SinkError, LeaseLost):
            await opened.leftovers.settle(min_age_s=0.0)
        await opened.ids.close()
    await needles.close()
    await target.close()


async def _all_of(reader: Reader, message: pb.Entry) -> bytes:
    async with aclosing(reader.blocks(message, 0, None)) as blocks:
        return b"".join([block async for block in blocks])


def _own_entry(path: str, data: bytes) -> Entry:
    now_ns = time.time_ns()
    return Entry(
        path, EntryKind.FILE, size=len(data), mode=stat.S_IFREG | 0o600, mtime_ns=now_ns, crtime_ns=now_ns
    )
