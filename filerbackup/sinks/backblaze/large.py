"""Files in parts: uploaded, or copied inside the service above the 5 GB of one copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from filerbackup.errors import SinkError
from filerbackup.sinks.backblaze.answers import Version, parse_version, parse_versions, text_of
from filerbackup.sinks.backblaze.api import Api
from filerbackup.sinks.backblaze.errors import Answered
from filerbackup.sinks.backblaze.uploads import Uploads, UploadUrls
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import CALL_S
from filerbackup.sinks.objects.store import Part

FINISH_S = 600.0
"""Putting many parts together takes the service some time."""
COPY_S = 1200.0
"""Copying up to 5 GB inside the service, as b2sdk allows for it."""
COPIED_PART_BYTES = 1_000_000_000
_COPIES_AT_ONCE = 4
_MOST_UPLOADS = 100


class LargeFiles:
    """The calls for files in parts. Raises Answered, Unanswered."""

    def __init__(self, api: Api, uploads: Uploads) -> None:
        self._api, self._uploads = api, uploads
        self._urls: dict[str, UploadUrls] = {}

    async def begin(self, name: str, content_type: str, info: Mapping[str, str]) -> str:
        """Begin; returns the file's id."""
        answer = await self._api.call(
            "b2_start_large_file",
            {
                "bucketId": self._api.account.bucket_id,
                "fileName": name,
                "contentType": content_type,
                "fileInfo": dict(info),
            },
        )
        return text_of(answer, "fileId")

    async def put_part(
        self,
        file_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """Upload one part, and check what the service says of it."""
        urls = self._urls.get(file_id)
        if urls is None:
            urls = self._urls[file_id] = self._uploads.urls("b2_get_upload_part_url", fileId=file_id)
        answer = await self._uploads.part(urls, number, size, blocks, digest)
        sha1 = digest()
        if answer.get("contentSha1") != sha1.hex() or answer.get("contentLength") != size:
            raise Unanswered(f"part {number} arrived with another checksum or length than it was sent with")
        return Part(number, file_id, size, sha1)

    async def finish(self, file_id: str, parts: Sequence[Part]) -> Version:
        """Publish the file, whose parts are all there."""
        answer = await self._api.call(
            "b2_finish_large_file",
            {"fileId": file_id, "partSha1Array": [part.digest.hex() for part in parts]},
            deadline_s=FINISH_S,
        )
        self._urls.pop(file_id, None)
        return parse_version(answer)

    async def cancel(self, file_id: str) -> None:
        """Remove what was sent. An upload that is finished, cancelled or gone is fine."""
        self._urls.pop(file_id, None)
        try:
            await self._api.call("b2_cancel_large_file", {"fileId": file_id})
        except Answered as error:
            if not error.is_gone and not error.is_request:
                raise

    async def unfinished(self, name: str) -> list[str]:
        """The ids of uploads of just this file that were begun and never ended."""
        found: list[str] = []
        start: str | None = None
        while True:
            answer = await self._api.call(
                "b2_list_unfinished_large_files",
                {
                    "bucketId": self._api.account.bucket_id,
                    "namePrefix": name,
                    "startFileId": start,
                    "maxFileCount": _MOST_UPLOADS,
                },
            )
            listed = parse_versions(answer)
            found += [each.file_id for each in listed if each.name == name]
            following = answer.get("nextFileId")
            if not isinstance(following, str) or not listed:
                return found
            if following == start:
                raise Unanswered("a listing of unfinished files does not move on")
            start = following

    async def copy(
        self, source_id: str, size: int, name: str, content_type: str, info: Mapping[str, str]
    ) -> Version:
        """Copy a file of any size in parts; nothing of it stays after a failure."""
        file_id = await self.begin(name, content_type, info)
        try:
            return await self.finish(file_id, await self._copy_parts(source_id, size, file_id))
        except BaseException:
            # Also when cancelled: a copy that was begun costs until somebody ends it.
            await self._cancel_quietly(file_id)
            raise

    async def _copy_parts(self, source_id: str, size: int, file_id: str) -> list[Part]:
        lanes = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def one(number: int, start: int) -> Part:
            end = min(start + COPIED_PART_BYTES, size)
            async with lanes:
                answer = await self._api.call(
                    "b2_copy_part",
                    {
                        "sourceFileId": source_id,
                        "largeFileId": file_id,
                        "partNumber": number,
                        "range": f"bytes={start}-{end - 1}",
                    },
                    deadline_s=COPY_S,
                )
            if answer.get("contentLength") != end - start:
                raise Unanswered(f"part {number} was copied with another length")
            return Part(number, file_id, end - start, _sha1(answer))

        try:
            async with asyncio.TaskGroup() as copies:
                tasks = [
                    copies.create_task(one(number, start))
                    for number, start in enumerate(range(0, size, COPIED_PART_BYTES), 1)
                ]
        except BaseExceptionGroup as group:
            raise _first(group) from None
        return [task.result() for task in tasks]

    async def _cancel_quietly(self, file_id: str) -> None:
        try:
            async with asyncio.timeout(CALL_S):
                await self.cancel(file_id)
        except (Answered, Unanswered, SinkError, TimeoutError):
            # It is in the journal: the next start looks for it.
            return


def _sha1(answer: dict[str, object]) -> bytes:
    try:
        return bytes.fromhex(str(answer.get("contentSha1")))
    except ValueError:
        raise Unanswered("a part was copied without a checksum") from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
