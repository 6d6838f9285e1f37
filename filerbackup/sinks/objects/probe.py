"""What `open` finds out by trying: that the bucket is there, may be written, and how it behaves."""

from __future__ import annotations

import asyncio
import logging

from filerbackup.errors import ObjectRejected, SinkRefused, SinkUnavailable
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.deletes import Deletes
from filerbackup.sinks.objects.names import Names, doubtful_characters
from filerbackup.sinks.objects.store import Store

_DATA = b"filerbackup was here to see whether it may write\n"
_log = logging.getLogger(__name__)
_METADATA = ObjectMetadata(content_type="text/plain")


async def lists_in_order(store: Store, deletes: Deletes, names: Names) -> bool:
    """Look, write, list and delete under `.filerbackup/`: whether listings go by the names' UTF-8 bytes.

    Raises SinkRefused with what to change, SinkUnavailable when nobody answers.
    """
    await store.page(names.own_prefix, limit=1)
    below = f"{names.own_prefix}probe/"
    # By bytes the second comes first; who walks directories lists it last.
    probes = [f"{below}a/b", f"{below}a-"]
    for name in probes:
        await store.put(name, _DATA, _METADATA)
    page = await store.page(below)
    await _remove(deletes, probes)
    listed = [found.name for found in page.objects]
    if sorted(listed) != sorted(probes):
        raise SinkUnavailable(f"the service lists {len(listed)} of 2 objects that were just written")
    return listed == sorted(listed)


async def require_markers(store: Store, deletes: Deletes, names: Names) -> None:
    """Raise SinkRefused where an object whose name ends in a slash is not shown again."""
    below = f"{names.own_prefix}probe-markers/"
    name = f"{below}d/"
    await store.put(name, b"", _METADATA)
    # A listing that walks directories asks for what is inside of one, and expects itself there too.
    pages = [await store.page(below), await store.page(name, delimiter="/")]
    await _remove(deletes, [name])
    if any([found.name for found in page.objects] != [name] for page in pages):
        raise SinkRefused(
            f"{store.label}: the service does not list objects whose names end in a slash",
            hint="set directory_markers = false: empty directories are then not kept",
        )


async def _remove(deletes: Deletes, probes: list[str]) -> None:
    """Remove the probes, or stay without them: a backup may be allowed to write and never to delete."""
    try:
        await deletes.delete(probes)
    except SinkRefused as error:
        _log.warning("nothing can be deleted in this bucket, and deletes will fail: %s", error)


class NameCheck:
    """Finds out, once for each doubtful character, whether the service keeps it in a name."""

    def __init__(self, store: Store, deletes: Deletes, names: Names) -> None:
        self._store, self._deletes, self._names = store, deletes, names
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
            await self._store.put(name, _DATA, _METADATA)
        except ObjectRejected:
            return False
        except SinkRefused:
            # Some answer with what else means that the bucket is gone: is it the name, or everything?
            await self._store.put(f"{below}ab", _DATA, _METADATA)
            await _remove(self._deletes, [f"{below}ab"])
            return False
        page = await self._store.page(below)
        found = [each.name for each in page.objects]
        await _remove(self._deletes, [*{name, *found}])
        return found == [name]
