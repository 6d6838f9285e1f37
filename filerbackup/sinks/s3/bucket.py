"""Every call to the service, on one bucket: with a deadline, and with no error but those of the tree."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import CALL_S, bytes_range, read_body
from filerbackup.sinks.objects.reading import gather
from filerbackup.sinks.objects.store import Page
from filerbackup.sinks.s3.answers import Answer, NotS3, etag_of, is_clean, parse_head, parse_page
from filerbackup.sinks.s3.connection import Connection
from filerbackup.sinks.s3.errors import (
    Answered,
    classify,
    from_botocore,
    from_obstore,
    is_distrust,
    not_s3,
)
from filerbackup.sinks.s3.pace import Pace

_NO_BULK = frozenset({"NotImplemented", "MethodNotAllowed", "MalformedXML", "MissingContentMD5"})
_MOST_PAGE_BYTES = 32 << 20
_log = logging.getLogger(__name__)


class Bucket:
    """The calls that are needed. Raises SinkUnavailable, SinkThrottled, SinkRefused, ObjectRejected."""

    def __init__(
        self, connection: Connection, name: str, *, acl: str = "", encryption: str = "", kms_key_id: str = ""
    ) -> None:
        self.client, self.http = connection.client, connection.http
        self._store = connection.store
        self.name = name
        self._fixed = {
            "ACL": acl,
            "ServerSideEncryption": encryption,
            "SSEKMSKeyId": kms_key_id if encryption.startswith("aws:kms") else "",
        }
        self.takes_tags = True
        self._wants_md5 = False
        self._obstore_trusts = True
        self._pace = Pace()

    # -- writing ----------------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata) -> str:
        """One request with everything; returns the ETag."""
        with self.errors("PUT", name):
            tags = metadata.tags if self.takes_tags else {}
            try:
                return await self._put(name, data, metadata, tags)
            except Answered as error:
                if tags and error.code == "NotImplemented":
                    self.without_tags()
                    tags = {}
                elif error.code == "InvalidRequest" and "Content-MD5" in error.message:
                    # Object Lock: each request has to bring a digest, and obstore cannot send this one.
                    self._wants_md5 = True
                else:
                    raise
            return await self._put(name, data, metadata, tags)

    async def _put(self, name: str, data: bytes, metadata: ObjectMetadata, tags: Mapping[str, str]) -> str:
        # obstore has no words for these, and takes no name with a control character or a slash behind.
        odd = self._fixed["ACL"] or metadata.expires or name.endswith("/") or not is_clean(name)
        if odd or self._wants_md5 or not self._obstore_trusts:
            return await self._put_with_sdk(name, data, metadata, tags)
        try:
            return await self._put_with_obstore(name, data, metadata, tags)
        except (BaseError, FileNotFoundError) as error:
            if not is_distrust(error):
                raise from_obstore(error, name) from None
        # It wants a leaf below an authority, where OpenSSL takes a certificate that is both.
        self._obstore_trusts = False
        _log.warning(
            "s3:%s: obstore does not accept the server's certificate: small files cost more CPU", self.name
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
        async with self._pace.keeping(len(data)):
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
        parameters = self.headers(metadata, tags)
        if self._wants_md5:
            digest = hashlib.md5(data, usedforsecurity=False).digest()
            parameters["ContentMD5"] = base64.b64encode(digest).decode()
        async with self._pace.keeping(len(data)):
            answer = await self.sdk(
                self.client.put_object(Bucket=self.name, Key=name, Body=data, **parameters)
            )
        return etag_of(answer.get("ETag"))

    def headers(self, metadata: ObjectMetadata, tags: Mapping[str, str]) -> dict[str, Any]:
        """What goes with an object, as parameters of the SDK's calls."""
        given = {
            **self._fixed,
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

    def without_tags(self) -> None:
        """The service has said that it keeps none."""
        self.takes_tags = False
        _log.warning("s3:%s: the service keeps no tags, objects are written without", self.name)

    # -- looking ----------------------------------------------------------------------------------

    async def head(self, name: str) -> Answer | None:
        """The headers of an object, None when it is absent."""
        with self.errors("HEAD", name):
            try:
                async with (
                    asyncio.timeout(CALL_S),
                    self.http.request("HEAD", "head_object", {"Bucket": self.name, "Key": name}) as response,
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
        parameters: dict[str, str | int] = {"Bucket": self.name, "Key": name}
        headers = {}
        if offset or length is not None:
            headers["Range"] = bytes_range(offset, length)
        with self.errors("GET", name):
            try:
                async with self.http.request("GET", "get_object", parameters, headers=headers) as response:
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
        return await gather(self.get(name), self.what("GET", name))

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
        parameters: dict[str, str | int] = {"Bucket": self.name, "Prefix": prefix, "MaxKeys": limit}
        parameters["EncodingType"] = "url"
        if token:
            parameters["ContinuationToken"] = token
        elif after:
            parameters["StartAfter"] = after
        if delimiter:
            parameters["Delimiter"] = delimiter
        with self.errors("list", prefix):
            async with (
                asyncio.timeout(CALL_S),
                self.http.request("GET", "list_objects_v2", parameters) as response,
            ):
                body = await read_body(response, _MOST_PAGE_BYTES)
                try:
                    page = parse_page(body)
                except NotS3:
                    raise not_s3(response.status, response.headers.get("Content-Type", "")) from None
        names = itertools.chain((found.name for found in page.objects), page.prefixes)
        if not all(name.startswith(prefix) for name in names):
            raise SinkUnavailable(f"{self.what('list', prefix)}: the answer names objects of another prefix")
        return page

    # -- deleting ---------------------------------------------------------------------------------

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """Remove up to 1,000 objects; returns what failed, None without bulk delete. Absent is fine.

        Names are clean. Raises when nothing was removed for a reason that concerns all.
        """
        listed = [{"Key": name} for name in names]
        with self.errors(f"delete {len(names)} objects from", names[0]):
            try:
                async with asyncio.timeout(CALL_S):
                    answer = await self.sdk(
                        self.client.delete_objects(
                            Bucket=self.name, Delete={"Objects": listed, "Quiet": True}
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
                failed[name] = classify(reason, self.what("DELETE", name))
        if not failed.keys() <= set(names):
            raise SinkUnavailable(f"s3:{self.name}: the answer to a delete names objects that were not in it")
        return failed

    async def delete(self, name: str) -> None:
        """Remove one object. Absent is fine."""
        with self.errors("DELETE", name):
            try:
                async with asyncio.timeout(CALL_S):
                    await self.sdk(self.client.delete_object(Bucket=self.name, Key=name))
            except Answered as error:
                if error.status != 404 or error.code == "NoSuchBucket":
                    raise

    # -- errors -----------------------------------------------------------------------------------

    async def sdk(self, call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """Wait for a call of the SDK. Raises Answered, Unanswered."""
        try:
            return await call
        except (BotoCoreError, ClientError) as error:
            # Its text is the whole answer, which may quote our signature.
            raise from_botocore(error) from None

    @contextmanager
    def errors(self, verb: str, name: str) -> Iterator[None]:
        """Turn what a call raises into errors of the tree."""
        try:
            yield
        except (Answered, Unanswered) as error:
            raise classify(error, self.what(verb, name)) from error.__cause__
        except TimeoutError:
            raise SinkUnavailable(f"{self.what(verb, name)}: no answer in time") from None
        except NotS3 as error:
            raise SinkUnavailable(f"{self.what(verb, name)}: {error}") from error

    def what(self, verb: str, name: str) -> str:
        """A call in a few words."""
        return f"s3:{self.name}: {verb} {shown(name)}"
