"""From a change to the operations that it asks for in a sink."""

from __future__ import annotations

from dataclasses import dataclass

from filerbackup.events import Change, Delete, Entry, Rename, Upsert
from filerbackup.pipeline.claims import Claim
from filerbackup.pipeline.layout import Layout
from filerbackup.pipeline.scheduler import Replaces, Work
from filerbackup.sinks.base import Capabilities, Listed

_CHUNKS_A_WEIGHT = 32
_CONTENT_BYTES_A_WEIGHT = 8192


@dataclass(slots=True, eq=False, kw_only=True)
class Operation(Work):
    """One thing to do in a sink, for the change at `ts_ns` of the source path `path`.

    `failures`: how often it failed by its own fault. `sink_took`: how much the sink had taken in all
    when it last failed, or was first begun (-1: not yet).
    """

    ts_ns: int
    path: str
    key: str
    failures: int = 0
    sink_took: int = -1


@dataclass(slots=True, eq=False, kw_only=True)
class Write(Operation):
    """Make `key` hold the entry.

    `listed` is what a listing of the sink showed there, `look` asks the sink first: a write that
    would change nothing is left out.
    """

    entry: Entry
    listed: Listed | None = None
    look: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Remove(Operation):
    """Remove `key`; with `tree` all below it too."""

    tree: bool


@dataclass(slots=True, eq=False, kw_only=True)
class Move(Operation):
    """Make `key` hold the entry by moving it from `old_key`, which is gone afterwards."""

    old_key: str
    entry: Entry


@dataclass(slots=True, eq=False, kw_only=True)
class Refresh(Operation):
    """Make `key` what the live filer says of `path` when this runs."""


class Planner:
    """Knows the layout and what the sink can do."""

    def __init__(self, layout: Layout, capabilities: Capabilities) -> None:
        self._layout = layout
        self._capabilities = capabilities

    def plan(self, change: Change) -> Operation | None:
        """What the change asks for; None when it asks for nothing in this layout and sink."""
        match change:
            case Upsert(ts_ns, entry):
                return self.write(ts_ns, entry)
            case Delete(ts_ns, entry):
                return self.remove(ts_ns, entry)
            case Rename(ts_ns, old, new):
                return self._rename(ts_ns, old, new)

    def write(self, ts_ns: int, entry: Entry) -> Write | None:
        """An operation that makes the sink hold the entry."""
        key = self._layout.key(entry)
        if key is None or not self._is_kept(entry):
            return None
        return Write(
            claims=(Claim(key, not entry.is_directory),),
            replaces=Replaces.KEY,
            replaceable=Replaces.KEY,
            weight=1 + len(entry.chunks) // _CHUNKS_A_WEIGHT + len(entry.content) // _CONTENT_BYTES_A_WEIGHT,
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

    def refresh(self, ts_ns: int, key: str, path: str) -> Refresh:
        """An operation that makes the sink agree with the live filer about one path."""
        return Refresh(claims=(Claim(key, True),), ts_ns=ts_ns, path=path, key=key)

    def _rename(self, ts_ns: int, old: Entry, new: Entry) -> Operation | None:
        """A move, or a write where the old name is kept or held nothing here."""
        old_key = None if self._layout.keeps_deleted else self._layout.key(old)
        new_key = self._layout.key(new)
        if old_key is None or new_key is None or old_key == new_key:
            return self.write(ts_ns, new)
        if new.is_directory and not self._is_kept(new):
            # Its descendants come with events of their own; there is no directory to move here.
            return None
        return Move(
            claims=(Claim(old_key, True), Claim(new_key, True)),
            ts_ns=ts_ns,
            path=new.path,
            key=new_key,
            old_key=old_key,
            entry=new,
        )

    def _is_kept(self, entry: Entry) -> bool:
        return self._capabilities.directories or not entry.is_directory or entry.has_body
