"""What is in the sink, in the order of the sink protocol, lazily.

A directory's names are read and sorted at once (its order on disk is arbitrary); what they are is
looked up a few hundred at a time, so that a directory of 300,000 names costs its names in memory and
no long silence. No descriptor stays open between two steps.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from filerbackup.events import EntryKind
from filerbackup.sinks.base import OWN_PREFIX
from filerbackup.sinks.keys import TEMPORARY_PREFIX
from filerbackup.sinks.local.metadata import LocalListed, Metadata
from filerbackup.sinks.local.paths import open_directory, readable

_log = logging.getLogger(__name__)

_AT_ONCE = 512
_OWN = OWN_PREFIX.encode()
_TEMPORARY = TEMPORARY_PREFIX.encode()

InThread = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a blocking step in a worker thread."""


@dataclass(slots=True)
class _Range:
    """Which keys are wanted, as the bytes by which they sort."""

    prefix: bytes
    after: bytes

    def wants(self, sort_key: bytes) -> bool:
        return sort_key > self.after and sort_key.removesuffix(b"/").startswith(self.prefix)

    def may_hold(self, sort_key: bytes) -> bool:
        """Whether something wanted can be at this directory's key or below it."""
        related = sort_key.startswith(self.prefix) or self.prefix.startswith(sort_key)
        return related and (sort_key > self.after or self.after.startswith(sort_key))


@dataclass(slots=True)
class _Directory:
    """One directory on the way: the names still to look up, and those looked up."""

    path: bytes
    names: list[bytes] = field(default_factory=list)
    next_name: int = 0
    found: deque[LocalListed] = field(default_factory=deque)
    is_read: bool = False

    @property
    def is_done(self) -> bool:
        return self.is_read and not self.found and self.next_name >= len(self.names)


class Listing:
    """One listing below the root descriptor, which stays the caller's."""

    def __init__(self, root_fd: int, metadata: Metadata, prefix: bytes, after: bytes) -> None:
        self._root_fd = root_fd
        self._metadata = metadata
        self._range = _Range(prefix, after)
        self._skipped_odd_name = False

    async def entries(self, in_thread: InThread) -> AsyncGenerator[LocalListed, None]:
        """The objects in order. What vanishes meanwhile is left out; other errors are raised."""
        ways = [_Directory(self._range.prefix.rpartition(b"/")[0])]
        while ways:
            directory = ways[-1]
            if directory.is_done:
                ways.pop()
                continue
            if not directory.found:
                await in_thread(functools.partial(self._advance, directory))
                continue
            listed = directory.found.popleft()
            is_directory = listed.kind is EntryKind.DIRECTORY
            key = listed.key.encode()
            if self._range.wants(key + b"/" if is_directory else key):
                yield listed
            if is_directory:
                ways.append(_Directory(key))

    def _advance(self, directory: _Directory) -> None:
        """Read the names first, then look up some of them."""
        try:
            path_fd = open_directory(self._root_fd, directory.path)
        except FileNotFoundError:
            directory.is_read, directory.next_name = True, len(directory.names)
            return
        try:
            if not directory.is_read:
                directory.names = self._names(directory.path, path_fd)
                directory.is_read = True
            self._look_up(directory, path_fd)
        finally:
            os.close(path_fd)

    def _names(self, path: bytes, path_fd: int) -> list[bytes]:
        """The names that may matter, in order, each directory's with a slash behind."""
        above = path + b"/" if path else b""
        names: list[bytes] = []
        fd = readable(path_fd)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        name += b"/"
                        wanted = self._range.may_hold(above + name)
                    else:
                        wanted = self._range.wants(above + name)
                    if wanted and not self._hidden(path, name):
                        names.append(name)
        finally:
            os.close(fd)
        names.sort()
        return names

    def _look_up(self, directory: _Directory, path_fd: int) -> None:
        above = directory.path.decode() + "/" if directory.path else ""
        end = directory.next_name + _AT_ONCE
        for sort_name in directory.names[directory.next_name : end]:
            name = sort_name.removesuffix(b"/")
            try:
                listed = self._metadata.describe(above + name.decode(), name, path_fd)
            except FileNotFoundError:
                continue
            # What became a directory, or stopped being one, would now sort elsewhere: as if vanished.
            if (listed.kind is EntryKind.DIRECTORY) == sort_name.endswith(b"/"):
                directory.found.append(listed)
        directory.next_name = end

    def _hidden(self, path: bytes, sort_name: bytes) -> bool:
        if sort_name.startswith(_OWN):
            if not path and sort_name.removesuffix(b"/") == _OWN:
                return True
            if sort_name.startswith(_TEMPORARY):
                return True
        try:
            sort_name.decode()
        except UnicodeDecodeError:
            # No key can name it, so it is none of ours and nothing that could be swept.
            if not self._skipped_odd_name:
                self._skipped_odd_name = True
                _log.warning("a name that is not UTF-8 is left alone: %r in %r", sort_name, path)
            return True
        return False
