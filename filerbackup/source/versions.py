"""Buckets with versions: the current version of each object under the object's own name.

What the S3 gateway of weed 4.48 keeps (seen on the wire and in the filer):

- A version of `<obj>` is a file `<obj>.versions/v_<id>`; a delete marker is an empty one. An extended
  attribute of the directory `<obj>.versions` names the file that is current.
- A put makes up to four events: the directory without attributes, the version, the directory with
  the new name, a note on the former version. New tags make one, of the version's file alone.
- What was there before versioning began, or is put while it is suspended, lies under the object's own
  name (version "null"). It is current when the directory says so, says nothing, or is not there.
- `<obj>` and `<obj>/<more>` can both be objects: then `<obj>` is given out as a directory with a body,
  as a filer itself has it in a bucket without versions.

Which version is current is always asked of the live filer, never concluded from an event.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from filerbackup.events import Delete, Entry, EntryKind, Event, Marker, Rename, Upsert
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.decode import entry_from_pb, join_path
from filerbackup.source.together import together

SUFFIX = ".versions"
MANY = 1024
"""Entries of a page."""

_VERSION_FILE = "v_"
_ID = "Seaweed-X-Amz-Version-Id"
_IS_DELETE_MARKER = "Seaweed-X-Amz-Delete-Marker"
_CURRENT_FILE = "Seaweed-X-Amz-Latest-Version-File-Name"
_NULL_IS_CURRENT = "Seaweed-X-Amz-Null-Version-Is-Latest"
_BUCKET_STATE = "Seaweed-X-Amz-Versioning"

_BUCKET_KNOWN_S = 10.0
_AT_ONCE = 32
_REMEMBERED = 8192


class Tree(Protocol):
    """What is asked of the filer; `filerbackup.filer.client.FilerClient` has it."""

    async def lookup(self, directory: str, name: str) -> pb.Entry | None:
        """The live entry."""
        ...

    async def list_page(self, directory: str, after: str, limit: int) -> list[pb.Entry]:
        """Up to `limit` entries behind a name."""
        ...


class _Found(NamedTuple):
    """The live state of an object: `entry` as it is given out, `file` the version's own name."""

    entry: Entry | None
    file: str = ""


class Versions:
    """Knows which buckets have versions, and what is current in them. One for one watched folder."""

    def __init__(self, tree: Tree, buckets_directory: str) -> None:
        self._tree = tree
        self._buckets = buckets_directory.rstrip("/") + "/"
        self._states: dict[str, tuple[float, bool | None]] = {}

    # -- which buckets ------------------------------------------------------------------------------

    async def covers(self, path: str, *, fresh: bool = False) -> bool | None:
        """Whether the path lies inside a bucket that has, or had, versions; None: the bucket is gone.

        Once begun, versioning can be suspended but never ended.
        """
        if not path.startswith(self._buckets):
            return False
        bucket, _, key = path[len(self._buckets) :].partition("/")
        if not key or key == ".uploads" or key.startswith(".uploads/"):
            return False
        now = time.monotonic()
        known = self._states.get(bucket)
        if known is not None and now - known[0] < _BUCKET_KNOWN_S and not (fresh and not known[1]):
            return known[1]
        found = await self._tree.lookup(self._buckets.rstrip("/"), bucket)
        state = None if found is None else bool(found.extended.get(_BUCKET_STATE))
        if len(self._states) >= _REMEMBERED:
            self._states.clear()
        self._states[bucket] = (now, state)
        return state

    def is_plain(self, entry: Entry, now: float) -> bool:
        """Whether it is known, without asking, that versions do not concern an entry."""
        path = entry.path
        if not path.startswith(self._buckets):
            return True
        known = self._states.get(path[len(self._buckets) :].partition("/")[0])
        if known is None or known[1] is not False or now - known[0] >= _BUCKET_KNOWN_S:
            return False
        return SUFFIX not in path

    async def lists(self, directory: str) -> bool:
        """Whether a directory's entries have to be seen through `current`."""
        return bool(await self.covers(join_path(directory, "any")))

    # -- what is current ----------------------------------------------------------------------------

    async def find(self, path: str) -> Entry | None:
        """The live entry under a path of such a bucket: None for a version's own file or directory."""
        return (await self._find(path)).entry

    async def current(self, base: str, own: Entry | None, directory: Entry | None) -> Entry | None:
        """What `base` is, from the entry of its own name and from `<base>.versions`."""
        return (await self._current(base, own, directory)).entry

    async def is_ordinary(self, directory: Entry) -> bool:
        """Whether a directory named `….versions` holds other things than versions: `x.versions/y`."""
        if directory.name == SUFFIX or _CURRENT_FILE in directory.extended:
            return False
        if directory.has_body or directory.mime:
            return True
        children = await self._tree.list_page(directory.path, "", MANY)
        return any(not is_version_file(entry_from_pb(directory.path, child)) for child in children)

    async def _find(self, path: str) -> _Found:
        if path.endswith("/" + SUFFIX):
            return _Found(None)
        own, directory = await together([self._entry(path), self._entry(path + SUFFIX)])
        if own is not None and (
            is_version_file(own) or (is_versions_name(own) and not await self.is_ordinary(own))
        ):
            own = None
        return await self._current(path, own, directory)

    async def _current(self, base: str, own: Entry | None, directory: Entry | None) -> _Found:
        if directory is None or not directory.is_directory or _NULL_IS_CURRENT in directory.extended:
            return _Found(own)
        below = own if own is not None and own.is_directory else None
        name = directory.extended.get(_CURRENT_FILE, b"").decode(errors="replace")
        if not name and own is not None and below is None:
            return _Found(own)
        version = await self._entry(join_path(directory.path, name)) if name and "/" not in name else None
        if version is None:
            version = await self._newest(directory.path)
        if version is None or version.is_directory or _is_delete_marker(version):
            return _Found(below, version.name if version else "")
        if below is None:
            return _Found(replace(version, path=base), version.name)
        return _Found(replace(version, path=base, kind=below.kind, mode=below.mode), version.name)

    async def _newest(self, directory: str) -> Entry | None:
        """When nothing says which is current, as for a moment in a put: the last, as the gateway does.

        Ids are of one length and count backwards in time.
        """
        newest: Entry | None = None
        last = ""
        while True:
            page = await self._tree.list_page(directory, last, MANY)
            for child in page:
                entry = entry_from_pb(directory, child)
                if is_version_file(entry) and (newest is None or entry.mtime_ns > newest.mtime_ns):
                    newest = entry
            if len(page) < MANY:
                return newest
            last = page[-1].name

    async def _entry(self, path: str) -> Entry | None:
        directory, _, name = path.rpartition("/")
        found = await self._tree.lookup(directory, name)
        return None if found is None else entry_from_pb(directory, found)

    # -- events -------------------------------------------------------------------------------------

    def view(self) -> VersionedEvents:
        """For one stream of events."""
        return VersionedEvents(self)

    async def find_all(self, paths: Sequence[str]) -> dict[str, _Found]:
        """Many at once."""
        found: dict[str, _Found] = {}
        for at in range(0, len(paths), _AT_ONCE):
            some = paths[at : at + _AT_ONCE]
            answers = await together(self._find(path) for path in some)
            found.update(zip(some, answers, strict=True))
        return found


class _Question(NamedTuple):
    """What an event asks: what became of `path`, where `entry` is what goes when nothing is there.

    `version`: only if that version's file is the current one. `only_live`: that something is gone
    counts only if it was told of.
    """

    path: str
    entry: Entry
    version: str = ""
    only_live: bool = False
    same_content: bool = False


class VersionedEvents:
    """Turns the events of such buckets into what became of the objects.

    It remembers what it said last of a path, because one put makes several events. A directory that
    goes takes with it what was said of all below it.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._said: OrderedDict[str, int] = OrderedDict()

    async def translate(self, batch: Sequence[Event]) -> Sequence[Event]:
        """The batch as events of objects."""
        now = time.monotonic()
        if not self._said and all(self._is_plain(event, now) for event in batch):
            return batch
        asked: list[Sequence[_Question | Event]] = []
        for event in batch:
            # One after the other: the first version of a bucket changes what is known of it.
            asked.append([event] if self._is_plain(event, now) else await self._questions(event))
        paths = dict.fromkeys(one.path for some in asked for one in some if isinstance(one, _Question))
        found = await self._versions.find_all(list(paths)) if paths else {}
        events: list[Event] = []
        for event, questions in zip(batch, asked, strict=True):
            before = len(events)
            for question in questions:
                if isinstance(question, _Question):
                    events += self._answer(event.ts_ns, question, found[question.path])
                else:
                    self._forget_what_goes(question)
                    events.append(question)
            if len(events) == before:
                events.append(Marker(event.ts_ns))
        return events

    def _is_plain(self, event: Event, now: float) -> bool:
        match event:
            case Upsert(entry=entry) | Delete(entry=entry):
                return self._versions.is_plain(entry, now)
            case Rename(old=old, new=new):
                return self._versions.is_plain(old, now) and self._versions.is_plain(new, now)
            case _:
                return True

    async def _questions(self, event: Event) -> Sequence[_Question | Event]:
        """What to ask; or the event itself where it stands for itself."""
        match event:
            case Upsert(entry=entry, same_content=same_content) if await self._is_ours(entry):
                return _about_new(entry, same_content)
            case Delete(entry=entry) if await self._is_ours(entry):
                return _about_old(entry)
            case Rename(ts_ns=ts_ns, old=old, new=new):
                match await self._is_ours(old), await self._is_ours(new):
                    case False, False:
                        return [event]
                    case True, False:
                        return [*_about_moved(old), Upsert(ts_ns, new)]
                    case False, True:
                        return [Delete(ts_ns, old), *_about_moved(new)]
                return [*_about_moved(old), *_about_moved(new)]
            case _:
                return [event]

    async def _is_ours(self, entry: Entry) -> bool:
        is_sign = is_version_file(entry) or is_versions_name(entry)
        covered = await self._versions.covers(entry.path, fresh=is_sign)
        # Of a bucket that is gone nobody can tell any more how it was; versions of it are not content.
        return is_sign if covered is None else covered

    def _answer(self, ts_ns: int, question: _Question, found: _Found) -> Sequence[Event]:
        live = found.entry
        if question.version and found.file != question.version:
            return ()
        if question.only_live and live is None and question.path not in self._said:
            return ()
        if live is None and question.entry.is_directory:
            self._said.clear()
            return (Delete(ts_ns, question.entry),)
        said = _print_of(live)
        if self._said.get(question.path) == said:
            return ()
        self._said[question.path] = said
        self._said.move_to_end(question.path)
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        if live is None:
            return (Delete(ts_ns, question.entry),)
        return (Upsert(ts_ns, live, question.same_content),)

    def _forget_what_goes(self, event: Event) -> None:
        match event:
            case Delete(entry=entry) | Rename(old=entry) if entry.is_directory:
                self._said.clear()
            case _:
                return


def is_version_file(entry: Entry) -> bool:
    """Whether it is one version of an object, or a delete marker."""
    if entry.is_directory or _ID not in entry.extended:
        return False
    directory, _, name = entry.path.rpartition("/")
    return name.startswith(_VERSION_FILE) and directory.endswith(SUFFIX)


def is_versions_name(entry: Entry) -> bool:
    """Whether it is named as the directory of an object's versions (".versions" alone is nobody's)."""
    return entry.is_directory and entry.name.endswith(SUFFIX) and entry.name != SUFFIX


def _is_delete_marker(version: Entry) -> bool:
    return version.extended.get(_IS_DELETE_MARKER) == b"true"


def _about_new(entry: Entry, same_content: bool) -> list[_Question]:
    if is_version_file(entry):
        question = _about_base(entry.path.rpartition("/")[0])
        return [question._replace(version=entry.name, same_content=same_content)]
    if is_versions_name(entry):
        base = _about_base(entry.path)
        if _CURRENT_FILE in entry.extended or _NULL_IS_CURRENT in entry.extended:
            return [base]
        # The beginning of a first put, the end of a last version, or an ordinary directory.
        return [base._replace(only_live=True), _Question(entry.path, entry, only_live=True)]
    return [_Question(entry.path, entry, same_content=same_content)]


def _about_old(entry: Entry) -> list[_Question]:
    if is_version_file(entry):
        # Before a current version goes, another one is made current.
        return []
    return [_about_base(entry.path) if is_versions_name(entry) else _Question(entry.path, entry)]


def _about_moved(entry: Entry) -> list[_Question]:
    if is_version_file(entry):
        return [_about_base(entry.path.rpartition("/")[0])]
    return [_about_base(entry.path) if is_versions_name(entry) else _Question(entry.path, entry)]


def _about_base(directory: str) -> _Question:
    base = directory.removesuffix(SUFFIX)
    return _Question(base, Entry(path=base, kind=EntryKind.FILE))


def _print_of(entry: Entry | None) -> int:
    """Tells one state of an object from another."""
    if entry is None:
        return 0
    extended = frozenset(entry.extended.items())
    attributes = (entry.kind, entry.mode, entry.mtime_ns, entry.uid, entry.gid, entry.mime)
    return hash((attributes, entry.size, entry.content, entry.chunks, entry.symlink_target, extended))
