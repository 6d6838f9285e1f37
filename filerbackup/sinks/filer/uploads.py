"""A file's bytes on the target's volume servers: in chunks that go up side by side, each checked.

Memory is bounded whatever the size of the file: the chunks that are being filled or sent hold
`buffer_bytes` together, and the list of those that are sent becomes a manifest chunk every
`manifest_chunks` (10,000, as the filer itself does it: at 8 MiB that begins at 80 GB). So chunks never
have to grow, which a volume server would not take (-fileSizeLimitMB) and a mount would read badly.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from filerbackup.content import Content
from filerbackup.errors import SinkError, SinkThrottled, SinkUnavailable, Unreadable
from filerbackup.filer.fileid import parsed
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.retry import backoff_s
from filerbackup.sinks.filer.assigning import FileIds
from filerbackup.sinks.filer.leftovers import Leftovers, Upload
from filerbackup.sinks.filer.needles import Needles, NotStored
from filerbackup.sinks.keys import shown
from filerbackup.sinks.objects.cutter import Cutter

MANIFEST_CHUNKS = 10_000
CHUNK_TRIES = 4
_LONGEST_DELAY_S = 5.0
_WORTH_A_THREAD_BYTES = 256 << 10
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sizes:
    """`chunk_bytes`: of each chunk but the last. `concurrency`: how many of a file are held at once."""

    chunk_bytes: int = 8 << 20
    concurrency: int = 4
    manifest_chunks: int = MANIFEST_CHUNKS

    @property
    def buffer_bytes(self) -> int:
        """The most that one file holds in memory."""
        return self.chunk_bytes * self.concurrency


class Uploads:
    """`cipher`: the target wants its chunks encrypted (`weed filer -encryptVolumeData`)."""

    def __init__(
        self, ids: FileIds, needles: Needles, leftovers: Leftovers, sizes: Sizes, *, cipher: bool
    ) -> None:
        self._ids, self._needles, self._leftovers = ids, needles, leftovers
        self._sizes = sizes
        self._cipher = cipher
        # What is encrypted is held twice.
        self._at_once = max(1, sizes.concurrency // 2 if cipher else sizes.concurrency)

    async def put_small(self, upload: Upload, data: bytes, md5: bytes, ttl_s: int) -> pb.FileChunk:
        """One chunk without a note: if this process is killed right now, the chunk stays behind.

        What may be stored of failed tries is in `upload.unnoted` afterwards, the chunk is not.
        """
        return await self._put(upload, [data], md5, 0, ttl_s, noted=False)

    async def put(self, upload: Upload, content: Content, ttl_s: int) -> tuple[list[pb.FileChunk], bytes]:
        """All of the content, checked; its chunks, and its MD5 when that is known."""
        # Closed also when a chunk fails, and only ever read by this task: it may hold a deadline.
        async with aclosing(Cutter(content.stream())) as cutter:
            try:
                chunks, only = await self._send(upload, cutter, ttl_s)
            except BaseExceptionGroup as group:
                raise _first(group) from None
            if cutter.taken != content.size:
                raise Unreadable(f"{shown(upload.path)}: {cutter.taken} bytes came instead of {content.size}")
        if only and content.md5 and only != content.md5:
            raise Unreadable(f"{shown(upload.path)} does not have the MD5 that the source gives")
        return chunks, content.md5 or only

    async def _send(self, upload: Upload, cutter: Cutter, ttl_s: int) -> tuple[list[pb.FileChunk], bytes]:
        slots = asyncio.Semaphore(self._at_once)
        chunks: list[pb.FileChunk] = []
        running: list[asyncio.Task[tuple[pb.FileChunk, bytes]]] = []
        first_md5 = b""

        async def send(offset: int, blocks: list[memoryview]) -> tuple[pb.FileChunk, bytes]:
            try:
                md5 = await digest(blocks)
                return await self._put(upload, blocks, md5, offset, ttl_s), md5
            finally:
                blocks.clear()
                slots.release()

        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                offset = cutter.taken
                blocks = await cutter.take(self._sizes.chunk_bytes)
                if not blocks:
                    break
                running.append(group.create_task(send(offset, blocks)))
                del blocks
                if len(running) >= self._sizes.manifest_chunks:
                    chunks.append(await self._manifest(upload, [(await task)[0] for task in running], ttl_s))
                    running.clear()
        for task in running:
            chunk, first_md5 = task.result()
            chunks.append(chunk)
        return chunks, first_md5 if len(chunks) == 1 else b""

    async def _manifest(self, upload: Upload, chunks: Sequence[pb.FileChunk], ttl_s: int) -> pb.FileChunk:
        """A chunk that lists these, in the filer's own form."""
        listed = pb.FileChunkManifest()
        for chunk in chunks:
            volume, key, cookie = parsed(chunk.file_id)
            one = listed.chunks.add()
            one.CopyFrom(chunk)
            one.file_id = ""
            one.fid.CopyFrom(pb.FileId(volume_id=volume, file_key=key, cookie=cookie))
        data = listed.SerializeToString()
        made = await self._put(upload, [data], await digest([data]), chunks[0].offset, ttl_s)
        made.is_chunk_manifest = True
        made.size = chunks[-1].offset + chunks[-1].size - chunks[0].offset
        return made

    async def _put(
        self,
        upload: Upload,
        blocks: Sequence[bytes | memoryview],
        md5: bytes,
        offset: int,
        ttl_s: int,
        *,
        noted: bool = True,
    ) -> pb.FileChunk:
        size = sum(map(len, blocks))
        tag, key = base64.b64encode(md5).decode(), b""
        if self._cipher:
            key = AESGCM.generate_key(256)
            sealed = await asyncio.to_thread(_encrypted, blocks, key)
            blocks, md5, tag = [sealed], await digest([sealed]), ""
        tries = 0
        while True:
            tries += 1
            slot = await self._ids.take(upload.path, ttl_s)
            chunk = pb.FileChunk(
                file_id=slot.file_id,
                offset=offset,
                size=size,
                modified_ts_ns=time.time_ns(),
                e_tag=tag,
                cipher_key=key,
            )
            if noted:
                await self._leftovers.note(upload, chunk)
            try:
                await self._needles.put(slot.server, slot.path_id, blocks, md5, slot.auth)
                return chunk
            except SinkThrottled:
                raise
            except NotStored:
                if tries >= CHUNK_TRIES:
                    raise
            except (SinkUnavailable, asyncio.CancelledError) as error:
                if not noted:
                    upload.unnoted.append(chunk)
                if tries >= CHUNK_TRIES or not isinstance(error, SinkError):
                    raise
            await asyncio.sleep(backoff_s(tries, random.random, _LONGEST_DELAY_S))


async def digest(blocks: Sequence[bytes | memoryview]) -> bytes:
    """The MD5 of all together, made in a thread when it would hold up the loop."""
    if sum(map(len, blocks)) < _WORTH_A_THREAD_BYTES:
        return _md5(blocks)
    return await asyncio.to_thread(_md5, blocks)


def _md5(blocks: Sequence[bytes | memoryview]) -> bytes:
    made = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        made.update(block)
    return made.digest()


def _encrypted(blocks: Sequence[bytes | memoryview], key: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, b"".join(blocks), None)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
