"""Which forms of objects, beside plain files, a sink may hold: kept in the sink itself.

Symlinks and directories with content are rare, and each has a name of its own beside the file of
the same key. Where there never was one, no delete and no overwrite has to think of those names, and
a listing need not wait for them. The note is written before the first of them, so that it is never
missing; it goes with the sink, so that any host knows.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from filerbackup.errors import SinkRefused
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.uploads import Uploads

FORMS_KEY = ".filerbackup/s3.json"
OWN_METADATA = ObjectMetadata(content_type="application/json")


@dataclass(slots=True)
class _Known:
    symlinks: bool = False
    bodies: bool = False


class Forms:
    """Read when the sink is opened; grows, never shrinks."""

    def __init__(self, bucket: Bucket, uploads: Uploads, name: str) -> None:
        self._bucket, self._uploads = bucket, uploads
        self._name = name
        self._known = _Known()
        self._lock = asyncio.Lock()

    @property
    def symlinks(self) -> bool:
        """There may be symlinks."""
        return self._known.symlinks

    @property
    def bodies(self) -> bool:
        """There may be directories with content of their own."""
        return self._known.bodies

    async def load(self) -> None:
        """Read the note. Raises SinkRefused when it cannot be understood."""
        raw = await self._bucket.get_all(self._name)
        if raw is None:
            self._known = _Known()
            return
        try:
            note = json.loads(raw)
            self._known = _Known(symlinks=bool(note["symlinks"]), bodies=bool(note["directory_bodies"]))
        except (ValueError, KeyError, TypeError):
            raise SinkRefused(
                f"{FORMS_KEY} in the sink cannot be read",
                hint="remove it when no symlinks were ever backed up to this sink, else restore it",
            ) from None

    async def expect_symlinks(self) -> None:
        """A symlink is about to be written."""
        if not self.symlinks:
            await self._expect(_Known(symlinks=True))

    async def expect_bodies(self) -> None:
        """A directory with content is about to be written."""
        if not self.bodies:
            await self._expect(_Known(bodies=True))

    async def _expect(self, wanted: _Known) -> None:
        async with self._lock:
            known = _Known(self.symlinks or wanted.symlinks, self.bodies or wanted.bodies)
            if known != self._known:
                note = {"version": 1, "symlinks": known.symlinks, "directory_bodies": known.bodies}
                await self._uploads.put(self._name, json.dumps(note).encode() + b"\n", OWN_METADATA)
                self._known = known
