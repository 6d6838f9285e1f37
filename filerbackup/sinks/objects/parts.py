"""Large objects in parts that go up side by side: each checked before the object appears.

Memory is bounded: the parts that are being filled or sent hold at most `buffer_bytes` together,
whatever the size of the file. Parts grow with the file, because every service limits their number; a
part that is larger than the buffer is sent while it is being read.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import TypeVar

from filerbackup.content import Content
from filerbackup.errors import ObjectRejected, SinkError, SinkUnavailable, Unreadable
from filerbackup.retry import backoff_s
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.cutter import Cutter
from filerbackup.sinks.objects.http import SLICE_BYTES, in_slices
from filerbackup.sinks.objects.journal import Journal, Noted
from filerbackup.sinks.objects.store import Part, Store

PART_TRIES = 4
ABORT_S = 20.0
_STEP = 1 << 20
_LONGEST_DELAY_S = 5.0
_BLOCKS_AHEAD = 2
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def part_size(size: int, smallest: int, most_parts: int) -> int:
    """Bytes in each part but the last: `smallest` where that suffices, else whole MiB."""
    needed = -(-size // most_parts)
    return max(smallest, -(-needed // _STEP) * _STEP)


class Parts:
    """Uploads in parts; `close` waits for what has to be cleaned up."""

    def __init__(self, store: Store, journal: Journal, *, part_bytes: int, buffer_bytes: int) -> None:
        self._store, self._journal = store, journal
        self._part_bytes, self._buffer_bytes = part_bytes, buffer_bytes
        self._owned: set[asyncio.Task[object]] = set()

    async def write(
        self, name: str, content: Content, metadata: ObjectMetadata, *, most_parts: int | None = None
    ) -> None:
        """Write the content; after any failure, also when cancelled, no part of it stays."""
        traits = self._store.traits
        size = part_size(content.size, self._part_bytes, most_parts or traits.most_parts)
        if size > traits.largest_part or content.size > traits.largest_object:
            raise ObjectRejected(f"{shown(name)}: {content.size} bytes are more than the service takes")
        async with self._journal.noting(name) as noted:
            upload_id = await self._begin(name, metadata, noted)
            try:
                parts = await self._send_all(name, upload_id, content, size)
                await self._store.complete_upload(name, upload_id, parts, metadata)
            except BaseException:
                noted.settled = False
                await self._finish(self._abort(name, upload_id, noted))
                raise

    async def close(self) -> None:
        """Wait for the last aborts, within their deadline."""
        if self._owned:
            await asyncio.wait(self._owned, timeout=ABORT_S)

    # -- sending ----------------------------------------------------------------------------------

    async def _send_all(self, name: str, upload_id: str, content: Content, size: int) -> list[Part]:
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

    async def _send_side_by_side(self, name: str, upload_id: str, cutter: Cutter, size: int) -> list[Part]:
        slots = asyncio.Semaphore(self._buffer_bytes // size)

        async def send(number: int, blocks: list[memoryview]) -> Part:
            try:
                return await self._send_part(name, upload_id, number, blocks)
            finally:
                blocks.clear()
                slots.release()

        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[Part]] = []
            while True:
                await slots.acquire()
                blocks = await cutter.take(size)
                if not blocks:
                    break
                tasks.append(group.create_task(send(len(tasks) + 1, blocks)))
                del blocks
        return [task.result() for task in tasks]

    async def _send_part(self, name: str, upload_id: str, number: int, blocks: Sequence[memoryview]) -> Part:
        size = sum(map(len, blocks))
        digest = await asyncio.to_thread(_digest, self._store.traits.part_hash, blocks)
        tries = 0
        while True:
            tries += 1
            try:
                return await self._store.put_part(
                    name, upload_id, number, size, in_slices(blocks), lambda: digest
                )
            except SinkUnavailable:
                if tries >= PART_TRIES:
                    raise
            await asyncio.sleep(backoff_s(tries, random.random, _LONGEST_DELAY_S))

    async def _send_in_passing(
        self, name: str, upload_id: str, cutter: Cutter, total: int, size: int
    ) -> list[Part]:
        """Parts that are never held whole: one after the other, and none can be sent again alone."""
        sent: list[Part] = []
        while cutter.taken < total:
            sent.append(
                await self._pass_part(name, upload_id, len(sent) + 1, cutter, min(size, total - cutter.taken))
            )
        # The content counts as good only when it has come to its end.
        await cutter.next(1)
        return sent

    async def _pass_part(self, name: str, upload_id: str, number: int, cutter: Cutter, size: int) -> Part:
        ahead: asyncio.Queue[memoryview | None] = asyncio.Queue(_BLOCKS_AHEAD)
        hashing = hashlib.new(self._store.traits.part_hash, usedforsecurity=False)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(
                self._store.put_part(name, upload_id, number, size, _queued(ahead), hashing.digest)
            )
            left = size
            while left:
                block = await cutter.next(left)
                if block is None:
                    raise Unreadable(f"the content ended {left} bytes before the end of part {number}")
                left -= len(block)
                await asyncio.to_thread(hashing.update, block)
                await ahead.put(block)
            await ahead.put(None)
        return answer.result()

    # -- beginning and aborting -------------------------------------------------------------------

    async def _begin(self, name: str, metadata: ObjectMetadata, noted: Noted) -> str:
        """Begin; when cancelled in the middle, the upload that may have begun is aborted."""
        begun = self._own(self._store.begin_upload(name, metadata))
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            noted.settled = False
            await self._finish(self._abort_begun(name, begun, noted))
            raise

    async def _abort_begun(self, name: str, begun: asyncio.Task[str], noted: Noted) -> None:
        try:
            upload_id = await begun
        except SinkError:
            return
        await self._abort(name, upload_id, noted)

    async def _abort(self, name: str, upload_id: str, noted: Noted) -> None:
        try:
            async with asyncio.timeout(ABORT_S):
                await self._store.abort_upload(name, upload_id)
        except (SinkError, TimeoutError) as error:
            _log.warning("an unfinished upload of %s stays until the next start: %s", shown(name), error)
        else:
            noted.settled = True

    async def _finish(self, work: Coroutine[object, object, None]) -> None:
        """Carry out `work` although this task is being cancelled; `close` waits for it too."""
        await asyncio.wait({self._own(work)}, timeout=ABORT_S)

    def _own(self, work: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task


def _digest(name: str, blocks: Sequence[memoryview]) -> bytes:
    hashing = hashlib.new(name, usedforsecurity=False)
    for block in blocks:
        hashing.update(block)
    return hashing.digest()


async def _queued(ahead: asyncio.Queue[memoryview | None]) -> AsyncIterator[memoryview]:
    while (block := await ahead.get()) is not None:
        for offset in range(0, len(block), SLICE_BYTES):
            yield block[offset : offset + SLICE_BYTES]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
