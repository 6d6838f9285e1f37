"""The S3 sink: the protocol of `filerbackup.sinks.base`, put together from the parts beside it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from filerbackup.content import Content
from filerbackup.errors import ObjectRejected, SinkUnavailable, Unreadable, UsageError
from filerbackup.events import Entry, EntryKind
from filerbackup.settings.model import S3Settings
from filerbackup.sinks.base import Capabilities, Listed, SinkIdentity
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata, is_proven, object_metadata, with_proof
from filerbackup.sinks.s3.answers import Found, is_md5
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.connection import Connection, connect
from filerbackup.sinks.s3.deletes import Deletes
from filerbackup.sinks.s3.forms import FORMS_KEY, OWN_METADATA, Form, Forms
from filerbackup.sinks.s3.listing import Lister
from filerbackup.sinks.s3.multipart import SMALLEST_PART, Multipart
from filerbackup.sinks.s3.names import LINK_SUFFIX, Names
from filerbackup.sinks.s3.probe import Behaviour, NameCheck, probe
from filerbackup.sinks.s3.uploads import Uploads, md5_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Open:
    """What there is between `open` and `close`."""

    connection: Connection
    bucket: Bucket
    deletes: Deletes
    uploads: Uploads
    multipart: Multipart
    name_check: NameCheck
    forms: Forms
    behaviour: Behaviour


class S3Sink:
    """Amazon S3 or a service that speaks its protocol; satisfies `Sink`.

    Whether the bucket exists is found out by `open`. What an answer of the service has confirmed is
    durable, so `flush` has nothing to do. Raises UsageError for settings that cannot be used.
    """

    def __init__(self, settings: S3Settings) -> None:
        if not settings.bucket:
            raise UsageError(f"[sink.{settings.name}] has no `bucket`")
        self._settings = settings
        self._names = Names(settings.directory)
        self._part_bytes = max(settings.part_size_bytes, SMALLEST_PART)
        self._buffer_bytes = self._part_bytes * max(1, settings.part_concurrency)
        self._opened: _Open | None = None
        self._drop_level = logging.WARNING

    @property
    def identity(self) -> SinkIdentity:
        """Endpoint, bucket and directory as they were given."""
        settings = self._settings
        return SinkIdentity("s3", settings.endpoint, settings.bucket, settings.directory)

    @property
    def capabilities(self) -> Capabilities:
        """Symlinks are kept; directories only when they carry content; nothing is moved."""
        return Capabilities(
            directories=False,
            symlinks=True,
            move=False,
            move_tree=False,
            write_buffer_bytes=self._buffer_bytes,
            directory_bodies=True,
        )

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self) -> None:
        """See the protocol. Credentials are looked up anew each time."""
        await self.close()
        settings = self._settings
        connection = await connect(settings)
        deletes: Deletes | None = None
        try:
            bucket = Bucket(connection, settings.bucket, acl=settings.acl)
            deletes = Deletes(bucket)
            uploads = Uploads(bucket)
            behaviour = await probe(bucket, deletes, self._names)
            uploads.etag_is_md5 = behaviour.etag_is_md5
            forms = Forms(bucket, uploads, self._names.own(FORMS_KEY))
            await forms.load()
        except BaseException:
            if deletes is not None:
                await deletes.close()
            await connection.close()
            raise
        self._opened = _Open(
            connection,
            bucket,
            deletes,
            uploads,
            Multipart(bucket, uploads, part_bytes=self._part_bytes, buffer_bytes=self._buffer_bytes),
            NameCheck(bucket, deletes, self._names),
            forms,
            behaviour,
        )

    async def close(self) -> None:
        """See the protocol."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.deletes.close()
            await opened.multipart.close()
            await opened.connection.close()

    async def flush(self) -> None:
        """Nothing to do: a write or a delete returns when the service has confirmed it."""

    # -- writing ----------------------------------------------------------------------------------

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """See the protocol. A directory without content of its own is not kept."""
        at = self._at()
        match entry.kind:
            case EntryKind.FILE:
                await self._write_file(at, key, entry, content)
            case EntryKind.SYMLINK:
                await self._write_symlink(at, key, entry)
            case EntryKind.DIRECTORY:
                name = self._names.body(key)
                if entry.has_body and content.size:
                    await self._write_body(at, name, entry, content)
            case EntryKind.SPECIAL:
                raise ObjectRejected(f"{shown(key)} is a device, a pipe or a socket: it has no content")

    async def _write_file(self, at: _Open, key: str, entry: Entry, content: Content) -> None:
        name = self._names.plain(key)
        await at.name_check.check(name)
        if key.endswith(LINK_SUFFIX):
            await at.forms.expect(Form.LINK_NAMES)
        in_parts = content.size > self._part_bytes
        tag_is_md5 = at.uploads.etag_is_md5 and not in_parts
        metadata = with_proof(self._metadata(key, entry), entry, tag_is_md5=tag_is_md5)
        if in_parts:
            await at.multipart.write(name, content, metadata)
        else:
            await at.uploads.put(name, await _all_of(key, content), metadata, content.md5)
        if at.forms.symlinks:
            await at.deletes.delete([self._names.link(key)])

    async def _write_symlink(self, at: _Open, key: str, entry: Entry) -> None:
        name = self._names.link(key)
        await at.name_check.check(name)
        await at.forms.expect(Form.SYMLINKS)
        await at.uploads.put(name, _target(entry), self._metadata(key, entry))
        await at.deletes.delete(self._plain(at, key))

    async def _write_body(self, at: _Open, name: str, entry: Entry, content: Content) -> None:
        await at.name_check.check(name)
        await at.forms.expect(Form.BODIES)
        if content.size > self._part_bytes:
            raise ObjectRejected(f"{shown(name)}: a directory with {content.size} bytes of content")
        data = await _all_of(name, content)
        await at.uploads.put_with_slash(name, data, self._metadata(name, entry))

    def _metadata(self, key: str, entry: Entry) -> ObjectMetadata:
        metadata = replace(object_metadata(entry), storage_class=self._settings.storage_class)
        if metadata.dropped:
            # One that everybody sees; a bucket full of such objects would fill the log.
            level, self._drop_level = self._drop_level, logging.DEBUG
            _log.log(
                level,
                "metadata that S3 cannot take is left out (more of it: at level debug)",
                extra={"key": key, "names": list(metadata.dropped)},
            )
        return metadata

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
        while found := (await at.bucket.page(below)).objects:
            names = [each.name for each in found]
            if names == before:
                raise SinkUnavailable(f"{shown(key)}: what was deleted below it is still listed")
            await at.deletes.delete(names)
            before = names
        await at.deletes.delete(self._objects(at, key))

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """Never: not possible without the bytes passing through here, in this version."""
        for key in (old_key, new_key):
            self._names.plain(key)
        return False

    # -- looking ----------------------------------------------------------------------------------

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """See the protocol; objects of other programs whose names are no keys are left out."""
        at = self._at()
        lister = Lister(
            at.bucket.page, self._names, in_order=at.behaviour.lists_in_order, links=at.forms.symlinks
        )
        async with aclosing(lister.list(prefix, start_after)) as entries:
            async for listed in entries:
                yield listed

    async def stat(self, key: str) -> Listed | None:
        """See the protocol."""
        at = self._at()
        for name in self._objects(at, key):
            head = await at.bucket.head(name)
            if head is not None:
                listed = self._names.listed(Found(name, head.size, head.etag), links=at.forms.symlinks)
                if listed is not None:
                    return listed
        return None

    async def matches(self, listed: Listed, entry: Entry) -> bool:
        """See the protocol.

        Size and MD5 where the filer knows one and the ETag is one; else, for one request, size,
        modified time and what `with_proof` has left in the metadata.
        """
        at = self._at()
        if listed.kind is not entry.kind or entry.kind is EntryKind.SPECIAL:
            return False
        if entry.kind is EntryKind.SYMLINK:
            target = _target(entry)
            return listed.size == len(target) and await self._holds(at, listed, target)
        if listed.size != max(entry.size, len(entry.content)):
            return False
        if entry.md5 and at.uploads.etag_is_md5 and is_md5(listed.etag):
            return listed.etag == entry.md5.hex()
        head = await at.bucket.head(self._name_of(listed))
        return head is not None and head.size == listed.size and is_proven(head.user, entry)

    async def _holds(self, at: _Open, listed: Listed, data: bytes) -> bool:
        if at.uploads.etag_is_md5 and is_md5(listed.etag):
            return listed.etag == (await md5_of(data)).hex()
        return await at.bucket.get_all(self._name_of(listed)) == data

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol. The bytes of a symlink are its target."""
        at = self._at()
        for name in self._objects(at, key):
            try:
                async with aclosing(at.bucket.get(name, offset, length)) as blocks:
                    async for block in blocks:
                        yield block
                return
            except FileNotFoundError:
                continue
        raise FileNotFoundError(key)

    async def read_own(self, key: str) -> bytes | None:
        """See the protocol."""
        return await self._at().bucket.get_all(self._names.own(key))

    async def write_own(self, key: str, data: bytes) -> None:
        """See the protocol."""
        await self._at().uploads.put(self._names.own(key), data, OWN_METADATA)

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
        if at.forms.bodies:
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


def _target(entry: Entry) -> bytes:
    return entry.symlink_target.encode("utf-8", "surrogatepass")


async def _all_of(key: str, content: Content) -> bytes:
    data = await content.read()
    if len(data) != content.size:
        raise Unreadable(f"{shown(key)}: {len(data)} bytes came where {content.size} were announced")
    return data
