"""Copies inside the service: no byte passes through here. Errors are those of `bucket`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.http import CALL_S
from filerbackup.sinks.objects.store import Head, Part
from filerbackup.sinks.s3.answers import etag_of, is_md5
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.errors import Answered
from filerbackup.sinks.s3.multipart import Multipart

LARGEST_COPY = 5 << 30
"""S3's limit for one CopyObject; above it, ranges are copied as the parts of an upload."""
COPY_S = 900.0
"""A service may really copy the bytes before it answers."""
_PARTS_AT_ONCE = 8
_CHANGED = frozenset({"PreconditionFailed", "NoSuchKey", "NoSuchVersion"})
_CANNOT = frozenset(
    {"InvalidObjectState", "ObjectNotInActiveTierError", "AccessDenied", "NotImplemented", "MethodNotAllowed",
     "InvalidRequest", "InvalidArgument"}
)  # fmt: skip
"""Archived, not readable with these credentials, or a service without such copies: a write may do."""


class Copies:
    """Copies objects of one bucket."""

    def __init__(self, bucket: Bucket, multipart: Multipart, *, largest: int = LARGEST_COPY) -> None:
        self._bucket, self._multipart = bucket, multipart
        self._largest = largest

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """Copy, when the object still has the head's ETag; False when it has not, or that cannot be.

        False as well when what came of it is something else: the caller writes it then.
        """
        with self._bucket.errors("copy to", name):
            try:
                if head.size > self._largest:
                    etag = await self._in_parts(head, name, metadata)
                else:
                    etag = await self._at_once(head, name, metadata)
            except Answered as error:
                if error.code in _CHANGED or error.code in _CANNOT or error.status == 412:
                    return False
                raise
        return await self._has_arrived(head, name, etag)

    async def _has_arrived(self, head: Head, name: str, etag: str) -> bool:
        """Whether the copy is what was copied, as far as the service tells: the original may go next."""
        wanted = head.md5.hex()
        if wanted and etag == wanted:
            return True
        found = await self._bucket.head(name)
        if found is None or found.size != head.size:
            return False
        return not wanted or found.opaque_etag or not is_md5(found.etag) or found.etag == wanted

    async def _at_once(self, head: Head, name: str, metadata: ObjectMetadata) -> str:
        if not self._bucket.takes_tags:
            return await self._copy_object(head, name, metadata, {})
        tagging = {"TaggingDirective": "REPLACE", "Tagging": urlencode(metadata.tags)}
        try:
            return await self._copy_object(head, name, metadata, tagging)
        except Answered as error:
            if error.code != "NotImplemented":
                raise
            etag = await self._copy_object(head, name, metadata, {})
            self._bucket.without_tags()
            return etag

    async def _copy_object(
        self, head: Head, name: str, metadata: ObjectMetadata, tagging: Mapping[str, str]
    ) -> str:
        parameters: dict[str, Any] = {**self._bucket.headers(metadata, {}), **tagging}
        async with asyncio.timeout(COPY_S):
            answer = await self._bucket.sdk(
                self._bucket.client.copy_object(
                    Bucket=self._bucket.name,
                    Key=name,
                    CopySource={"Bucket": self._bucket.name, "Key": head.name},
                    CopySourceIfMatch=f'"{head.etag}"',
                    MetadataDirective="REPLACE",
                    **parameters,
                )
            )
        # Amazon may answer 200 before it has begun, and put an error into the body.
        etag = etag_of(answer.get("CopyObjectResult", {}).get("ETag"))
        if not etag:
            raise SinkUnavailable(f"{self._bucket.what('copy to', name)}: the answer does not confirm it")
        return etag

    async def _in_parts(self, head: Head, name: str, metadata: ObjectMetadata) -> str:
        upload_id = await self._multipart.begin(name, metadata)
        try:
            parts = await self._copy_ranges(head, name, upload_id)
            return await self._multipart.complete(name, upload_id, parts)
        except BaseException:
            async with asyncio.timeout(CALL_S):
                await self._multipart.abort(name, upload_id)
            raise

    async def _copy_ranges(self, head: Head, name: str, upload_id: str) -> list[Part]:
        lanes = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def copy(number: int, start: int) -> Part:
            end = min(start + self._largest, head.size) - 1
            async with lanes:
                return await self._copy_range(head, name, upload_id, number, start, end)

        starts = range(0, head.size, self._largest)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(copy(number, start)) for number, start in enumerate(starts, 1)]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _copy_range(
        self, head: Head, name: str, upload_id: str, number: int, start: int, end: int
    ) -> Part:
        async with asyncio.timeout(COPY_S):
            answer = await self._bucket.sdk(
                self._bucket.client.upload_part_copy(
                    Bucket=self._bucket.name,
                    Key=name,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": self._bucket.name, "Key": head.name},
                    CopySourceIfMatch=f'"{head.etag}"',
                    CopySourceRange=f"bytes={start}-{end}",
                )
            )
        return Part(number, etag_of(answer.get("CopyPartResult", {}).get("ETag")), end + 1 - start, b"")
