"""Requests for parts of chunks that run ahead of whoever reads a file."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine

from filerbackup.events import Chunk
from filerbackup.source.sse import Opener
from filerbackup.source.volumes import Volumes

_KEPT_DECODED = 2
_WORTH_A_THREAD_BYTES = 256 << 10


class Fetcher:
    """Owns the requests that are under way for one file."""

    def __init__(self, volumes: Volumes, opener: Opener) -> None:
        self._volumes = volumes
        self._opener = opener
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._decoded: OrderedDict[str, asyncio.Task[bytes]] = OrderedDict()

    def start(self, chunk: Chunk, offset: int, size: int) -> asyncio.Task[bytes]:
        """Fetch a part of a chunk; exactly that part comes."""
        if chunk.sse_type:
            return self._own(self._opened(chunk, offset, size))
        return self._own(self._stored(chunk, offset, size))

    async def close(self) -> None:
        """Stop what nobody waits for any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stored(self, chunk: Chunk, offset: int, size: int) -> Coroutine[object, object, bytes]:
        if chunk.cipher_key and size != chunk.size:
            return self._part_of_decoded(chunk, offset, size)
        return self._volumes.read(chunk, offset, size)

    async def _opened(self, chunk: Chunk, offset: int, size: int) -> bytes:
        """Of a chunk that the S3 gateway has encrypted. Nothing is fetched without its key."""
        keystream, begin = await self._opener.chunk(chunk)
        data = await self._stored(chunk, offset, size)
        if size < _WORTH_A_THREAD_BYTES:
            return keystream.decrypt(data, begin + offset)
        return await asyncio.to_thread(keystream.decrypt, data, begin + offset)

    async def _part_of_decoded(self, chunk: Chunk, offset: int, size: int) -> bytes:
        """Overwrites cut a chunk into many parts: decrypt it once for all that are close together."""
        whole = self._decoded.get(chunk.file_id)
        if whole is None:
            whole = self._decoded[chunk.file_id] = self._own(self._volumes.read(chunk))
            if len(self._decoded) > _KEPT_DECODED:
                self._decoded.popitem(last=False)
        data = await asyncio.shield(whole)
        return data[offset : offset + size]

    def _own(self, work: Coroutine[object, object, bytes]) -> asyncio.Task[bytes]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # A failure that the reader never got to is no news once it has left.
            task.exception()
