"""Copies inside the account, and changes of what is there already."""

from __future__ import annotations

import asyncio

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.azure.answers import FOLDER, Blob
from filerbackup.sinks.azure.changes import Changes, has_headers
from filerbackup.sinks.azure.container import Container
from filerbackup.sinks.azure.errors import Answered
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.store import Head

COPY_S = 600.0
"""A copy within an account is done at once; who waits so long had better write."""
MAY_BE_TAGS = frozenset({400, 403, 409})
_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 5.0
_CHANGED = frozenset({"ConditionNotMet", "SourceConditionNotMet", "TargetConditionNotMet"})
_CANNOT = frozenset(
    {"CannotVerifyCopySource", "BlobArchived", "BlobBeingRehydrated", "InvalidBlobType",
     "InvalidSourceBlobType", "InvalidSourceBlobUrl", "CopyAcrossAccountsNotSupported", "BlobNotFound"}
)  # fmt: skip


class Copies:
    """For one call. Raises Answered, Unanswered, NotAzure, TimeoutError, SinkUnavailable."""

    def __init__(self, container: Container, changes: Changes, *, takes_tags: bool) -> None:
        self._container, self._changes = container, changes
        self._takes_tags = takes_tags

    async def change(self, head: Head, metadata: ObjectMetadata) -> bool:
        """Give the blob that `head` describes this metadata; False when it is another by now."""
        blob = await self._container.look(head.name)
        if blob is None or blob.head.etag != head.etag:
            return False
        try:
            await self._set_headers(blob, metadata)
        except Answered as error:
            if _is_no(error) or self._may_be_tags(error, metadata):
                return False
            raise
        return True

    async def _set_headers(self, blob: Blob, metadata: ObjectMetadata) -> None:
        name, etag = blob.head.name, blob.head.etag
        if not has_headers(blob, metadata):
            etag = await self._changes.set_headers(name, etag, blob, metadata)
        folder = {FOLDER: "true"} if FOLDER in blob.head.user else {}
        await self._changes.set_metadata(name, etag, metadata, folder)
        if self._takes_tags and (blob.tags or metadata.tags):
            await self._changes.set_tags(name, metadata)

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """Copy to another name, and look at what has come of it."""
        url = self._container.url(head.name)
        tags = self._takes_tags
        try:
            copy_id, status = await self._changes.start_copy(head, url, name, metadata, tags=tags)
        except Answered as error:
            if _is_no(error) or self._may_be_tags(error, metadata):
                return False
            raise
        blob = await self._ended(name, copy_id, status)
        if blob is None or blob.head.size != head.size or not _same_md5(blob.head.md5, head.md5):
            await self._container.delete(name)
            raise SinkUnavailable(f"the service's copy of {shown(head.name)} is not like it")
        if not has_headers(blob, metadata):
            await self._changes.set_headers(name, blob.head.etag, blob, metadata)
        return True

    def _may_be_tags(self, error: Answered, metadata: ObjectMetadata) -> bool:
        """Whether this may be about tags, which not every account or identity may have: a write finds out."""
        return self._takes_tags and bool(metadata.tags) and error.status in MAY_BE_TAGS

    async def _ended(self, name: str, copy_id: str, status: str) -> Blob | None:
        """The copy when it is there, None when it has failed. A pending one is not left behind."""
        try:
            async with asyncio.timeout(COPY_S):
                wait_s = _FIRST_POLL_S
                while status == "pending":
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 2, _LONGEST_POLL_S)
                    blob = await self._container.look(name)
                    status = "" if blob is None or blob.copy_id != copy_id else blob.copy_status
        except BaseException:
            await self._changes.abort_copy(name, copy_id)
            await self._container.delete(name)
            raise
        return await self._container.look(name) if status == "success" else None


def _same_md5(one: bytes, other: bytes) -> bool:
    return not (one and other) or one == other


def _is_no(error: Answered) -> bool:
    """The object has changed, or is nothing that the service copies: nothing was done."""
    return error.code in _CHANGED or error.code in _CANNOT or error.status == 412
