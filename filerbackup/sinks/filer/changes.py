"""Moves, and changes of attributes: the chunks stay where they are."""

from __future__ import annotations

from filerbackup.events import Entry, EntryKind
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import is_directory
from filerbackup.sinks.filer.attributes import (
    FilerListed,
    copy_of,
    has_content,
    is_same,
    listed_of,
    surely_has_content,
    ttl_of,
)
from filerbackup.sinks.filer.parents import Parents
from filerbackup.sinks.filer.target import Target


class Changes:
    """Changes of entries that are there. `ttl_s`: the sink's own time to live, 0 for that of each entry."""

    def __init__(self, target: Target, parents: Parents, *, ttl_s: int) -> None:
        self._target, self._parents = target, parents
        self._ttl_s = ttl_s

    async def update(self, path: str, entry: Entry) -> bool:
        """Give a file the entry's attributes; False when it is not proven to have the entry's content."""
        message = await self._target.lookup(path)
        if message is None or entry.kind is not EntryKind.FILE:
            return False
        found = listed_of("", message)
        if found.kind is not EntryKind.FILE or has_content(found, entry) is not True:
            return False
        if not self._may_keep_chunks(found, entry):
            return False
        await self._give(path, message, entry)
        return True

    async def move(self, old: str, new: str, entry: Entry) -> bool:
        """Move what is the entry's, with all below it; True also when that was done already."""
        message, there = await self._target.lookup(old), await self._target.lookup(new)
        if message is None:
            return await self._was_moved(new, there, entry)
        found = listed_of("", message)
        is_tree = entry.kind is EntryKind.DIRECTORY
        if not self._is_movable(found, entry) or (there is not None and (is_tree or is_directory(there))):
            return False
        await self._parents.make(new)
        await self._target.rename(old, new, tree=is_tree)
        self._parents.forget(old, tree=is_tree)
        self._parents.forget(new)
        if not is_same(found, entry, self._ttl_s):
            await self._give(new, message, entry)
        return True

    async def _was_moved(self, new: str, there: pb.Entry | None, entry: Entry) -> bool:
        """Whether an earlier call has done it, of which the answer was lost."""
        if there is None or entry.kind is EntryKind.DIRECTORY:
            return False
        found = listed_of("", there)
        if not self._is_movable(found, entry):
            return False
        if not is_same(found, entry, self._ttl_s):
            await self._give(new, there, entry)
        return True

    def _is_movable(self, found: FilerListed, entry: Entry) -> bool:
        match entry.kind:
            case kind if kind is not found.kind or kind is EntryKind.SPECIAL:
                return False
            case EntryKind.SYMLINK:
                return found.target == entry.symlink_target
            case EntryKind.DIRECTORY:
                return not (entry.has_body or found.size) or has_content(found, entry) is True
            case _:
                return surely_has_content(found, entry) and self._may_keep_chunks(found, entry)

    def _may_keep_chunks(self, found: FilerListed, entry: Entry) -> bool:
        """Chunks with a time to live go with the volume that they are in, whatever the entry says."""
        return not (found.ttl_s or ttl_of(entry, self._ttl_s)) or is_same(found, entry, self._ttl_s)

    async def _give(self, path: str, message: pb.Entry, entry: Entry) -> None:
        """The entry's attributes for what is at `path`, which keeps its chunks."""
        size, md5 = message.attributes.file_size, message.attributes.md5
        made = copy_of(entry, size=size, md5=md5, sink_ttl_s=self._ttl_s)
        made.chunks.extend(message.chunks)
        made.content = message.content
        await self._target.update(path, made)
