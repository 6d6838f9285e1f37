"""The sink protocol on a directory: keys in, threads for all that blocks, errors of the tree out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from filerbackup.content import Content
from filerbackup.errors import ObjectRejected, SinkUnavailable, Unreadable, UsageError
from filerbackup.events import Entry, EntryKind
from filerbackup.settings.model import LocalSettings
from filerbackup.sinks.base import OWN_PREFIX, Capabilities, Listed, SinkIdentity
from filerbackup.sinks.keys import check_key, check_own_key, shown
from filerbackup.sinks.local.durability import FlushRecord
from filerbackup.sinks.local.listing import Listing
from filerbackup.sinks.local.metadata import LocalListed
from filerbackup.sinks.local.problems import check_lengths, check_size, open_problem, problem
from filerbackup.sinks.local.threads import Workers, ended
from filerbackup.sinks.local.tree import Tree, Unfinished

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_SMALL_BYTES = 256 << 10
"""Up to here a file is read whole and written in one step; above, blocks are gathered up to it."""
_DOUBTFUL_BYTES = 1 << 30
"""From here on it is asked whether the file system is large enough at all."""
_READ_BYTES = 1 << 20
_REMOVALS_AT_ONCE = 1000
_THREADS = 64


class LocalSink:
    """Copies in a directory of this machine.

    All file system calls run in threads of its own, as many as operations may run at once. After a
    SinkUnavailable from `flush` that says data was lost, every call fails until `open`; what was
    written since the last good flush has to be written again.

    `read` of a symlink gives its target.
    """

    def __init__(self, settings: LocalSettings) -> None:
        """Raises UsageError when the directory is missing or is the root directory."""
        if settings.directory.strip("/") == "" or "\0" in settings.directory:
            raise UsageError(f"[sink.{settings.name}] directory: name a directory that is only for copies")
        self._directory = os.path.abspath(settings.directory)  # noqa: PTH100 - symlinks stay as they are
        self._threads = max(1, min(settings.concurrency or _THREADS, _THREADS))
        self._keep_set_id = settings.keep_set_id
        self.may_change: Callable[[], None] = lambda: None
        self._workers: Workers | None = None
        self._tree: Tree | None = None
        self._record: FlushRecord | None = None

    @property
    def identity(self) -> SinkIdentity:
        """The directory's absolute path."""
        return SinkIdentity(kind="local", endpoint="", container="", directory=self._directory)

    @property
    def capabilities(self) -> Capabilities:
        """Everything that a POSIX directory can do."""
        return Capabilities(
            directories=True,
            symlinks=True,
            move=True,
            move_tree=True,
            write_buffer_bytes=_SMALL_BYTES,
            update=True,
        )

    async def open(self) -> None:
        """Make the directory if need be, and prove that it may be written.

        Raises SinkRefused, SinkUnavailable.
        """
        await self.close()
        workers = Workers(self._threads)
        try:
            tree = await self._new_tree(workers)
        except BaseException:
            await workers.close()
            raise
        tree.asks(self.may_change)
        self._workers, self._tree = workers, tree
        if tree.is_open_to_all:
            _log.warning("%s may be written by every user of this machine: chmod o-w", self._directory)
        if tree.metadata.folds_case:
            _log.warning("%s: names that differ only in case overwrite each other there", self._directory)

    async def _new_tree(self, workers: Workers) -> Tree:
        step = functools.partial(_open_tree, self._directory, self._record, keep_set_id=self._keep_set_id)
        try:
            return await workers.short(step, undo=Tree.close)
        except OSError as error:
            raise open_problem(error, self._directory) from error

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        """See the protocol. Parents that the source has not told of yet are made for their owner only."""
        tree, path = self._resolved(key)
        match entry.kind:
            case EntryKind.FILE if content.size <= _SMALL_BYTES:
                data = await content.read()
                _check_length(key, len(data), content)
                await self._short(tree, key, functools.partial(tree.write_small, path, entry, data))
            case EntryKind.FILE:
                await self._write_stream(tree, key, entry, content)
            case EntryKind.DIRECTORY:
                await self._short(tree, key, functools.partial(tree.write_directory, path, entry))
            case EntryKind.SYMLINK:
                target = _target(key, entry)
                await self._short(tree, key, functools.partial(tree.write_symlink, path, entry, target))
            case EntryKind.SPECIAL:
                raise ObjectRejected(f"{shown(key)} is a device, a pipe or a socket")

    async def _write_stream(self, tree: Tree, key: str, entry: Entry, content: Content) -> None:
        if content.size > _DOUBTFUL_BYTES:
            await self._short(tree, key, functools.partial(check_size, key, content.size, self._directory))
        job = functools.partial(Unfinished, tree, key.encode(), entry)
        unfinished = await self._short(tree, key, job, undo=Unfinished.discard)
        try:
            blocks: list[bytes] = []
            held = written = 0
            async with aclosing(content.stream()) as stream:
                async for block in stream:
                    blocks.append(block)
                    held += len(block)
                    if held >= _SMALL_BYTES:
                        await self._long(tree, key, functools.partial(unfinished.append, blocks))
                        written += held
                        blocks, held = [], 0
            _check_length(key, written + held, content)
            await self._long(tree, key, functools.partial(unfinished.publish, blocks))
        finally:
            if not unfinished.is_published:
                await self._discard(tree, key, unfinished)

    async def _discard(self, tree: Tree, key: str, unfinished: Unfinished) -> None:
        """When the sink was closed meanwhile, the file is gone, but for the descriptor."""
        try:
            await self._short(tree, key, unfinished.discard)
        finally:
            unfinished.close()

    async def delete(self, key: str) -> None:
        """See the protocol. A directory that is not empty stays."""
        tree, path = self._resolved(key)
        await self._short(tree, key, functools.partial(tree.remove, path))

    async def delete_tree(self, key: str) -> None:
        """See the protocol."""
        tree, path = self._resolved(key)
        steps = tree.removal(path)
        try:
            while await self._long(tree, key, functools.partial(_advance, steps)):
                pass
        finally:
            steps.close()

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        """See the protocol. What is there counts as equal as in `matches`."""
        tree, old = self._resolved(old_key)
        _, new = self._resolved(new_key)
        return await self._short(tree, new_key, functools.partial(tree.move, old, new, entry))

    async def update(self, key: str, entry: Entry) -> bool:
        """See the protocol. The content is known by its version; without one, False."""
        tree, path = self._resolved(key)
        return await self._short(tree, key, functools.partial(tree.update, path, entry))

    async def stat(self, key: str) -> Listed | None:
        """See the protocol."""
        tree, path = self._resolved(key)
        return await self._short(tree, key, functools.partial(tree.look, path))

    async def matches(self, listed: Listed, entry: Entry, *, thorough: bool = False) -> bool:
        """Compares kind, size, modified time, version, mode, owner and symlink target.

        Of these, what the file system can keep. A file that may have lost bytes in a power loss
        matches nothing.
        """
        tree, path = self._resolved(listed.key)
        if isinstance(listed, LocalListed):
            return tree.matches(listed, entry)
        found = await self._short(tree, listed.key, functools.partial(tree.look, path))
        return found is not None and tree.matches(found, entry)

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See the protocol. A directory is no object; a symlink's bytes are its target."""
        tree, path = self._resolved(key)
        job = functools.partial(_open_to_read, tree, path)
        opened = await self._short(tree, key, job, undo=_close_file)
        if opened is None:
            raise FileNotFoundError(key)
        end = None if length is None else offset + length
        if isinstance(opened, bytes):
            if opened[offset:end]:
                yield opened[offset:end]
            return
        try:
            while end is None or offset < end:
                at_most = _READ_BYTES if end is None else min(_READ_BYTES, end - offset)
                block = await self._long(tree, key, functools.partial(os.pread, opened, at_most, offset))
                if not block:
                    return
                offset += len(block)
                yield block
        finally:
            os.close(opened)

    async def read_own(self, key: str) -> bytes | None:
        """See the protocol."""
        check_own_key(key)
        tree = self._opened()
        return await self._long(tree, key, functools.partial(tree.read_own, key.encode()))

    async def write_own(self, key: str, data: bytes) -> None:
        """See the protocol."""
        check_own_key(key)
        tree = self._opened()
        await self._long(tree, key, functools.partial(tree.write_own, key.encode(), data))

    async def flush(self) -> None:
        """See the protocol: one syncfs(2) for everything, where the system has a good one.

        Raises SinkUnavailable. When it says that data could not be stored, what was written since
        the last flush is lost, and every call fails until `open`.
        """
        tree = self._opened()
        await self._long(tree, "", tree.flusher.flush)

    async def close(self) -> None:
        """Wait for what runs, remove the temporary files, close every descriptor. Flushes nothing."""
        workers, tree = self._workers, self._tree
        self._workers = self._tree = None
        if workers is None or tree is None:
            return
        self._record = tree.flusher.record
        await ended(asyncio.create_task(_shut_down(workers, tree)))

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncGenerator[Listed, None]:
        """See the protocol. Names that are not UTF-8 are no keys and are left out."""
        tree = self._opened()
        if prefix.startswith(OWN_PREFIX + "/"):
            return
        listing = Listing(tree.root_fd, tree.metadata, prefix.encode(), start_after.encode())
        in_thread = functools.partial(self._long, tree, prefix)
        async with aclosing(listing.entries(in_thread)) as entries:
            async for listed in entries:
                yield listed

    def _opened(self) -> Tree:
        if self._tree is None:
            raise SinkUnavailable(f"the backup directory {self._directory} is not open")
        self._tree.flusher.check()
        return self._tree

    def _resolved(self, key: str) -> tuple[Tree, bytes]:
        """The open directory, and the key as a path in it. Raises ObjectRejected for a bad key."""
        check_key(key)
        tree = self._opened()
        path = key.encode()
        if len(path) > tree.name_max:
            check_lengths(key, path, tree.name_max)
        return tree, path

    async def _short(
        self,
        tree: Tree,
        key: str,
        step: Callable[[], _T],
        undo: Callable[[_T], None] | None = None,
    ) -> _T:
        """Run a step of a few system calls in a thread and translate its errors."""
        workers = self._workers_of(tree)
        try:
            return await workers.short(step, undo)
        except OSError as error:
            raise problem(error, self._directory, key) from error

    async def _long(self, tree: Tree, key: str, step: Callable[[], _T]) -> _T:
        """The same for a step that may take its time."""
        workers = self._workers_of(tree)
        try:
            return await workers.long(step)
        except OSError as error:
            raise problem(error, self._directory, key) from error

    def _workers_of(self, tree: Tree) -> Workers:
        """A step for a tree that was closed meanwhile must not run: its descriptors are others' now."""
        if self._workers is None or tree is not self._tree:
            raise SinkUnavailable(f"the backup directory {self._directory} was closed meanwhile")
        tree.flusher.check()
        return self._workers


def _open_tree(directory: str, record: FlushRecord | None, *, keep_set_id: bool) -> Tree:
    _make_place(Path(directory))
    return Tree(directory, record, keep_set_id=keep_set_id)


def _make_place(directory: Path) -> None:
    """Make what is missing of the way, all of it for this process's user only, whatever the umask."""
    missing = []
    for path in (directory, *directory.parents):
        if path.exists():
            break
        missing.append(path)
    for path in reversed(missing):
        try:
            path.mkdir(0o700)
        except FileExistsError:
            if not path.is_dir():
                raise


async def _shut_down(workers: Workers, tree: Tree) -> None:
    await workers.close()
    with contextlib.suppress(OSError):
        await asyncio.to_thread(tree.close)


def _open_to_read(tree: Tree, path: bytes) -> int | bytes | None:
    try:
        return tree.open_file(path)
    except FileNotFoundError:
        return None


def _close_file(opened: int | bytes | None) -> None:
    if isinstance(opened, int):
        os.close(opened)


def _advance(steps: Iterator[None]) -> bool:
    """Some removals; False when there is nothing left to do."""
    return sum(1 for _ in itertools.islice(steps, _REMOVALS_AT_ONCE)) == _REMOVALS_AT_ONCE


def _check_length(key: str, length: int, content: Content) -> None:
    if length != content.size:
        raise Unreadable(f"{shown(key)}: {length} bytes came instead of {content.size}")


def _target(key: str, entry: Entry) -> bytes:
    target = entry.symlink_target
    if not target or "\0" in target:
        raise ObjectRejected(f"{shown(key)} is a symlink whose target is empty or holds a NUL character")
    try:
        return target.encode()
    except UnicodeEncodeError as error:
        raise ObjectRejected(f"{shown(key)} is a symlink whose target is not valid Unicode") from error
