"""Which names a blob can have: "Naming and referencing containers, blobs, and metadata" of Microsoft's."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING

from filerbackup.errors import ObjectRejected
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata

if TYPE_CHECKING:
    from filerbackup.sinks.objects.store import Store

MOST_CHARACTERS = 1024
MOST_SEGMENTS = 254
_control = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]").search
_DATA = b"filerbackup was here to see whether names may end in a dot\n"
_METADATA = ObjectMetadata(content_type="text/plain")


def check_name(name: str) -> None:
    """Raises ObjectRejected for a name that the service never takes."""
    if len(name) > MOST_CHARACTERS:
        raise ObjectRejected(
            f"the name {shown(name)} is longer than the {MOST_CHARACTERS} characters of Azure"
        )
    if _control(name):
        raise ObjectRejected(f"the name {shown(name)} has a control character, which Azure does not take")
    if name.count("/") >= MOST_SEGMENTS:
        raise ObjectRejected(f"the name {shown(name)} has more than the {MOST_SEGMENTS} segments of Azure")


class DotCheck:
    """Finds out, once, whether the service keeps a dot at the end of a name or a segment of it.

    Microsoft's documentation says that there should be none; some services take it away.
    """

    def __init__(self, store: Store, directory: str) -> None:
        parts = [part for part in directory.split("/") if part]
        self._below = "/".join([*parts, ".filerbackup/probe-names/dot"])
        self._store = store
        self._kept: bool | None = None
        self._lock = asyncio.Lock()

    async def check(self, name: str) -> None:
        """Raises ObjectRejected when the name would arrive as another one."""
        if "./" not in name and not name.endswith("."):
            return
        if name.startswith(self._below):
            return
        async with self._lock:
            if self._kept is None:
                self._kept = await self._is_kept()
        if not self._kept:
            raise ObjectRejected(f"the name {shown(name)}: the service keeps no dot at the end of a segment")

    async def _is_kept(self) -> bool:
        name = f"{self._below}/a./b."
        try:
            await self._store.put(name, _DATA, _METADATA, hashlib.md5(_DATA, usedforsecurity=False).digest())
        except ObjectRejected:
            return False
        found = [each.name for each in (await self._store.page(f"{self._below}/")).objects]
        for each in {name, *found}:
            await self._store.delete(each)
        return found == [name]
