"""A sink on an object store: the protocol of `filerbackup.sinks.base`, put together from the parts here."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from filerbackup.content import Content
from filerbackup.errors import ObjectRejected, SinkUnavailable, Unreadable, UsageError
from filerbackup.events import Entry, EntryKind
from filerbackup.settings.model import ObjectSettings
from filerbackup.sinks.base import OWN_PREFIX, Capabilities, Listed, SinkIdentity
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import (
    ObjectMetadata,
    content_version,
    has_attributes,
    has_content,
    is_same,
    object_metadata,
    with_proof,
)
from filerbackup.sinks.objects.deletes import Deletes
from filerbackup.sinks.objects.forms import OWN_METADATA, Form, Forms
from filerbackup.sinks.objects.journal import Journal
from filerbackup.sinks.objects.leftovers import Leftovers
from filerbackup.sinks.objects.listing import Lister
from filerbackup.sinks.objects.names import LINK_SUFFIX, Names
from filerbackup.sinks.objects.parts import Parts
from filerbackup.sinks.objects.probe import NameCheck, lists_in_order, require_markers
from filerbackup.sinks.objects.reading import read_all
from filerbackup.sinks.objects.store import Found, Head, Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Open:
    """What there is between `open` and `close`."""

    deletes: Deletes
    parts: Parts
    journal: Journal
    leftovers: Leftovers
    name_check: NameCheck
    forms: Forms
    in_order: bool


class ObjectSink:
    """A bucket or container of any service that has a `Store`; satisfies `Sink`.

    What an answer of the service has confirmed is durable, so `flush` has nothing to do. Raises
    UsageError for settings that cannot be used.
    """

    def __init__(self, settings: ObjectSettings, store: Store, *, identity: SinkIdentity) -> None:
        traits = store.traits
        if settings.directory_markers and not traits.directory_objects:
            raise UsageError(
                f"[sink.{settings.name}] directory_markers: here no object's name can end in a slash"
            )
        self._settings = settings
        self._store = store
        self.identity = identity
        self._names = Names(
            settings.directory,
            traits.dialect,
            most_bytes=traits.most_name_bytes,
            markers=settings.directory_markers,
        )
        self._part_bytes = max(settings.part_size_bytes, traits.smallest_part)
        self._buffer_bytes = self._part_bytes * max(1, settings.part_concurrency)
        self._links_by_name = settings.symlinks == "rclonelink"
        self.may_change: Callable[[], None] = lambda: None
        self._opened: _Open | None = None
        self._drop_level = logging.WARNING

    @property
    def capabilities(self) -> Capabilities:
        """Directories only with markers, or when they carry content; only files are moved."""
        return Capabilities(
            directories=self._settings.directory_markers,
            symlinks=self._settings.symlinks != "skip",
            move=True,
            move_tree=False,
            write_buffer_bytes=self._buffer_bytes,
            directory_bodies=self._store.traits.directory_objects,
            update=True,
        )

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self) -> None:
        """See the protocol. Credentials are looked up anew each time."""
        await self.close()
        store, names = self._store, self._names
        deletes: Deletes | None = None
        try:
            await store.open()
            deletes = Deletes(store, self.may_change)
            in_order = await lists_in_order(store, deletes, names)
            if self._settings.directory_markers:
                await require_markers(store, deletes, names)
            forms = Forms(store, names.own(f"{OWN_PREFIX}/{store.traits.kind}.json"))
            await forms.load()
            note = names.own(f"{OWN_PREFIX}/uploads.json")
            journal = Journal(store, note, below=names.prefix, may_change=self.may_change)
            parts = Parts(store, journal, part_bytes=self._part_bytes, buffer_bytes=self._buffer_bytes)
        except BaseException:
            if deletes is not None:
                await deletes.close()
            await store.close()
            raise
        leftovers = Leftovers(store, journal)
        self._opened = _Open(
            deletes, parts, journal, leftovers, NameCheck(store, deletes, names), forms, in_order
        )

    async def close(self) -> None:
        """See the protocol."""
        opened, self._opened = self._opened, None
        if opened is not None:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._store.close)
                stack.push_async_callback(opened.journal.close)
                stack.push_async_callback(opened.deletes.close)
                stack.push_async_callback(opened.parts.close)

    async def flush(self) -> None:
        """Nothing to do: a write or a delete returns when the service has confirmed it."""

    # -- writing ----------------------------------------------------------------------------------

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """See the protocol. A directory is kept with markers, or for content of its own."""
        at = self._at()
        await at.leftovers.sweep()
        match entry.kind:
            case EntryKind.FILE:
                await self._write_file(at, key, entry, content)
            case EntryKind.SYMLINK:
                await self._write_symlink(at, key, entry)
            case EntryKind.DIRECTORY:
                await self._write_directory(at, key, entry, content)
            case EntryKind.SPECIAL:
                raise ObjectRejected(f"{shown(key)} is a device, a pipe or a socket: it has no content")

    async def _write_file(self, at: _Open, key: str, entry: Entry, content: Content) -> None:
        name = await self._writable(at, key)
        in_parts = content.size > min(self._part_bytes, self._store.traits.largest_put)
        metadata = self._metadata(key, entry, in_parts=in_parts)
        if in_parts:
            await at.parts.write(name, content, metadata)
        else:
            await self._store.put(name, await _all_of(key, content), metadata, content.md5)
        await self._without_link(at, key)

    async def _write_symlink(self, at: _Open, key: str, entry: Entry) -> None:
        metadata = self._metadata(key, entry)
        if not self._links_by_name:
            await self._store.put(await self._writable(at, key), _target(entry), metadata)
            await self._without_link(at, key)
            return
        name = self._names.link(key)
        await at.name_check.check(name)
        await at.forms.expect(Form.SYMLINKS)
        await self._store.put(name, _target(entry), metadata)
        await at.deletes.delete(self._plain(at, key))

    async def _write_directory(self, at: _Open, key: str, entry: Entry, content: Content) -> None:
        name = self._names.body(key)
        has_body = entry.has_body and content.size > 0
        if not has_body and not self._settings.directory_markers:
            return
        await at.name_check.check(name)
        if content.size > self._part_bytes:
            raise ObjectRejected(f"{shown(name)}: a directory with {content.size} bytes of content")
        if has_body:
            await at.forms.expect(Form.BODIES)
        data = await _all_of(key, content) if has_body else b""
        await self._store.put(name, data, self._metadata(key, entry), content.md5 if has_body else b"")

    async def _writable(self, at: _Open, key: str) -> str:
        """The object of the key's own name, known to be kept as it is."""
        name = self._names.plain(key)
        await at.name_check.check(name)
        if self._links_by_name and key.endswith(LINK_SUFFIX):
            await at.forms.expect(Form.LINK_NAMES)
        return name

    async def _without_link(self, at: _Open, key: str) -> None:
        if at.forms.symlinks:
            await at.deletes.delete([self._names.link(key)])

    def _metadata(self, key: str, entry: Entry, *, in_parts: bool = False) -> ObjectMetadata:
        dialect = self._store.traits.dialect
        metadata = object_metadata(entry, dialect, storage_class=self._settings.storage_class)
        if metadata.dropped:
            # One that everybody sees; a bucket full of such objects would fill the log.
            level, self._drop_level = self._drop_level, logging.DEBUG
            _log.log(
                level,
                "metadata that the service cannot take is left out (more of it: at level debug)",
                extra={"key": key, "names": list(metadata.dropped)},
            )
        return with_proof(metadata, entry, dialect, tag_is_md5=self._store.tells_md5(in_parts=in_parts))

    # -- changing in place ------------------------------------------------------------------------

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """See the protocol. Files only: a copy inside the service, then a delete."""
        at = self._at()
        await at.leftovers.sweep()
        old_name = self._names.plain(old_key)
        if entry.kind is not EntryKind.FILE:
            self._names.plain(new_key)
            return False
        new_name = await self._writable(at, new_key)
        head = await self._store.head(old_name)
        if head is None:
            head = await self._store.head(new_name)
            return head is not None and self._holds(head, entry)
        if not self._holds(head, entry) or not await self._copy(at, head, new_name, new_key, entry):
            return False
        await self._without_link(at, new_key)
        await at.deletes.delete(self._plain(at, old_key))
        return True

    async def update(self, key: str, entry: Entry) -> bool:
        """See the protocol."""
        at = self._at()
        await at.leftovers.sweep()
        name = await self._writable(at, key)
        head = await self._store.head(name)
        if entry.kind is not EntryKind.FILE or head is None or not self._holds(head, entry):
            return False
        return await self._copy(at, head, name, key, entry)

    async def _copy(self, at: _Open, head: Head, name: str, key: str, entry: Entry) -> bool:
        # Only the service's own MD5 outlives any copy: what else proves the content goes along.
        metadata = self._metadata(key, entry, in_parts=not head.md5)
        if head.size <= self._store.traits.largest_put:
            return await self._store.copy(head, name, metadata)
        async with at.journal.noting(name) as noted:
            noted.settled = False
            copied = await self._store.copy(head, name, metadata)
            noted.settled = True
            return copied

    def _holds(self, head: Head, entry: Entry) -> bool:
        """Whether the object surely has the entry's content."""
        if head.size != _size(entry):
            return False
        dialect = self._store.traits.dialect
        proven = has_content(head.user, head.md5, entry, dialect)
        return is_same(head.user, head.md5, entry, dialect) if proven is None else proven

    # -- removing ---------------------------------------------------------------------------------

    async def delete(self, key: str) -> None:
        """See the protocol: whatever form the key has here."""
        at = self._at()
        await at.deletes.delete(self._objects(at, key))

    async def delete_tree(self, key: str) -> None:
        """See the protocol."""
        at = self._at()
        below = self._names.body(key)
        before: Sequence[str] = ()
        # Always the first page again: it does not matter in what order the service lists.
        while found := (await self._store.page(below)).objects:
            names = [each.name for each in found]
            if names == before:
                raise SinkUnavailable(f"{shown(key)}: what was deleted below it is still listed")
            await at.deletes.delete(names)
            before = names
        await at.deletes.delete(self._objects(at, key))

    # -- looking ----------------------------------------------------------------------------------

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """See the protocol; objects of other programs whose names are no keys are left out."""
        at = self._at()
        lister = Lister(self._store.page, self._names, in_order=at.in_order, links=at.forms.symlinks)
        async with aclosing(lister.list(prefix, start_after)) as entries:
            async for listed in entries:
                yield listed

    async def stat(self, key: str) -> Listed | None:
        """See the protocol."""
        at = self._at()
        for name in self._objects(at, key):
            head = await self._store.head(name)
            if head is not None:
                found = Found(name, head.size, head.etag, head.md5, head.user)
                listed = self._names.listed(found, links=at.forms.symlinks)
                if listed is not None:
                    return listed
        return None

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        """See the protocol.

        Size and MD5 where both sides know one; else size, modified time and what `with_proof` has
        left in the metadata, for one request where the listing does not tell.
        """
        self._at()
        if entry.kind is EntryKind.SYMLINK:
            return await self._matches_symlink(listed, entry)
        if listed.kind is not entry.kind or entry.kind is EntryKind.SPECIAL or listed.size != _size(entry):
            return False
        known = _as_listed(listed, entry)
        if known is False or (known and not thorough):
            return known
        head = await self._store.head(self._name_of(listed))
        if head is None or head.size != listed.size:
            return False
        dialect = self._store.traits.dialect
        return is_same(head.user, head.md5, entry, dialect) and (
            not thorough or has_attributes(head.user, entry, dialect)
        )

    async def _matches_symlink(self, listed: Listed, entry: Entry) -> bool:
        kind = EntryKind.SYMLINK if self._links_by_name else EntryKind.FILE
        target = _target(entry)
        if listed.kind is not kind or listed.size != len(target):
            return False
        return await read_all(self._store, self._name_of(listed)) == target

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol. The bytes of a symlink are its target."""
        at = self._at()
        for name in self._objects(at, key):
            try:
                async with aclosing(self._store.get(name, offset, length)) as blocks:
                    async for block in blocks:
                        yield block
                return
            except FileNotFoundError:
                continue
        raise FileNotFoundError(key)

    async def read_own(self, key: str) -> bytes | None:
        """See the protocol."""
        self._at()
        return await read_all(self._store, self._names.own(key))

    async def write_own(self, key: str, data: bytes) -> None:
        """See the protocol."""
        self._at()
        await self._store.put(self._names.own(key), data, OWN_METADATA)

    # -- names ------------------------------------------------------------------------------------

    def _at(self) -> _Open:
        if self._opened is None:
            raise SinkUnavailable("the sink is not open")
        return self._opened

    def _plain(self, at: _Open, key: str) -> tuple[str, ...]:
        """The object of the key's own name, unless that is the symlink of another key."""
        name = self._names.plain(key)
        return () if at.forms.symlinks and key.endswith(LINK_SUFFIX) else (name,)

    def _objects(self, at: _Open, key: str) -> tuple[str, ...]:
        """Every object that can be what the key names."""
        names = self._plain(at, key)
        if at.forms.symlinks:
            names += (self._names.link(key),)
        if at.forms.bodies or self._settings.directory_markers:
            names += (self._names.body(key),)
        return names

    def _name_of(self, listed: Listed) -> str:
        match listed.kind:
            case EntryKind.SYMLINK:
                return self._names.link(listed.key)
            case EntryKind.DIRECTORY:
                return self._names.body(listed.key)
            case _:
                return self._names.plain(listed.key)


def _as_listed(listed: Listed, entry: Entry) -> bool | None:
    """Whether a listing of the entry's size shows its content; None when it does not tell."""
    if entry.md5 and listed.md5 and listed.mtime_ns in (None, entry.mtime_ns):
        return listed.md5 == entry.md5
    if listed.mtime_ns is not None and listed.mtime_ns != entry.mtime_ns:
        return False
    wanted = content_version(entry)
    if listed.mtime_ns is not None and listed.version and wanted and not entry.md5:
        return listed.version == wanted
    return None


def _size(entry: Entry) -> int:
    return max(entry.size, len(entry.content))


def _target(entry: Entry) -> bytes:
    return entry.symlink_target.encode("utf-8", "surrogatepass")


async def _all_of(key: str, content: Content) -> bytes:
    data = await content.read()
    if len(data) != content.size:
        raise Unreadable(f"{shown(key)}: {len(data)} bytes came where {content.size} were announced")
    return data
