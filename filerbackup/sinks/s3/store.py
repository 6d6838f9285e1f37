"""One S3 bucket as a `Store`: connection, calls, checks, put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.settings.model import S3Settings
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.store import Head, Page, Part, Traits
from filerbackup.sinks.s3.answers import is_clean, is_md5
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.connection import Connection, connect
from filerbackup.sinks.s3.copies import LARGEST_COPY, Copies
from filerbackup.sinks.s3.dialect import S3_DIALECT
from filerbackup.sinks.s3.directories import clear_directories
from filerbackup.sinks.s3.multipart import Multipart
from filerbackup.sinks.s3.uploads import Uploads

TRAITS = Traits(kind="s3", dialect=S3_DIALECT, bulk_names=1000)
"""Amazon's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html."""


@dataclass(frozen=True, slots=True)
class _Open:
    """What there is between `open` and `close`."""

    connection: Connection
    bucket: Bucket
    uploads: Uploads
    multipart: Multipart
    copies: Copies


class S3Store:
    """Amazon S3 or a service that speaks its protocol; satisfies `Store`.

    `largest_copy`: bytes that the service copies in one call.
    """

    traits = TRAITS

    def __init__(self, settings: S3Settings, *, largest_copy: int = LARGEST_COPY) -> None:
        self._settings = settings
        self._largest_copy = largest_copy
        part_bytes = max(settings.part_size_bytes, TRAITS.smallest_part)
        self._held_bytes = part_bytes * max(1, settings.part_concurrency)
        self._opened: _Open | None = None

    @property
    def label(self) -> str:
        """Kind and bucket."""
        return f"s3:{self._settings.bucket}"

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self) -> None:
        """See the protocol."""
        await self.close()
        settings = self._settings
        connection = await connect(settings)
        encryption = settings.server_side_encryption
        bucket = Bucket(
            connection,
            settings.bucket,
            acl=settings.acl,
            encryption=encryption,
            kms_key_id=settings.sse_kms_key_id,
        )
        multipart = Multipart(bucket)
        self._opened = _Open(
            connection,
            bucket,
            Uploads(bucket, opaque=encryption.startswith("aws:kms")),
            multipart,
            Copies(bucket, multipart, largest=self._largest_copy),
        )

    async def close(self) -> None:
        """See the protocol."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.connection.close()

    def tells_md5(self, *, in_parts: bool) -> bool:
        """See the protocol: the ETag of one request, unless it is encrypted with a key of KMS."""
        return not in_parts and (self._opened is None or self._opened.uploads.etag_is_md5)

    # -- whole objects ----------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes = b"") -> None:
        """See the protocol."""
        uploads = self._at().uploads
        if name.endswith("/") and data:
            await uploads.put_with_slash(name, data, metadata)
        else:
            await uploads.put(name, data, metadata, md5)

    async def head(self, name: str) -> Head | None:
        """See the protocol."""
        at = self._at()
        answer = await at.bucket.head(name)
        if answer is None:
            return None
        md5 = b"" if answer.opaque_etag else self._md5_of(at, answer.etag)
        return Head(name, answer.size, answer.etag, md5, answer.user)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol."""
        return self._at().bucket.get(name, offset, length)

    async def page(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        """See the protocol."""
        at = self._at()
        page = await at.bucket.page(prefix, after=after, token=token, delimiter=delimiter, limit=limit)
        objects = [replace(found, md5=self._md5_of(at, found.etag)) for found in page.objects]
        return replace(page, objects=objects)

    async def delete(self, name: str) -> None:
        """See the protocol."""
        await self._at().bucket.delete(name)

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """See the protocol."""
        bucket = self._at().bucket
        failed: dict[str, SinkError] = {}
        # XML cannot hold every control character, and one such name would fail the whole request.
        for name in names:
            if not is_clean(name):
                try:
                    await bucket.delete(name)
                except SinkError as error:
                    failed[name] = error
        clean = [name for name in names if is_clean(name)]
        answer = await bucket.delete_bulk(clean) if clean else {}
        return None if answer is None else failed | answer

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """See the protocol."""
        return await self._at().copies.copy(head, name, metadata)

    # -- objects in parts -------------------------------------------------------------------------

    async def begin_upload(self, name: str, metadata: ObjectMetadata) -> str:
        """See the protocol."""
        return await self._at().multipart.begin(name, metadata)

    async def put_part(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """See the protocol."""
        at = self._at()
        # A part that is larger is read while it is sent: its digest is not known yet.
        known = digest() if size <= self._held_bytes else b""
        etag, opaque = await at.multipart.put(name, upload_id, number, size, blocks, known)
        md5 = digest()
        if at.uploads.etag_is_md5 and not opaque and is_md5(etag) and etag != md5.hex():
            raise SinkUnavailable(f"part {number} arrived with another checksum than it was sent with")
        return Part(number, etag, size, md5)

    async def complete_upload(
        self, name: str, upload_id: str, parts: Sequence[Part], metadata: ObjectMetadata
    ) -> None:
        """See the protocol."""
        at = self._at()
        try:
            etag = await at.multipart.complete(name, upload_id, parts)
        except SinkUnavailable:
            if not await clear_directories(at.bucket, name):
                raise
            etag = await at.multipart.complete(name, upload_id, parts)
        size = sum(part.size for part in parts)
        await at.uploads.check_parts(name, etag, [part.digest for part in parts], size)

    async def abort_upload(self, name: str, upload_id: str) -> None:
        """See the protocol."""
        await self._at().multipart.abort(name, upload_id)

    async def open_uploads(self, name: str) -> list[str]:
        """See the protocol."""
        return await self._at().multipart.unfinished(name)

    async def sweep(self) -> None:
        """Nothing: an upload does not say whose it is."""

    def _md5_of(self, at: _Open, etag: str) -> bytes:
        return bytes.fromhex(etag) if at.uploads.etag_is_md5 and is_md5(etag) else b""

    def _at(self) -> _Open:
        if self._opened is None:
            raise SinkUnavailable("the sink is not open")
        return self._opened
