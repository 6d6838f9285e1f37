"""Every call to the service, on one bucket: with a deadline, and with no error but those of the tree."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any
from urllib.parse import unquote_plus, urlencode

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.s3.answers import (
    Head,
    NotS3,
    Page,
    Part,
    etag_of,
    has_opaque_etag,
    parse_head,
    parse_page,
)
from filerbackup.sinks.s3.connection import Connection
from filerbackup.sinks.s3.errors import (
    Answered,
    Unanswered,
    classify,
    from_botocore,
    from_obstore,
    is_distrust,
    not_s3,
)
from filerbackup.sinks.s3.names import is_clean
from filerbackup.sinks.s3.signed import read_all, stalling

CALL_S = 60.0
"""Deadline of a call that carries no content."""
COMPLETE_S = 600.0
"""Putting many parts together takes a service some time."""
SLOWEST_BYTES_PER_S = 16 << 10
"""A put gets `CALL_S` and what its bytes take at this rate."""
_NO_BULK = frozenset({"NotImplemented", "MethodNotAllowed", "MalformedXML", "MissingContentMD5"})
_MOST_BUFFERED_BYTES = 8 << 20
_MOST_PAGE_BYTES = 32 << 20
_MOST_SMALL_BYTES = 16 << 20
_log = logging.getLogger(__name__)


class Bucket:
    """The calls that are needed. Raises SinkUnavailable, SinkThrottled, SinkRefused, ObjectRejected."""

    def __init__(self, connection: Connection, name: str, *, acl: str = "") -> None:
        self._client, self._store, self._http = connection.client, connection.store, connection.http
        self._name = name
        self._acl = acl
        self._takes_tags = True
        self._obstore_trusts = True

    # -- writing ----------------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata) -> str:
        """One request with everything; returns the ETag."""
        with self._errors("PUT", name):
            tags = metadata.tags if self._takes_tags else {}
            try:
                return await self._put(name, data, metadata, tags)
            except Answered as error:
                if not tags or error.code != "NotImplemented":
                    raise
            self._without_tags()
            return await self._put(name, data, metadata, {})

    async def _put(self, name: str, data: bytes, metadata: ObjectMetadata, tags: Mapping[str, str]) -> str:
        # obstore has no words for these, and takes no name with a control character or a slash behind.
        odd = self._acl or metadata.expires or name.endswith("/") or not is_clean(name)
        if odd or not self._obstore_trusts:
            return await self._put_with_sdk(name, data, metadata, tags)
        try:
            return await self._put_with_obstore(name, data, metadata, tags)
        except (BaseError, FileNotFoundError) as error:
            if not is_distrust(error):
                raise from_obstore(error, name) from None
        # It wants a leaf below an authority, where OpenSSL takes a certificate that is both.
        self._obstore_trusts = False
        _log.warning(
            "s3:%s: obstore does not accept the server's certificate: small files cost more CPU", self._name
        )
        return await self._put_with_sdk(name, data, metadata, tags)

    async def _put_with_obstore(
        self, name: str, data: bytes, metadata: ObjectMetadata, tags: Mapping[str, str]
    ) -> str:
        attributes = {"Content-Type": metadata.content_type, **metadata.user}
        for header, value in (
            ("Cache-Control", metadata.cache_control),
            ("Content-Disposition", metadata.content_disposition),
            ("Content-Encoding", metadata.content_encoding),
            ("Content-Language", metadata.content_language),
            ("Storage-Class", metadata.storage_class),
        ):
            if value:
                attributes[header] = value
        async with asyncio.timeout(CALL_S + len(data) / SLOWEST_BYTES_PER_S):
            result = await obstore.put_async(
                self._store,
                name,
                data,
                attributes=attributes,
                tags=dict(tags) if tags else None,
                use_multipart=False,
            )
        return etag_of(result["e_tag"])

    async def _put_with_sdk(
        self, name: str, data: bytes, metadata: ObjectMetadata, tags: Mapping[str, str]
    ) -> str:
        async with asyncio.timeout(CALL_S + len(data) / SLOWEST_BYTES_PER_S):
            answer = await self._sdk(
                self._client.put_object(
                    Bucket=self._name, Key=name, Body=data, **self._headers(metadata, tags)
                )
            )
        return etag_of(answer.get("ETag"))

    def _headers(self, metadata: ObjectMetadata, tags: Mapping[str, str]) -> dict[str, Any]:
        given = {
            "ACL": self._acl,
            "CacheControl": metadata.cache_control,
            "ContentDisposition": metadata.content_disposition,
            "ContentEncoding": metadata.content_encoding,
            "ContentLanguage": metadata.content_language,
            "ContentType": metadata.content_type,
            "Expires": metadata.expires,
            "StorageClass": metadata.storage_class,
            "Tagging": urlencode(tags),
        }
        return {"Metadata": dict(metadata.user), **{key: value for key, value in given.items() if value}}

    def _without_tags(self) -> None:
        self._takes_tags = False
        _log.warning("s3:%s: the service keeps no tags, objects are written without", self._name)

    # -- multipart uploads ------------------------------------------------------------------------

    async def begin_upload(self, name: str, metadata: ObjectMetadata) -> str:
        """Begin a multipart upload; returns its id."""
        with self._errors("begin upload of", name):
            tags = metadata.tags if self._takes_tags else {}
            try:
                return await self._begin_upload(name, metadata, tags)
            except Answered as error:
                if not tags or error.code != "NotImplemented":
                    raise
            self._without_tags()
            return await self._begin_upload(name, metadata, {})

    async def _begin_upload(self, name: str, metadata: ObjectMetadata, tags: Mapping[str, str]) -> str:
        async with asyncio.timeout(CALL_S):
            answer = await self._sdk(
                self._client.create_multipart_upload(
                    Bucket=self._name, Key=name, **self._headers(metadata, tags)
                )
            )
        return str(answer["UploadId"])

    async def put_part(
        self, name: str, upload_id: str, number: int, size: int, blocks: AsyncIterator[bytes | memoryview]
    ) -> tuple[str, bool]:
        """One part from its blocks, `size` bytes in all; returns the ETag, and whether it is opaque."""
        with self._errors(f"PUT part {number} of", name):
            async with stalling() as stall:

                async def moving() -> AsyncIterator[bytes | memoryview]:
                    async for block in blocks:
                        stall.progress()
                        yield block
                    # The last of it may still be in the buffers of this machine.
                    stall.progress(min(size, _MOST_BUFFERED_BYTES) / SLOWEST_BYTES_PER_S)

                async with self._http.request(
                    "PUT",
                    "upload_part",
                    {"Bucket": self._name, "Key": name, "UploadId": upload_id, "PartNumber": number},
                    headers={"Content-Length": str(size)},
                    body=moving(),
                ) as response:
                    return etag_of(response.headers.get("ETag")), has_opaque_etag(response.headers)

    async def complete_upload(self, name: str, upload_id: str, parts: Sequence[Part]) -> str:
        """Publish the object; returns its ETag."""
        with self._errors("complete upload of", name):
            async with asyncio.timeout(COMPLETE_S):
                answer = await self._sdk(
                    self._client.complete_multipart_upload(
                        Bucket=self._name,
                        Key=name,
                        UploadId=upload_id,
                        MultipartUpload={
                            "Parts": [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
                        },
                    )
                )
        return etag_of(answer.get("ETag"))

    async def abort_upload(self, name: str, upload_id: str) -> None:
        """Remove the parts. An upload that is gone is fine."""
        with self._errors("abort upload of", name):
            try:
                async with asyncio.timeout(CALL_S):
                    await self._sdk(
                        self._client.abort_multipart_upload(Bucket=self._name, Key=name, UploadId=upload_id)
                    )
            except Answered as error:
                if error.code != "NoSuchUpload" and error.status != 404:
                    raise

    async def open_uploads(self, name: str) -> list[str]:
        """The ids of uploads of just this object that were begun and never ended (at most 1,000)."""
        with self._errors("list uploads of", name):
            async with asyncio.timeout(CALL_S):
                answer = await self._sdk(
                    self._client.list_multipart_uploads(Bucket=self._name, Prefix=name, EncodingType="url")
                )
        # SeaweedFS 4.48 claims to have encoded the names and has not. Behind the prefix either will do.
        uploads = answer.get("Uploads", ())
        return [each["UploadId"] for each in uploads if name in (each["Key"], unquote_plus(each["Key"]))]

    # -- looking ----------------------------------------------------------------------------------

    async def head(self, name: str) -> Head | None:
        """The headers of an object, None when it is absent."""
        with self._errors("HEAD", name):
            try:
                async with (
                    asyncio.timeout(CALL_S),
                    self._http.request(
                        "HEAD", "head_object", {"Bucket": self._name, "Key": name}
                    ) as response,
                ):
                    return parse_head(response.headers)
            except Answered as error:
                if error.status == 404 and error.code in ("", "NoSuchKey"):
                    return None
                raise

    async def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes. Raises FileNotFoundError when there is no such object."""
        if length == 0:
            # There is no range of no bytes.
            if await self.head(name) is None:
                raise FileNotFoundError(name)
            return
        parameters: dict[str, str | int] = {"Bucket": self._name, "Key": name}
        headers = {}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        with self._errors("GET", name):
            try:
                async with self._http.request("GET", "get_object", parameters, headers=headers) as response:
                    if headers and response.status != 206:
                        raise Unanswered(f"HTTP {response.status} where a range was asked for")
                    async for block in response.content.iter_any():
                        yield block
            except Answered as error:
                if error.status == 416:
                    return
                if error.status == 404 and error.code in ("", "NoSuchKey"):
                    raise FileNotFoundError(name) from None
                raise

    async def get_all(self, name: str) -> bytes | None:
        """A small object, None when it is absent."""
        data = bytearray()
        try:
            async with aclosing(self.get(name)) as blocks:
                async for block in blocks:
                    data += block
                    if len(data) > _MOST_SMALL_BYTES:
                        raise SinkUnavailable(
                            f"{self._what('GET', name)}: far too long for what it should be"
                        )
        except FileNotFoundError:
            return None
        return bytes(data)

    async def page(
        self,
        prefix: str,
        *,
        after: str = "",
        token: str = "",
        delimiter: str = "",
        limit: int = 1000,
    ) -> Page:
        """One page of ListObjectsV2, whose names all begin with `prefix`."""
        parameters: dict[str, str | int] = {"Bucket": self._name, "Prefix": prefix, "MaxKeys": limit}
        parameters["EncodingType"] = "url"
        if token:
            parameters["ContinuationToken"] = token
        elif after:
            parameters["StartAfter"] = after
        if delimiter:
            parameters["Delimiter"] = delimiter
        with self._errors("list", prefix):
            async with (
                asyncio.timeout(CALL_S),
                self._http.request("GET", "list_objects_v2", parameters) as response,
            ):
                body = await read_all(response, _MOST_PAGE_BYTES)
                try:
                    page = parse_page(body)
                except NotS3:
                    raise not_s3(response.status, response.headers.get("Content-Type", "")) from None
        names = itertools.chain((found.name for found in page.objects), page.prefixes)
        if not all(name.startswith(prefix) for name in names):
            raise SinkUnavailable(f"{self._what('list', prefix)}: the answer names objects of another prefix")
        return page

    # -- deleting ---------------------------------------------------------------------------------

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """Remove up to 1,000 objects with clean names; returns what failed, None without bulk delete.

        Absent objects are fine. Raises when nothing was removed for a reason that concerns all.
        """
        listed = [{"Key": name} for name in names]
        with self._errors(f"delete {len(names)} objects from", names[0]):
            try:
                async with asyncio.timeout(CALL_S):
                    answer = await self._sdk(
                        self._client.delete_objects(
                            Bucket=self._name, Delete={"Objects": listed, "Quiet": True}
                        )
                    )
            except Answered as error:
                if error.code in _NO_BULK or error.status in (405, 501):
                    return None
                raise
        failed: dict[str, SinkError] = {}
        for refused in answer.get("Errors", ()):
            name, code = str(refused.get("Key", "")), str(refused.get("Code", ""))
            if code not in ("NoSuchKey", "NoSuchVersion"):
                reason = Answered(200, code, str(refused.get("Message", "")))
                failed[name] = classify(reason, self._what("DELETE", name))
        if not failed.keys() <= set(names):
            raise SinkUnavailable(
                f"s3:{self._name}: the answer to a delete names objects that were not in it"
            )
        return failed

    async def delete(self, name: str) -> None:
        """Remove one object. Absent is fine."""
        with self._errors("DELETE", name):
            try:
                async with asyncio.timeout(CALL_S):
                    await self._sdk(self._client.delete_object(Bucket=self._name, Key=name))
            except Answered as error:
                if error.status != 404 or error.code == "NoSuchBucket":
                    raise

    # -- errors -----------------------------------------------------------------------------------

    async def _sdk(self, call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        try:
            return await call
        except (BotoCoreError, ClientError) as error:
            raise from_botocore(error) from error

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except (Answered, Unanswered) as error:
            raise classify(error, self._what(verb, name)) from error.__cause__
        except TimeoutError:
            raise SinkUnavailable(f"{self._what(verb, name)}: no answer in time") from None
        except NotS3 as error:
            raise SinkUnavailable(f"{self._what(verb, name)}: {error}") from error

    def _what(self, verb: str, name: str) -> str:
        return f"s3:{self._name}: {verb} {shown(name)}"
