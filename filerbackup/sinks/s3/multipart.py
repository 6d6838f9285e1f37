"""The calls of a multipart upload, on one bucket. Errors are those of `bucket`."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import unquote_plus

from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.http import CALL_S, stalling
from filerbackup.sinks.objects.store import Part
from filerbackup.sinks.s3.answers import etag_of, has_opaque_etag
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.errors import Answered

COMPLETE_S = 600.0
"""Putting many parts together takes a service some time."""


class Multipart:
    """Begin, send, complete, abort, and find what was left."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def begin(self, name: str, metadata: ObjectMetadata) -> str:
        """Begin a multipart upload; returns its id."""
        with self._bucket.errors("begin upload of", name):
            tags = metadata.tags if self._bucket.takes_tags else {}
            try:
                return await self._begin(name, metadata, tags)
            except Answered as error:
                if not tags or error.code != "NotImplemented":
                    raise
            self._bucket.without_tags()
            return await self._begin(name, metadata, {})

    async def _begin(self, name: str, metadata: ObjectMetadata, tags: Mapping[str, str]) -> str:
        async with asyncio.timeout(CALL_S):
            answer = await self._bucket.sdk(
                self._bucket.client.create_multipart_upload(
                    Bucket=self._bucket.name, Key=name, **self._bucket.headers(metadata, tags)
                )
            )
        return str(answer["UploadId"])

    async def put(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        md5: bytes,
    ) -> tuple[str, bool]:
        """One part from its blocks, `size` bytes in all; returns the ETag, and whether it is opaque.

        `md5`: where it is known before; the service then refuses what was changed on the way.
        """
        headers = {"Content-Length": str(size)}
        if md5:
            headers["Content-MD5"] = base64.b64encode(md5).decode()
        with self._bucket.errors(f"PUT part {number} of", name):
            async with (
                stalling() as stall,
                self._bucket.http.request(
                    "PUT",
                    "upload_part",
                    {"Bucket": self._bucket.name, "Key": name, "UploadId": upload_id, "PartNumber": number},
                    headers=headers,
                    body=stall.watch(blocks, size),
                ) as response,
            ):
                return etag_of(response.headers.get("ETag")), has_opaque_etag(response.headers)

    async def complete(self, name: str, upload_id: str, parts: Sequence[Part]) -> str:
        """Publish the object; returns its ETag."""
        with self._bucket.errors("complete upload of", name):
            async with asyncio.timeout(COMPLETE_S):
                answer = await self._bucket.sdk(
                    self._bucket.client.complete_multipart_upload(
                        Bucket=self._bucket.name,
                        Key=name,
                        UploadId=upload_id,
                        MultipartUpload={
                            "Parts": [{"PartNumber": part.number, "ETag": f'"{part.tag}"'} for part in parts]
                        },
                    )
                )
        return etag_of(answer.get("ETag"))

    async def abort(self, name: str, upload_id: str) -> None:
        """Remove the parts. An upload that is gone is fine."""
        with self._bucket.errors("abort upload of", name):
            try:
                async with asyncio.timeout(CALL_S):
                    await self._bucket.sdk(
                        self._bucket.client.abort_multipart_upload(
                            Bucket=self._bucket.name, Key=name, UploadId=upload_id
                        )
                    )
            except Answered as error:
                if error.code != "NoSuchUpload" and error.status != 404:
                    raise

    async def unfinished(self, name: str) -> list[str]:
        """The ids of uploads of just this object that were begun and never ended (at most 1,000)."""
        with self._bucket.errors("list uploads of", name):
            async with asyncio.timeout(CALL_S):
                answer = await self._bucket.sdk(
                    self._bucket.client.list_multipart_uploads(
                        Bucket=self._bucket.name, Prefix=name, EncodingType="url"
                    )
                )
        # SeaweedFS 4.48 claims to have encoded the names and has not. Behind the prefix either will do.
        uploads = answer.get("Uploads", ())
        return [each["UploadId"] for each in uploads if name in (each["Key"], unquote_plus(each["Key"]))]
