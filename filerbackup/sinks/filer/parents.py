"""The directories above a key: made before anything is put into them, and nothing else in their way.

The filer would make them by itself, with a mode taken from the file, and would turn a file that
stands there into a directory that keeps its bytes. Here a file in the way goes first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from filerbackup.errors import SinkRefused
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import is_directory
from filerbackup.sinks.filer.target import Target, parent_and_name

_DIRECTORY = 1 << 31
_UNTOLD_MODE = 0o700
"""Of a directory whose own entry has not come yet."""
_ABOVE_MODE = 0o755
_MOST_KNOWN = 20_000


class Parents:
    """Remembers which directories are there; `root` is the sink's (absolute, "" for the filer's own)."""

    def __init__(self, target: Target, root: str) -> None:
        self._target = target
        self._root = root
        self._known: set[str] = set()
        self._making: dict[str, asyncio.Task[None]] = {}

    async def make(self, path: str) -> None:
        """Make sure of all directories above `path`. Raises SinkRefused for a file at the root or above."""
        directory = parent_and_name(path)[0]
        if directory not in self._known:
            await self._directory(directory)

    def know(self, directory: str) -> None:
        """It was just written."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(directory)

    def forget(self, path: str, *, tree: bool = False) -> None:
        """It was removed, moved or became something else."""
        self._known.discard(path)
        if tree:
            below = path + "/"
            self._known = {known for known in self._known if not known.startswith(below)}

    async def close(self) -> None:
        """Wait for what is being made."""
        await asyncio.gather(*self._making.values(), return_exceptions=True)

    async def _directory(self, directory: str) -> None:
        if directory == "/" or directory in self._known:
            return
        task = self._making.get(directory)
        if task is None:
            task = self._making[directory] = _owned(self._make(directory))
            task.add_done_callback(lambda _: self._making.pop(directory, None))
        await asyncio.shield(task)

    async def _make(self, directory: str) -> None:
        await self._directory(parent_and_name(directory)[0])
        found = await self._target.lookup(directory)
        if found is not None and not is_directory(found):
            if not directory.startswith(self._root + "/"):
                raise SinkRefused(
                    f"{directory} on the target {self._target.address} is a file",
                    hint="choose another `directory` for [sink.filer], or move away what stands there",
                )
            await self._target.remove(directory)
            found = None
        if found is None:
            inside = directory.startswith(self._root + "/")
            now_ns = time.time_ns()
            attributes = pb.FuseAttributes(
                file_mode=_DIRECTORY | (_UNTOLD_MODE if inside else _ABOVE_MODE),
                mtime=now_ns // 1_000_000_000,
                mtime_ns=now_ns % 1_000_000_000,
                crtime=now_ns // 1_000_000_000,
            )
            # Its own entry may come at the same time: that counts.
            await self._target.create(
                directory, pb.Entry(is_directory=True, attributes=attributes), exclusive=True
            )
        self.know(directory)


def _owned(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name="make a directory")
    # Who waited may be gone; the next one who needs it tries again.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
