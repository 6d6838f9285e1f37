"""Which forms of objects, beside plain files, a sink may hold: kept in the sink itself.

Symlinks and directories with content are rare, and each has a name of its own beside the file of
the same key. Where there never was one, no delete and no overwrite has to think of those names, and
a listing need not wait for them. The note is written before the first of them, so that it is never
missing; it goes with the sink, so that any host knows.
"""

from __future__ import annotations

import asyncio
import enum
import json

from filerbackup.errors import ObjectRejected, SinkRefused
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.reading import read_all
from filerbackup.sinks.objects.store import Store

OWN_METADATA = ObjectMetadata(content_type="application/json")
_VERSION = 1


class Form(enum.Enum):
    """What there may be. Values are the names in the note.

    LINK_NAMES: files whose own names end as those of symlinks do; where a source keeps such (rclone
    has put them there), no symlink can be kept, and the reverse.
    """

    SYMLINKS = "symlinks"
    BODIES = "directory_bodies"
    LINK_NAMES = "files_named_like_symlinks"


_EXCLUDES = {Form.SYMLINKS: Form.LINK_NAMES, Form.LINK_NAMES: Form.SYMLINKS}
_REASONS = {
    Form.SYMLINKS: "a symlink cannot be told from the files of this sink whose names end in .rclonelink",
    Form.LINK_NAMES: "a file whose name ends in .rclonelink cannot be told from the symlinks of this sink",
}


class Forms:
    """Read when the sink is opened; grows, never shrinks."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._known: frozenset[Form] = frozenset()
        self._lock = asyncio.Lock()

    @property
    def symlinks(self) -> bool:
        """There may be symlinks."""
        return Form.SYMLINKS in self._known

    @property
    def bodies(self) -> bool:
        """There may be directories with content of their own."""
        return Form.BODIES in self._known

    async def load(self) -> None:
        """Read the note. Raises SinkRefused when it cannot be understood."""
        raw = await read_all(self._store, self._name)
        try:
            note = {"version": _VERSION} if raw is None else json.loads(raw)
            if note["version"] != _VERSION:
                raise ValueError
            self._known = frozenset(form for form in Form if note.get(form.value, False))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise SinkRefused(
                f"{self._name} in the sink cannot be read",
                hint="remove it when no symlinks were ever backed up to this sink, else restore it",
            ) from None

    async def expect(self, form: Form) -> None:
        """One of these is about to be written. Raises ObjectRejected where that would be ambiguous."""
        if form in self._known:
            return
        async with self._lock:
            if _EXCLUDES.get(form) in self._known:
                raise ObjectRejected(_REASONS[form])
            known = self._known | {form}
            note = {"version": _VERSION, **{each.value: each in known for each in Form}}
            await self._store.put(self._name, json.dumps(note).encode() + b"\n", OWN_METADATA)
            self._known = known
