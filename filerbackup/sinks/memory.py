"""A sink in memory: the reference for what the protocol means, and a sink with faults for tests.

    sink = MemorySink()
    sink.fail("write", SinkThrottled("slow down"), key="a/b", times=2)
    sink.hold("flush")            # the next flush waits ...
    await sink.reached("flush")   # ... here we know that it does
    sink.release("flush")
    sink.crash()                  # what was not flushed is gone

Operations are called by the names of the protocol's methods. Not for use from several threads.
"""

from __future__ import annotations

import asyncio
import random
import stat
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from filerbackup.content import Content
from filerbackup.errors import FilerBackupError, ObjectRejected, SinkUnavailable, Unreadable
from filerbackup.events import Entry, EntryKind
from filerbackup.sinks.base import Capabilities, Listed, SinkIdentity
from filerbackup.sinks.keys import check_key, check_own_key, shown, sort_key

_EVERYTHING = Capabilities(
    directories=True, symlinks=True, move=True, move_tree=True, write_buffer_bytes=0, update=True
)


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """One stored object; `mode` holds permission bits, `target` is a symlink's.

    `version` is what the source knew the bytes by: its MD5, chunks and inline content.
    """

    kind: EntryKind
    data: bytes = field(default=b"", repr=False)
    mode: int = 0o700
    mtime_ns: int = 0
    target: str = ""
    version: tuple[object, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, entry: Entry, data: bytes) -> MemoryObject:
        """As the entry asks for."""
        mode = stat.S_IMODE(entry.mode)
        return cls(entry.kind, data, mode, entry.mtime_ns, entry.symlink_target, _version(entry))

    def listed(self, key: str) -> Listed:
        """As a listing shows it."""
        return Listed(key, self.kind, len(self.data), self.mtime_ns)

    def is_copy_of(self, entry: Entry) -> bool:
        """Whether all but the bytes is as the entry says."""
        if self.kind is not entry.kind or self.kind is EntryKind.SPECIAL:
            return False
        if self.kind is EntryKind.SYMLINK:
            return (self.target, self.mtime_ns) == (entry.symlink_target, entry.mtime_ns)
        if self.mode != stat.S_IMODE(entry.mode):
            return False
        if self.kind is EntryKind.DIRECTORY:
            return True
        wanted = (entry.size, entry.mtime_ns, _version(entry))
        return (len(self.data), self.mtime_ns, self.version) == wanted

    def holds(self, entry: Entry) -> bool:
        """Whether this is surely the entry's content, whatever its attributes are."""
        version = _version(entry)
        known = self.version == version and any(version)
        return self.kind is EntryKind.FILE and len(self.data) == entry.size and known


def _version(entry: Entry) -> tuple[object, ...]:
    return (entry.md5, entry.chunks, entry.content)


@dataclass(slots=True)
class _Fault:
    key: str | None
    error: FilerBackupError
    times: int
    after: bool


class MemorySink:
    """Keeps everything in two dictionaries: `objects` as it is now, `durable` as of the last flush.

    Stays as it is over `close` and `open`, like a real place. `calls` counts the calls of each
    operation, those that failed too.
    """

    def __init__(self, name: str = "memory", *, capabilities: Capabilities = _EVERYTHING) -> None:
        self.objects: dict[str, MemoryObject] = {}
        self.durable: dict[str, MemoryObject] = {}
        self.own: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self._identity = SinkIdentity("memory", "", "", name)
        self._capabilities = capabilities
        self._is_open = False
        self._faults: defaultdict[str, list[_Fault]] = defaultdict(list)
        self._gates: dict[str, asyncio.Event] = {}
        self._held: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    # -- faults -------------------------------------------------------------------------------

    def fail(
        self,
        operation: str,
        error: FilerBackupError,
        *,
        key: str | None = None,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Let the next `times` calls fail, those for one key or (None) any.

        With `after` the work is done and only the answer is lost.
        """
        self._faults[operation].append(_Fault(key, error, times, after))

    def hold(self, operation: str) -> None:
        """Let calls wait, before they do anything, until `release`."""
        self._gates[operation] = asyncio.Event()
        self._held[operation].clear()

    def release(self, operation: str) -> None:
        """Let go on what waits."""
        gate = self._gates.pop(operation, None)
        if gate is not None:
            gate.set()

    async def reached(self, operation: str) -> None:
        """Return when a call is being held."""
        await self._held[operation].wait()

    def crash(self, survivors: random.Random | None = None) -> None:
        """Lose what was not flushed: all of it, or with a generator each object by the toss of a coin."""
        kept = dict(self.durable)
        if survivors is not None:
            for key in sorted(self.objects.keys() | self.durable.keys()):
                if survivors.random() < 0.5:
                    continue
                if key in self.objects:
                    kept[key] = self.objects[key]
                else:
                    kept.pop(key, None)
        self.objects = {}
        for key in sorted(kept):
            self._put(key, kept[key])
        self.durable = dict(self.objects)

    # -- the protocol -------------------------------------------------------------------------

    @property
    def identity(self) -> SinkIdentity:
        """The name stands for the directory."""
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        """As given."""
        return self._capabilities

    async def open(self) -> None:
        """See the protocol."""
        self._is_open = True
        await self._begin("open")

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """See the protocol."""
        check_key(key)
        await self._begin("write", key)
        data = b""
        match entry.kind:
            case EntryKind.FILE:
                data = await _all_of(key, content)
            case EntryKind.SPECIAL:
                raise ObjectRejected(f"{shown(key)} is a device, a pipe or a socket")
            case EntryKind.SYMLINK if not self._capabilities.symlinks:
                raise ObjectRejected(f"{shown(key)} is a symlink")
            case EntryKind.DIRECTORY if not self._capabilities.directories:
                return
        self._put(key, MemoryObject.of(entry, data))
        self._end("write", key)

    async def delete(self, key: str) -> None:
        """See the protocol."""
        check_key(key)
        await self._begin("delete", key)
        if not self._is_directory(key) or not self._below(key):
            self.objects.pop(key, None)
        self._end("delete", key)

    async def delete_tree(self, key: str) -> None:
        """See the protocol."""
        check_key(key)
        await self._begin("delete_tree", key)
        self._drop(key)
        self._end("delete_tree", key)

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """See the protocol."""
        check_key(old_key)
        check_key(new_key)
        await self._begin("move", new_key)
        found = self.objects.get(old_key)
        there = self.objects.get(new_key)
        if found is None or new_key.startswith(old_key + "/"):
            return False
        if found.kind is EntryKind.DIRECTORY:
            if not self._capabilities.move_tree or there is not None or not entry.is_directory:
                return False
            found = self.objects[old_key] = MemoryObject.of(entry, b"")
        elif not self._capabilities.move or self._is_directory(new_key) or not found.is_copy_of(entry):
            return False
        below = self._below(old_key) if found.kind is EntryKind.DIRECTORY else ()
        moved = {key: self.objects.pop(key) for key in (old_key, *below)}
        for key in sorted(moved):
            self._put(new_key + key[len(old_key) :], moved[key])
        self._end("move", new_key)
        return True

    async def update(self, key: str, entry: Entry) -> bool:
        """See the protocol."""
        check_key(key)
        await self._begin("update", key)
        found = self.objects.get(key)
        if found is None or entry.kind is not EntryKind.FILE or not found.holds(entry):
            return False
        self.objects[key] = MemoryObject.of(entry, found.data)
        self._end("update", key)
        return True

    async def stat(self, key: str) -> Listed | None:
        """See the protocol."""
        check_key(key)
        await self._begin("stat", key)
        found = self.objects.get(key)
        return None if found is None else found.listed(key)

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        """See the protocol: kind, size, mode, modified time, version and symlink target."""
        await self._begin("matches", listed.key)
        found = self.objects.get(listed.key)
        return found is not None and found.is_copy_of(entry)

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See the protocol. A symlink's bytes are its target."""
        check_key(key)
        await self._begin("read", key)
        found = self.objects.get(key)
        if found is None or found.kind is EntryKind.DIRECTORY:
            raise FileNotFoundError(key)
        data = found.target.encode() if found.kind is EntryKind.SYMLINK else found.data
        if block := data[offset : None if length is None else offset + length]:
            yield block

    async def read_own(self, key: str) -> bytes | None:
        """See the protocol."""
        check_own_key(key)
        await self._begin("read_own", key)
        return self.own.get(key)

    async def write_own(self, key: str, data: bytes) -> None:
        """See the protocol."""
        check_own_key(key)
        await self._begin("write_own", key)
        self.own[key] = data
        self._end("write_own", key)

    async def flush(self) -> None:
        """See the protocol. What is done while the flush is held is not part of it."""
        view = dict(self.objects)
        await self._begin("flush")
        self.durable = view
        self._end("flush")

    async def close(self) -> None:
        """See the protocol."""
        self.calls["close"] += 1
        self._is_open = False

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """See the protocol: what was there when the listing began, and still is."""
        await self._begin("list", prefix)
        after = start_after.encode()
        ordered = sorted((sort_key(key, self._is_directory(key)), key) for key in self.objects)
        for place, key in ordered:
            if place > after and key.startswith(prefix) and key in self.objects:
                yield self.objects[key].listed(key)

    # -- inside -------------------------------------------------------------------------------

    async def _begin(self, operation: str, key: str = "") -> None:
        self.calls[operation] += 1
        if not self._is_open:
            raise SinkUnavailable("the sink is not open")
        gate = self._gates.get(operation)
        if gate is not None:
            self._held[operation].set()
            await gate.wait()
        else:
            await asyncio.sleep(0)
        self._raise_fault(operation, key, after=False)

    def _end(self, operation: str, key: str = "") -> None:
        self._raise_fault(operation, key, after=True)

    def _raise_fault(self, operation: str, key: str, *, after: bool) -> None:
        for fault in self._faults[operation]:
            if fault.times > 0 and fault.after is after and fault.key in (None, key):
                fault.times -= 1
                raise fault.error

    def _put(self, key: str, stored: MemoryObject) -> None:
        """Store it; what stands in the way of it or of its parents goes first."""
        if self._capabilities.directories:
            components = key.split("/")
            for depth in range(1, len(components)):
                parent = "/".join(components[:depth])
                if not self._is_directory(parent):
                    self.objects[parent] = MemoryObject(EntryKind.DIRECTORY)
            if stored.kind is not EntryKind.DIRECTORY and self._is_directory(key):
                self._drop(key)
        self.objects[key] = stored

    def _drop(self, key: str) -> None:
        for name in [key, *self._below(key)]:
            self.objects.pop(name, None)

    def _below(self, key: str) -> Sequence[str]:
        return [name for name in self.objects if name.startswith(key + "/")]

    def _is_directory(self, key: str) -> bool:
        found = self.objects.get(key)
        return found is not None and found.kind is EntryKind.DIRECTORY


async def _all_of(key: str, content: Content) -> bytes:
    async with aclosing(content.stream()) as stream:
        data = b"".join([block async for block in stream])
    if len(data) != content.size:
        raise Unreadable(f"{shown(key)}: {len(data)} bytes came instead of {content.size}")
    return data
