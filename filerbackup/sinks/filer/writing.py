"""One entry of the target, from the bytes of the source's: it is created when all its chunks are there.

The last step runs to its end also when the caller is cancelled, so that it is known whether the chunks
belong to a file or have to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from filerbackup.content import Content
from filerbackup.errors import SinkError, Unreadable
from filerbackup.events import Entry
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.warm import MOST_BYTES
from filerbackup.sinks.filer.attributes import copy_of, ttl_of
from filerbackup.sinks.filer.leftovers import Leftovers, Upload
from filerbackup.sinks.filer.parents import Parents
from filerbackup.sinks.filer.target import InTheWay, Target, Uncertain
from filerbackup.sinks.filer.uploads import Uploads, digest
from filerbackup.sinks.keys import shown

_CLEAN_UP_S = 20.0


class Writer:
    """Writes entries. `ttl_s`: the sink's own time to live, 0 for that of each entry."""

    def __init__(
        self, target: Target, uploads: Uploads, leftovers: Leftovers, parents: Parents, *, ttl_s: int
    ) -> None:
        self._target, self._uploads, self._leftovers, self._parents = target, uploads, leftovers, parents
        self._ttl_s = ttl_s
        self._owned: set[asyncio.Task[None]] = set()

    async def write(self, path: str, entry: Entry, content: Content) -> None:
        """A file, or a directory with content of its own."""
        await self._parents.make(path)
        upload = self._leftovers.begin(path)
        ttl_s = ttl_of(entry, self._ttl_s)
        try:
            if content.size <= MOST_BYTES:
                data = await content.read()
                if len(data) != content.size:
                    raise Unreadable(f"{shown(path)}: {len(data)} bytes came instead of {content.size}")
                md5 = await digest([data])
                if content.md5 and md5 != content.md5:
                    raise Unreadable(f"{shown(path)} does not have the MD5 that the source gives")
                chunks = [await self._uploads.put_small(upload, data, md5, ttl_s)] if data else []
            else:
                chunks, md5 = await self._uploads.put(upload, content, ttl_s)
        except BaseException:
            if upload.notes or upload.unnoted:
                await self._to_the_end(self._leftovers.discard(upload))
            raise
        made = copy_of(entry, size=content.size, md5=md5, sink_ttl_s=self._ttl_s)
        made.chunks.extend(chunks)
        await self._to_the_end(self._commit(upload, made))

    async def place(self, path: str, made: pb.Entry) -> None:
        """Create an entry without chunks, or that has them already; what stands in its way goes first."""
        await self._parents.make(path)
        await self._create(path, made)

    async def close(self) -> None:
        """Wait for what must not be left half done."""
        if self._owned:
            await asyncio.wait(self._owned, timeout=_CLEAN_UP_S)

    # -- inside -----------------------------------------------------------------------------------

    async def _commit(self, upload: Upload, made: pb.Entry) -> None:
        chunks = list(made.chunks)
        try:
            await self._leftovers.check(upload)
            await self._create(upload.path, made)
        except Uncertain:
            self._leftovers.doubt(upload, chunks)
            raise
        except SinkError:
            if not upload.notes:
                upload.unnoted.extend(chunks)
            await self._leftovers.discard(upload)
            raise
        if upload.unnoted:
            failed = self._leftovers.begin(upload.path)
            failed.unnoted, upload.unnoted = upload.unnoted, []
            await self._leftovers.discard(failed)
        await self._leftovers.keep(upload)

    async def _create(self, path: str, made: pb.Entry) -> None:
        if made.attributes.ttl_sec and await self._replace_expiring(path, made):
            return
        try:
            await self._target.create(path, made)
        except InTheWay:
            self._parents.forget(path, tree=True)
            await self._target.remove(path, tree=True)
            await self._target.create(path, made)

    async def _replace_expiring(self, path: str, made: pb.Entry) -> bool:
        """Let an entry with a TTL live from its own creation on; False when it can simply be created.

        An entry that is written over another one keeps that one's time of creation, from which the
        filer counts: so it is created beside it and takes its place.
        """
        there = await self._target.lookup(path)
        if there is None or there.is_directory or there.attributes.crtime == made.attributes.crtime:
            return False
        beside = self._leftovers.begin(path).directory
        await self._parents.make(beside)
        await self._target.create(beside, made)
        await self._target.rename(beside, path, tree=False)
        return True

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=_CLEAN_UP_S)
            if task.done() and not task.cancelled():
                task.exception()
            raise
