"""Large objects in parts that go up side by side: each checked before the object appears.

Memory is bounded: the parts that are being filled or sent hold at most `buffer_bytes` together,
whatever the size of the file. Parts grow with the file, because S3 takes no more than 10,000 of
them; a part that is larger than the buffer is sent while it is being read.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from filerbackup.content import Content
from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable, Unreadable
from filerbackup.retry import backoff_s
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.s3.answers import Part, is_md5
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.cutter import Cutter
from filerbackup.sinks.s3.uploads import Uploads

MOST_PARTS = 10_000
SMALLEST_PART = 5 << 20
"""S3's limit for all parts but the last."""
PART_TRIES = 4
ABORT_S = 20.0
_STEP = 1 << 20
_SLICE = 256 << 10
_LONGEST_DELAY_S = 5.0
_BLOCKS_AHEAD = 2
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def part_size(size: int, smallest: int, most_parts: int = MOST_PARTS) -> int:
    """Bytes in each part but the last: `smallest` where that suffices, else whole MiB."""
    needed = -(-size // most_parts)
    return max(smallest, -(-needed // _STEP) * _STEP)


@dataclass(frozen=True, slots=True)
class _Sent:
    part: Part
    md5: bytes


class Multipart:
    """Uploads in parts; `close` waits for what has to be cleaned up."""

    def __init__(self, bucket: Bucket, uploads: Uploads, *, part_bytes: int, buffer_bytes: int) -> None:
        self._bucket, self._uploads = bucket, uploads
        self._part_bytes, self._buffer_bytes = part_bytes, buffer_bytes
        self._owned: set[asyncio.Task[object]] = set()
        self._may_list = True

    async def write(
        self, name: str, content: Content, metadata: ObjectMetadata, *, most_parts: int = MOST_PARTS
    ) -> None:
        """Write the content; after any failure, also when cancelled, no part of it stays."""
        await self._abort_stale(name)
        upload_id = await self._begin(name, metadata)
        try:
            size = part_size(content.size, self._part_bytes, most_parts)
            sent = await self._send_all(name, upload_id, content, size)
            etag = await self._bucket.complete_upload(name, upload_id, [each.part for each in sent])
        except BaseException:
            await self._finish(self._abort(name, upload_id))
            raise
        await self._uploads.check_parts(name, etag, [each.md5 for each in sent], content.size)

    async def close(self) -> None:
        """Wait for the last aborts, within their deadline."""
        if self._owned:
            await asyncio.wait(self._owned, timeout=ABORT_S)

    # -- sending ----------------------------------------------------------------------------------

    async def _send_all(self, name: str, upload_id: str, content: Content, size: int) -> list[_Sent]:
        # Closed also when a part fails, and only ever read by this task: it may hold a deadline.
        async with aclosing(Cutter(content.stream())) as cutter:
            try:
                if size > self._buffer_bytes:
                    sent = await self._send_in_passing(name, upload_id, cutter, content.size, size)
                else:
                    sent = await self._send_side_by_side(name, upload_id, cutter, size)
            except BaseExceptionGroup as group:
                raise _first(group) from None
            if cutter.taken != content.size:
                raise Unreadable(f"{cutter.taken} bytes came where {content.size} were announced")
        return sent

    async def _send_side_by_side(self, name: str, upload_id: str, cutter: Cutter, size: int) -> list[_Sent]:
        slots = asyncio.Semaphore(self._buffer_bytes // size)

        async def send(number: int, blocks: list[memoryview]) -> _Sent:
            try:
                return await self._send_part(name, upload_id, number, blocks)
            finally:
                blocks.clear()
                slots.release()

        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[_Sent]] = []
            while True:
                await slots.acquire()
                blocks = await cutter.take(size)
                if not blocks:
                    break
                tasks.append(group.create_task(send(len(tasks) + 1, blocks)))
                del blocks
        return [task.result() for task in tasks]

    async def _send_part(self, name: str, upload_id: str, number: int, blocks: Sequence[memoryview]) -> _Sent:
        size = sum(map(len, blocks))
        md5 = await asyncio.to_thread(_md5, blocks)
        tries = 0
        while True:
            tries += 1
            try:
                etag, opaque = await self._bucket.put_part(name, upload_id, number, size, _each(blocks))
                self._check_part(number, etag, opaque, md5)
                return _Sent(Part(number, etag), md5)
            except SinkUnavailable:
                if tries >= PART_TRIES:
                    raise
            await asyncio.sleep(backoff_s(tries, random.random, _LONGEST_DELAY_S))

    async def _send_in_passing(
        self, name: str, upload_id: str, cutter: Cutter, total: int, size: int
    ) -> list[_Sent]:
        """Parts that are never held whole: one after the other, and none can be sent again alone."""
        sent: list[_Sent] = []
        while cutter.taken < total:
            sent.append(
                await self._pass_part(name, upload_id, len(sent) + 1, cutter, min(size, total - cutter.taken))
            )
        # The content counts as good only when it has come to its end.
        await cutter.next(1)
        return sent

    async def _pass_part(self, name: str, upload_id: str, number: int, cutter: Cutter, size: int) -> _Sent:
        ahead: asyncio.Queue[memoryview | None] = asyncio.Queue(_BLOCKS_AHEAD)
        md5 = hashlib.md5(usedforsecurity=False)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(self._bucket.put_part(name, upload_id, number, size, _queued(ahead)))
            left = size
            while left:
                block = await cutter.next(left)
                if block is None:
                    raise Unreadable(f"the content ended {left} bytes before the end of part {number}")
                left -= len(block)
                await asyncio.to_thread(md5.update, block)
                await ahead.put(block)
            await ahead.put(None)
        etag, opaque = answer.result()
        self._check_part(number, etag, opaque, md5.digest())
        return _Sent(Part(number, etag), md5.digest())

    def _check_part(self, number: int, etag: str, opaque: bool, md5: bytes) -> None:
        if self._uploads.etag_is_md5 and not opaque and is_md5(etag) and etag != md5.hex():
            raise SinkUnavailable(f"part {number} arrived with another checksum than it was sent with")

    # -- beginning and aborting -------------------------------------------------------------------

    async def _abort_stale(self, name: str) -> None:
        """Remove what a killed process left of this object: nobody else writes it now."""
        if not self._may_list:
            return
        try:
            stale = await self._bucket.open_uploads(name)
        except SinkRefused as error:
            _log.info("unfinished uploads of killed processes cannot be looked for: %s", error)
            self._may_list = False
            return
        for upload_id in stale:
            await self._abort(name, upload_id)

    async def _begin(self, name: str, metadata: ObjectMetadata) -> str:
        """Begin; when cancelled in the middle, the upload that may have begun is aborted."""
        begun = self._own(self._bucket.begin_upload(name, metadata))
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            await self._finish(self._abort_begun(name, begun))
            raise

    async def _abort_begun(self, name: str, begun: asyncio.Task[str]) -> None:
        try:
            upload_id = await begun
        except SinkError:
            return
        await self._abort(name, upload_id)

    async def _abort(self, name: str, upload_id: str) -> None:
        try:
            async with asyncio.timeout(ABORT_S):
                await self._bucket.abort_upload(name, upload_id)
        except (SinkError, TimeoutError) as error:
            _log.warning(
                "an unfinished upload of %r stays behind until that object is written again: %s", name, error
            )

    async def _finish(self, work: Coroutine[object, object, None]) -> None:
        """Carry out `work` although this task is being cancelled; `close` waits for it too."""
        await asyncio.wait({self._own(work)}, timeout=ABORT_S)

    def _own(self, work: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task


def _md5(blocks: Sequence[memoryview]) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.digest()


async def _each(blocks: Sequence[memoryview]) -> AsyncIterator[memoryview]:
    for block in blocks:
        for offset in range(0, len(block), _SLICE):
            yield block[offset : offset + _SLICE]


async def _queued(ahead: asyncio.Queue[memoryview | None]) -> AsyncIterator[memoryview]:
    while (block := await ahead.get()) is not None:
        for offset in range(0, len(block), _SLICE):
            yield block[offset : offset + _SLICE]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
