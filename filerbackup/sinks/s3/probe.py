"""What `open` finds out by trying: that the bucket is there, may be written, and how it behaves."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from filerbackup.errors import ObjectRejected, SinkRefused, SinkUnavailable
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.deletes import Deletes
from filerbackup.sinks.s3.names import Names, doubtful_characters
from filerbackup.sinks.s3.uploads import md5_of

_DATA = b"filerbackup was here to see whether it may write\n"
_log = logging.getLogger(__name__)
_METADATA = ObjectMetadata(content_type="text/plain")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`lists_in_order`: by the names' UTF-8 bytes. `etag_is_md5`: of an object in one request."""

    lists_in_order: bool
    etag_is_md5: bool


async def probe(bucket: Bucket, deletes: Deletes, names: Names) -> Behaviour:
    """Look, write, list and delete under `.filerbackup/`.

    Raises SinkRefused with what to change, SinkUnavailable when nobody answers.
    """
    await bucket.page(names.own_prefix, limit=1)
    below = f"{names.own_prefix}probe/"
    # By bytes the second comes first; who walks directories lists it last.
    probes = [f"{below}a/b", f"{below}a-"]
    etags = [await bucket.put(name, _DATA, _METADATA) for name in probes]
    page = await bucket.page(below)
    await _remove(deletes, probes)
    listed = [found.name for found in page.objects]
    if sorted(listed) != sorted(probes):
        raise SinkUnavailable(f"the service lists {len(listed)} of 2 objects that were just written")
    digest = (await md5_of(_DATA)).hex()
    return Behaviour(
        lists_in_order=listed == sorted(listed), etag_is_md5=all(etag == digest for etag in etags)
    )


async def _remove(deletes: Deletes, probes: list[str]) -> None:
    """Remove the probes, or stay without them: a backup may be allowed to write and never to delete."""
    try:
        await deletes.delete(probes)
    except SinkRefused as error:
        _log.warning("nothing can be deleted in this bucket, and deletes will fail: %s", error)


class NameCheck:
    """Finds out, once for each doubtful character, whether the service keeps it in a name."""

    def __init__(self, bucket: Bucket, deletes: Deletes, names: Names) -> None:
        self._bucket, self._deletes, self._names = bucket, deletes, names
        self._kept: dict[str, bool] = {}
        self._lock = asyncio.Lock()

    async def check(self, name: str) -> None:
        """Raise ObjectRejected when the name would arrive as another one."""
        for character in sorted(doubtful_characters(name)):
            if character not in self._kept:
                async with self._lock:
                    if character not in self._kept:
                        self._kept[character] = await self._is_kept(character)
            if not self._kept[character]:
                raise ObjectRejected(
                    f"the name {shown(name)}: the service does not keep the character {character!r} in names"
                )

    async def _is_kept(self, character: str) -> bool:
        below = f"{self._names.own_prefix}probe-names/{ord(character):02x}/"
        name = f"{below}a{character}b"
        try:
            await self._bucket.put(name, _DATA, _METADATA)
        except ObjectRejected:
            return False
        page = await self._bucket.page(below)
        found = [each.name for each in page.objects]
        await _remove(self._deletes, [*{name, *found}])
        return found == [name]
