"""From a change to the operations that it asks for in a sink."""

from __future__ import annotations

from dataclasses import dataclass

from filerbackup.events import Change, Delete, Entry, EntryKind, Rename, Upsert
from filerbackup.pipeline.claims import Claim
from filerbackup.pipeline.layout import Layout
from filerbackup.pipeline.scheduler import Replaces, Work
from filerbackup.sinks.base import Capabilities, Listed

_BYTES_A_WEIGHT = 4096
"""Beside what an ordinary operation takes itself. A full queue of 4,096 is so 16 MiB, and those."""
_CHUNK_BYTES = 350
"""Of memory that a chunk takes (measured, with file id and tag)."""


@dataclass(slots=True, eq=False, kw_only=True)
class Operation(Work):
    """One thing to do in a sink, for the change at `ts_ns` of the source path `path`.

    `failures`: how often it failed by its own fault. `sink_took`: how much the sink had taken in all
    when it last failed, or was first begun (-1: not yet). `guarded`: the delete guard is asked before
    it removes something. `counted`: it has counted this one already.
    """

    ts_ns: int
    path: str
    key: str
    failures: int = 0
    sink_took: int = -1
    guarded: bool = False
    counted: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Write(Operation):
    """Make `key` hold the entry.

    `listed` is what a listing of the sink showed there, `look` asks the sink first: a write that
    would change nothing is left out. `attributes_only`: the sink most likely holds the content already.
    `thorough`: attributes that a listing does not show count too.
    """

    entry: Entry
    listed: Listed | None = None
    look: bool = False
    attributes_only: bool = False
    thorough: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Remove(Operation):
    """Remove `key`; with `tree` all below it too."""

    tree: bool


@dataclass(slots=True, eq=False, kw_only=True)
class Move(Operation):
    """Make `key` hold the entry by moving it from `old_key`, which is gone afterwards.

    `old_path`: where the source had it. `whole`: a directory takes along all that is below it in the
    sink. `repeated`: the log may have told of it before, and of what came later below the old name.
    `overtaken`: the source has another version there by now, so that only the old name is to go.
    """

    old_key: str
    old_path: str
    entry: Entry
    whole: bool = True
    repeated: bool = False
    overtaken: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Refresh(Operation):
    """Make `key` what the live filer says of `path` when this runs.

    `tree`: when it is gone, remove all below the key too. `look`: leave out a write that would change
    nothing. `changes`: what is there may have the content already.
    """

    tree: bool = True
    look: bool = False
    changes: bool = False


class Planner:
    """Knows the layout and what the sink can do."""

    def __init__(self, layout: Layout, capabilities: Capabilities) -> None:
        self._layout = layout
        self._capabilities = capabilities

    def plan(self, change: Change) -> Operation | None:
        """What the change asks for; None when it asks for nothing in this layout and sink."""
        match change:
            case Upsert(ts_ns, entry, same_content):
                return self._upsert(ts_ns, entry, same_content)
            case Delete(ts_ns, entry):
                return self.remove(ts_ns, entry)
            case Rename(ts_ns, old, new):
                return self._rename(ts_ns, old, new)

    def _upsert(self, ts_ns: int, entry: Entry, same_content: bool) -> Operation | None:
        if not entry.is_directory and not is_kept(entry, self._capabilities):
            # What the key held before must not outlive it.
            return self.remove(ts_ns, entry)
        write = self.write(ts_ns, entry)
        if write is not None:
            write.attributes_only = same_content and entry.kind is EntryKind.FILE
        return write

    def write(self, ts_ns: int, entry: Entry) -> Write | None:
        """An operation that makes the sink hold the entry."""
        key = self._layout.key(entry)
        if key is None or not is_kept(entry, self._capabilities):
            return None
        return Write(
            claims=(Claim(key, not entry.is_directory),),
            replaces=Replaces.KEY,
            replaceable=Replaces.KEY,
            weight=_weight(entry),
            ts_ns=ts_ns,
            path=entry.path,
            key=key,
            entry=entry,
        )

    def remove(self, ts_ns: int, entry: Entry) -> Remove | None:
        """An operation that removes the entry from the sink, with what lies below a directory."""
        key = None if self._layout.keeps_deleted else self._layout.key(entry)
        return None if key is None else self.remove_key(ts_ns, key, entry.path, tree=entry.is_directory)

    def remove_key(self, ts_ns: int, key: str, path: str, *, tree: bool) -> Remove:
        """An operation that removes a key."""
        return Remove(
            claims=(Claim(key, True),),
            replaces=Replaces.TREE if tree else Replaces.KEY,
            replaceable=Replaces.TREE if tree else Replaces.KEY,
            ts_ns=ts_ns,
            path=path,
            key=key,
            tree=tree,
        )

    def refresh(
        self,
        ts_ns: int,
        key: str,
        path: str,
        *,
        guarded: bool = False,
        tree: bool = True,
        look: bool = False,
        changes: bool = False,
    ) -> Refresh:
        """An operation that makes the sink agree with the live filer about one path."""
        return Refresh(
            claims=(Claim(key, True),),
            ts_ns=ts_ns,
            path=path,
            key=key,
            guarded=guarded,
            tree=tree,
            look=look,
            changes=changes,
        )

    def _rename(self, ts_ns: int, old: Entry, new: Entry) -> Operation | None:
        """A move, or a write where the old name is kept or held nothing here."""
        old_key = None if self._layout.keeps_deleted else self._layout.key(old)
        new_key = self._layout.key(new)
        if old_key is None or new_key is None or old_key == new_key:
            return self._upsert(ts_ns, new, same_content=False)
        if not is_kept(new, self._capabilities):
            # A directory's descendants come with events of their own; nothing else was kept before.
            return None
        return Move(
            claims=(Claim(old_key, True), Claim(new_key, True)),
            weight=_weight(new),
            ts_ns=ts_ns,
            path=new.path,
            key=new_key,
            old_key=old_key,
            old_path=old.path,
            entry=new,
        )


def _weight(entry: Entry) -> int:
    """An operation's share of the queue, by what its entry takes in memory."""
    extended = sum(len(name) + len(value) for name, value in entry.extended.items())
    size = len(entry.chunks) * _CHUNK_BYTES + len(entry.content) + extended + 4 * len(entry.path)
    return 1 + size // _BYTES_A_WEIGHT


def is_kept(entry: Entry, capabilities: Capabilities) -> bool:
    """Whether such a sink keeps such an entry at all."""
    match entry.kind:
        case EntryKind.DIRECTORY:
            return capabilities.directories or entry.has_body
        case EntryKind.SYMLINK:
            return capabilities.symlinks
        case _:
            return True
