"""One container of an Azure storage account, as `filerbackup.sinks.objects.store.Store` wants it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TypeVar

from filerbackup.errors import SinkError, SinkUnavailable, Unreadable, UsageError
from filerbackup.settings.model import AzureSettings
from filerbackup.sinks.azure.answers import NotAzure, md5_of_header
from filerbackup.sinks.azure.batch import MOST_NAMES
from filerbackup.sinks.azure.blocks import block_id, block_list, new_upload_id
from filerbackup.sinks.azure.connection import Connection, account_of, connect
from filerbackup.sinks.azure.copies import MAY_BE_TAGS, Copies
from filerbackup.sinks.azure.dialect import DIALECT, as_header, blob_headers, tier_of, whole_md5
from filerbackup.sinks.azure.errors import Answered, classify
from filerbackup.sinks.azure.names import DotCheck, check_name
from filerbackup.sinks.azure.signing import SharedKey
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import SOURCE_STORAGE_CLASS, ObjectMetadata
from filerbackup.sinks.objects.checks import md5_of, remove_wrong
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import in_slices
from filerbackup.sinks.objects.store import Head, Page, Part, Traits

TRAITS = Traits(
    kind="azure",
    dialect=DIALECT,
    # 1,024 characters; `check_name` counts them.
    most_name_bytes=4096,
    smallest_part=1,
    largest_part=4000 << 20,
    most_parts=50_000,
    largest_object=50_000 * (4000 << 20),
    largest_put=5000 << 20,
    bulk_names=MOST_NAMES,
    keeps_unfinished=False,
)
_IN_THE_WAY = frozenset({"InvalidBlobType", "BlobArchived", "BlobBeingRehydrated"})
"""An append blob (as `weed filer.backup` makes them) or an archived one: only a delete makes room."""
_Sent = TypeVar("_Sent")
_log = logging.getLogger(__name__)


class AzureStore:
    """Satisfies `Store`. Raises UsageError for settings that cannot be used."""

    def __init__(self, settings: AzureSettings) -> None:
        self.account = account_of(settings)
        self.traits = TRAITS
        self.label = f"azure:{settings.container}"
        self._settings = settings
        self._key = SharedKey(self.account.name, settings.account_key) if settings.account_key else None
        if settings.storage_class != SOURCE_STORAGE_CLASS and tier_of(settings.storage_class) is None:
            raise UsageError(
                f"[sink.{settings.name}] storage_class {settings.storage_class!r} is no access tier",
                hint="Hot, Cool, Cold or Archive",
            )
        # `ObjectSink` sends parts up to here from memory, larger ones while it reads them.
        self._held_bytes = max(settings.part_size_bytes, 1) * max(1, settings.part_concurrency)
        self._dots = DotCheck(self, settings.directory)
        self._takes_tags = True
        self._connection: Connection | None = None

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self) -> None:
        """See the protocol."""
        await self.close()
        self._connection = await connect(self._settings, self.account, self._key)
        try:
            await self.page("", limit=1)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See the protocol."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def tells_md5(self, *, in_parts: bool) -> bool:
        """The service checks and keeps the MD5 of what comes in one request.

        For a blob of blocks it keeps what it is given: `complete_upload` finds that in the metadata.
        """
        return not in_parts

    # -- whole objects ----------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes = b"") -> None:
        """See the protocol. The service takes the bytes only if they have the MD5 that comes with them."""
        check_name(name)
        await self._dots.check(name)
        digest = md5 or await md5_of(data)
        container = self._at().container

        async def send(tags: bool) -> bytes:
            headers = blob_headers(metadata, folder=name.endswith("/") and not data, tags=tags)
            headers["x-ms-blob-type"] = "BlockBlob"
            headers["content-md5"] = as_header(digest)
            return await container.put_blob(name, data, headers)

        with self._errors("PUT", name):
            try:
                stored = await self._write(name, metadata, send)
            except Answered as error:
                if md5 and error.status == 400 and await md5_of(data) != md5:
                    raise Unreadable(
                        f"{shown(name)}: its content has not the MD5 that the source gives"
                    ) from None
                raise
        if stored != digest:
            await self._check(name, len(data), digest)

    async def head(self, name: str) -> Head | None:
        """See the protocol. A directory of an account with hierarchical namespace is no object."""
        with self._errors("HEAD", name):
            blob = await self._at().container.look(name)
        return None if blob is None or blob.is_folder else blob.head

    async def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol."""
        if length == 0:
            # There is no range of no bytes.
            if await self.head(name) is None:
                raise FileNotFoundError(name)
            return
        with self._errors("GET", name):
            async with aclosing(self._at().container.get(name, offset, length)) as blocks:
                async for block in blocks:
                    yield block

    async def page(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        """See the protocol."""
        with self._errors("list", prefix):
            return await self._at().container.page(
                prefix, after=after, token=token, delimiter=delimiter, limit=limit
            )

    async def delete(self, name: str) -> None:
        """See the protocol. Its snapshots go too."""
        with self._errors("DELETE", name):
            await self._at().container.delete(name)

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """See the protocol."""
        with self._errors(f"delete {len(names)} objects from", names[0]):
            answers = await self._at().container.delete_batch(names)
        if answers is None:
            return None
        failed: dict[str, SinkError] = {}
        for number, name in enumerate(names):
            what = self._what("DELETE", name)
            if number not in answers:
                failed[name] = SinkUnavailable(f"{what}: the answer to the batch leaves it out")
            elif (error := answers[number]) is not None:
                failed[name] = classify(error, what)
        return failed

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """See the protocol."""
        at = self._at()
        copies = Copies(at.container, at.changes, takes_tags=self._takes_tags)
        with self._errors("copy to", name):
            if name == head.name:
                return await copies.change(head, metadata)
            check_name(name)
            await self._dots.check(name)
            return await copies.copy(head, name, metadata)

    # -- objects in parts -------------------------------------------------------------------------

    async def begin_upload(self, name: str, metadata: ObjectMetadata) -> str:
        """See the protocol. Nothing has to be asked: an upload comes to be with its first block."""
        check_name(name)
        await self._dots.check(name)
        return new_upload_id()

    async def put_part(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """See the protocol. What is in memory anyway goes with its MD5, and the service checks it."""
        tag, container = block_id(upload_id, number), self._at().container
        with self._errors(f"PUT block {number} of", name):
            if size > self._held_bytes:
                # Its MD5 is known too late for the request: TLS and the length have to do.
                await container.put_block(name, tag, size, blocks, {})
                return Part(number, tag, size, digest())
            held = [block async for block in blocks]
            headers = {"content-md5": as_header(digest())}
            try:
                await container.put_block(name, tag, size, in_slices(held), headers)
            except Answered as error:
                if error.code not in _IN_THE_WAY:
                    raise
                await container.delete(name)
                await container.put_block(name, tag, size, in_slices(held), headers)
        return Part(number, tag, size, digest())

    async def complete_upload(
        self, name: str, upload_id: str, parts: Sequence[Part], metadata: ObjectMetadata
    ) -> None:
        """See the protocol. The blob appears whole, with the MD5 of the whole where that is known."""
        body = block_list([part.tag for part in parts])
        body_md5 = as_header(await md5_of(body))
        whole = whole_md5(metadata)
        container = self._at().container

        async def send(tags: bool) -> None:
            headers = blob_headers(metadata, folder=False, tags=tags)
            headers |= {"content-type": "application/xml", "content-md5": body_md5}
            if whole:
                headers["x-ms-blob-content-md5"] = whole
            await container.put_block_list(name, body, headers)

        with self._errors("complete upload of", name):
            await self._write(name, metadata, send)
        await self._check(name, sum(part.size for part in parts), md5_of_header(whole))

    async def abort_upload(self, name: str, upload_id: str) -> None:
        """Nothing: blocks that no list names are seen by nobody.

        They vanish with the next write of that name, or after a week. Until then they are paid for,
        and the only way to be rid of them sooner is to put another blob under that very name.
        """

    async def open_uploads(self, name: str) -> list[str]:
        """None: see `abort_upload`."""
        return []

    async def sweep(self) -> None:
        """Nothing: see `abort_upload`."""

    # -- below ------------------------------------------------------------------------------------

    async def _write(
        self, name: str, metadata: ObjectMetadata, send: Callable[[bool], Awaitable[_Sent]]
    ) -> _Sent:
        """Send with tags where the account takes them; what only a delete makes room for goes first."""
        tags = self._takes_tags and bool(metadata.tags)
        try:
            return await send(tags)
        except Answered as error:
            if error.code in _IN_THE_WAY:
                await self._at().container.delete(name)
                return await send(tags)
            if not tags or error.status not in MAY_BE_TAGS:
                raise
            first = error
        try:
            sent = await send(False)
        except Answered:
            raise first from None
        self._takes_tags = False
        _log.warning("%s: tags are refused (%s), blobs are written without", self.label, first.code)
        return sent

    async def _check(self, name: str, size: int, digest: bytes) -> None:
        """Ask what is stored. A wrong blob is removed.

        Raises SinkUnavailable when it is wrong, so that it is tried again.
        """
        head = await self.head(name)
        if head is not None and head.size == size and (not digest or head.md5 in (b"", digest)):
            return
        await remove_wrong(self.delete(name))
        stored = "nothing" if head is None else f"{head.size} bytes, or others,"
        raise SinkUnavailable(f"the service has stored {stored} for the {size} bytes of {shown(name)}")

    def _at(self) -> Connection:
        if self._connection is None:
            raise SinkUnavailable(f"{self.label} is not open")
        return self._connection

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except (Answered, Unanswered) as error:
            raise classify(error, self._what(verb, name)) from None
        except TimeoutError:
            raise SinkUnavailable(f"{self._what(verb, name)}: no answer in time") from None
        except NotAzure as error:
            raise SinkUnavailable(f"{self._what(verb, name)}: {error}") from None

    def _what(self, verb: str, name: str) -> str:
        return f"{self.label}: {verb} {shown(name)}"
