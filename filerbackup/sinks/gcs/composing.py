"""Objects in parts: each part is an object for a while, and the service puts them together.

Parts are `<directory>/.filerbackup/parts/<upload>/<number>`, and go up side by side. Up to 32 are put
together in one step that copies no bytes, more in several (a tree); the last step publishes the object
under its name, whole. Google keeps an MD5 for each part, which is checked, and a CRC-32C for the whole,
which has to be the one that follows from those of the parts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.sinks.gcs import bodies
from filerbackup.sinks.gcs.bucket import Bucket
from filerbackup.sinks.gcs.crc32c import combined
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.store import Part

MOST_SOURCES = 32
"""Google's limit for putting objects together in one step."""
LANES = 4
"""Steps at once; Google allows a project about 1,000 sources a second."""
ABORT_DELAYS_S = (0.0, 0.3, 1.0)
LATE_S = 0.5
_DELETES = 100
_log = logging.getLogger(__name__)


class Composing:
    """Uploads in parts below one prefix (with a slash behind)."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._forms: dict[str, ObjectMetadata] = {}
        self._broken: set[str] = set()

    def begin(self, name: str, metadata: ObjectMetadata) -> str:
        """An id for an upload; it tells to whom knows the name that it is for that object.

        What is put together has to be of one storage class, which then is the object's.
        """
        upload_id = f"{_mark(name)}-{secrets.token_hex(8)}"
        self._forms[upload_id] = ObjectMetadata(storage_class=metadata.storage_class)
        return upload_id

    async def put_part(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """Send one part and check it."""
        form = self._forms.get(upload_id, ObjectMetadata())
        try:
            stored = await self._bucket.put_stream(
                self._part(upload_id, number), size, blocks, form, f"part {number} for {shown(name)}:"
            )
        except BaseException:
            self._broken.add(upload_id)
            raise
        wanted = digest()
        if stored.size != size or stored.md5 != wanted:
            raise SinkUnavailable(f"part {number} of {shown(name)} did not arrive as it was sent")
        return Part(number, f"{stored.generation}.{stored.crc32c.hex()}", size, wanted)

    async def complete(
        self, name: str, upload_id: str, parts: Sequence[Part], metadata: ObjectMetadata
    ) -> None:
        """Publish the object, check it, and remove what is left of the parts."""
        form = self._forms.get(upload_id, ObjectMetadata())
        sources, pieces = [], []
        for part in parts:
            generation, _, checksum = part.tag.partition(".")
            sources.append((self._part(upload_id, part.number), generation))
            pieces.append((int(checksum or "0", 16), part.size))
        level = 0
        while len(sources) > MOST_SOURCES:
            level += 1
            sources = await self._compose_level(upload_id, level, sources, form)
        stored = await self._bucket.compose(name, sources, metadata)
        wanted = combined(pieces).to_bytes(4, "big")
        if stored.size != sum(part.size for part in parts) or stored.crc32c != wanted:
            await self._bucket.delete(name)
            raise SinkUnavailable(f"the parts of {shown(name)} were put together wrongly")
        try:
            await self.abort(upload_id)
        except SinkError as error:
            _log.warning("parts of %s stay behind below %s: %s", shown(name), self._prefix, error)

    async def _compose_level(
        self, upload_id: str, level: int, sources: Sequence[tuple[str, str]], form: ObjectMetadata
    ) -> list[tuple[str, str]]:
        lanes = asyncio.Semaphore(LANES)

        async def one(number: int, group: Sequence[tuple[str, str]]) -> tuple[str, str]:
            async with lanes:
                name = f"{self._prefix}{upload_id}/{level}-{number:05d}"
                stored = await self._bucket.compose(name, group, form)
                return name, stored.generation

        try:
            async with asyncio.TaskGroup() as tasks:
                made = [
                    tasks.create_task(one(number, group))
                    for number, group in enumerate(bodies.grouped(sources, MOST_SOURCES))
                ]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return [task.result() for task in made]

    async def abort(self, upload_id: str) -> None:
        """Remove all of an upload. Gone is fine.

        Tried a few times: nobody else does, and where a line broke, kept connections are broken too.
        """
        for delay_s in ABORT_DELAYS_S:
            try:
                await self._remove_all(upload_id)
            except SinkUnavailable:
                await asyncio.sleep(delay_s)
            else:
                break
        else:
            await self._remove_all(upload_id)
        if upload_id in self._broken:
            # What was on its way when its sending ended may have come to be since.
            await asyncio.sleep(LATE_S)
            await self._remove_all(upload_id)
            self._broken.discard(upload_id)
        self._forms.pop(upload_id, None)

    async def _remove_all(self, upload_id: str) -> None:
        below = f"{self._prefix}{upload_id}/"
        before: list[str] = []
        while found := [each.name for each in (await self._bucket.page(below)).objects]:
            if found == before:
                raise SinkUnavailable(f"what was deleted below {shown(below)} is still listed")
            for start in range(0, len(found), _DELETES):
                await self._delete(found[start : start + _DELETES])
            before = found

    async def _delete(self, names: Sequence[str]) -> None:
        failed = await self._bucket.delete_batch(names)
        if failed is None:
            for name in names:
                await self._bucket.delete(name)
        elif failed:
            raise next(iter(failed.values()))

    async def open_uploads(self, name: str) -> list[str]:
        """The ids of uploads of this object that were begun here, or by a process that is gone."""
        return await self._uploads(f"{self._prefix}{_mark(name)}-")

    async def sweep(self) -> None:
        """Remove what a killed process has left, of any object: to be called before anything is begun."""
        for upload_id in await self._uploads(self._prefix):
            await self.abort(upload_id)

    async def _uploads(self, prefix: str) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = await self._bucket.page(prefix, token=token, delimiter="/")
            found.extend(each[len(self._prefix) : -1] for each in page.prefixes)
            token = page.token
            if not token:
                return list(dict.fromkeys(found))

    def _part(self, upload_id: str, number: int) -> str:
        return f"{self._prefix}{upload_id}/{number:05d}"


def _mark(name: str) -> str:
    """A short name for an object's name, which may be as long as a name can be."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
