"""A filer as a simple model: a tree, a log of what happened to it, chunks that may be vacuumed.

It behaves as the real one was seen to: a renamed directory's event comes first and then one for each
descendant, top down; a recursive delete gives the files first and each directory after what was in it.
"""

from __future__ import annotations

import random
import stat
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from filerbackup.content import Content, InlineContent
from filerbackup.errors import ChunkGone, SourceUnreachable
from filerbackup.events import Chunk, Delete, Entry, EntryKind, Event, Heartbeat, Rename, Upsert
from filerbackup.pipeline.snapshot import sort_key

ROOT = "/w"
DAY_NS = 86_400_000_000_000


class ModelContent:
    """Bytes of one version, or ChunkGone when it was vacuumed."""

    def __init__(self, filer: ModelFiler, entry: Entry) -> None:
        self._filer = filer
        self._entry = entry
        self.md5 = b""

    @property
    def size(self) -> int:
        return self._entry.size

    @property
    def memory_bytes(self) -> int:
        return self._entry.size

    async def read(self) -> bytes:
        return self._filer.bytes_of(self._entry)

    async def stream(self) -> AsyncIterator[bytes]:
        data = self._filer.bytes_of(self._entry)
        if data:
            yield data


class ModelFiler:
    """Satisfies `Source`. Its clock is the number of the last event, in days, so that dates differ.

    `breaks` and `steps_back`: how likely the stream breaks, or repeats some events, before a batch.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tree: dict[str, Entry] = {}
        self.log: list[Event] = []
        self.needles: dict[str, bytes] = {}
        self.breaks = 0.0
        self.steps_back = 0.0
        self.may_lag = False
        self._clock = 0
        self.clock_starts_ns = 0
        self._needle = 0

    # -- what users do ----------------------------------------------------------------------------

    def write(self, path: str, data: bytes) -> bool:
        """Create or overwrite a file, with its parents; the old chunk goes to the vacuum."""
        if not self._can_hold(path) or self._is_directory(path):
            return False
        self._make_parents(path)
        self._needle += 1
        needle = f"1,{self._needle:08x}"
        self.needles[needle] = data
        ts_ns = self._tick()
        entry = Entry(
            path=path,
            kind=EntryKind.FILE,
            size=len(data),
            mtime_ns=ts_ns,
            chunks=(Chunk(needle, 0, len(data), ts_ns),) if data else (),
        )
        self.tree[path] = entry
        self.log.append(Upsert(ts_ns, entry))
        return True

    def chmod(self, path: str, mode: int) -> bool:
        """Change the mode of a file or a directory, and nothing else."""
        if path not in self.tree or self.tree[path].kind is EntryKind.SYMLINK:
            return False
        before = self.tree[path]
        after = replace(before, mode=stat.S_IFMT(before.mode) | mode)
        self.tree[path] = after
        self.log.append(Upsert(self._tick(), after, same_content=True))
        return True

    def touch(self, path: str) -> bool:
        """Change the modified time of a file."""
        if path not in self.tree or self.tree[path].kind is not EntryKind.FILE:
            return False
        ts_ns = self._tick()
        self.tree[path] = replace(self.tree[path], mtime_ns=ts_ns)
        self.log.append(Upsert(ts_ns, self.tree[path], same_content=True))
        return True

    def symlink(self, path: str, target: str) -> bool:
        """Create a symlink, also in the place of a file or another symlink."""
        if not self._can_hold(path) or self._is_directory(path):
            return False
        self._make_parents(path)
        ts_ns = self._tick()
        entry = Entry(
            path=path,
            kind=EntryKind.SYMLINK,
            mode=stat.S_IFLNK | 0o777,
            mtime_ns=ts_ns,
            symlink_target=target,
        )
        self.tree[path] = entry
        self.log.append(Upsert(ts_ns, entry))
        return True

    def replace(self, old: str, new: str) -> bool:
        """Move a file over another one, which is deleted first."""
        if old == new or new not in self.tree or self._is_directory(new) or self._is_directory(old):
            return False
        return old in self.tree and self.delete(new) and self.rename(old, new)

    def mkdir(self, path: str) -> bool:
        """Create a directory."""
        if path in self.tree or not self._can_hold(path):
            return False
        self._make_parents(path)
        ts_ns = self._tick()
        entry = Entry(path=path, kind=EntryKind.DIRECTORY, mode=stat.S_IFDIR | 0o755, mtime_ns=ts_ns)
        self.tree[path] = entry
        self.log.append(Upsert(ts_ns, entry))
        return True

    def delete(self, path: str) -> bool:
        """Delete a file or a tree."""
        if path not in self.tree:
            return False
        below = [p for p in self.tree if p.startswith(path + "/")]
        for gone in [*sorted(below, key=lambda p: -p.count("/")), path]:
            self.log.append(Delete(self._tick(), self.tree.pop(gone)))
        return True

    def drop(self, path: str) -> None:
        """Delete a tree as some stores drop a bucket: the log tells of its top alone."""
        top = self.tree[path]
        self.tree = {p: entry for p, entry in self.tree.items() if p != path and not p.startswith(path + "/")}
        self.log.append(Delete(self._tick(), top))

    def rename(self, old: str, new: str) -> bool:
        """Move a file or a tree to a free name."""
        if old not in self.tree or new in self.tree or not self._can_hold(new):
            return False
        if new == old or new.startswith(old + "/"):
            return False
        self._make_parents(new)
        moved = [old, *sorted(p for p in self.tree if p.startswith(old + "/"))]
        for path in moved:
            before = self.tree.pop(path)
            after = _renamed(before, new + path[len(old) :])
            self.tree[after.path] = after
            self.log.append(Rename(self._tick(), before, after))
        return True

    def vacuum(self) -> None:
        """Chunks that no live entry has are gone."""
        live = {chunk.file_id for entry in self.tree.values() for chunk in entry.chunks}
        self.needles = {needle: data for needle, data in self.needles.items() if needle in live}

    def _tick(self) -> int:
        self._clock += 1
        return self._now_ns()

    def _now_ns(self) -> int:
        return self.clock_starts_ns + self._clock * DAY_NS // 3

    def _is_directory(self, path: str) -> bool:
        return path in self.tree and self.tree[path].is_directory

    def _can_hold(self, path: str) -> bool:
        parent = path.rpartition("/")[0]
        while parent != ROOT:
            if parent in self.tree and not self.tree[parent].is_directory:
                return False
            parent = parent.rpartition("/")[0]
        return True

    def _make_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent != ROOT and parent not in self.tree:
            self.mkdir(parent)

    # -- what a source offers ---------------------------------------------------------------------

    async def now_ns(self) -> int:
        return self._now_ns()

    async def oldest_log_ns(self) -> int | None:
        return -100 * DAY_NS

    async def subscribe(
        self, since_ns: int, until_ns: int | None = None
    ) -> AsyncGenerator[Sequence[Event], None]:
        place = bisect_right([event.ts_ns for event in self.log], since_ns)
        while place < len(self.log):
            if self.rng.random() < self.breaks:
                raise SourceUnreachable("the stream broke")
            if self.rng.random() < self.steps_back:
                place = max(0, place - self.rng.randint(1, 5))
            size = self.rng.randint(1, 7)
            batch = [
                event for event in self.log[place : place + size] if event.ts_ns <= (until_ns or 1 << 62)
            ]
            place += size
            if batch:
                yield batch
        # What came after the end that was asked for is not told of, so this must not stand for it.
        yield [Heartbeat(min(await self.now_ns(), until_ns or 1 << 62))]

    async def lookup(self, path: str) -> Entry | None:
        root = Entry(path=ROOT, kind=EntryKind.DIRECTORY, mode=stat.S_IFDIR | 0o755)
        return root if path == ROOT else self.tree.get(path)

    async def walk(self, after: str = "") -> AsyncGenerator[Entry, None]:
        def place(entry: Entry) -> bytes:
            return sort_key(entry.path[len(ROOT) + 1 :], entry.is_directory)

        for entry in sorted(self.tree.values(), key=place):
            if place(entry) > after.encode():
                yield entry

    def content(self, entry: Entry) -> Content:
        return ModelContent(self, entry) if entry.kind is EntryKind.FILE else InlineContent(b"")

    async def fetch(self, entry: Entry) -> Entry | None:
        return entry

    def bytes_of(self, entry: Entry) -> bytes:
        try:
            return b"".join(self.needles[chunk.file_id] for chunk in entry.chunks)
        except KeyError:
            raise ChunkGone(f"{entry.path}: vacuumed") from None


def _renamed(entry: Entry, path: str) -> Entry:
    return replace(entry, path=path)
