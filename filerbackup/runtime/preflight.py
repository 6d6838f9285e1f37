"""Before anything is copied: whether we may read what is to be copied.

A wrong signing key or certificate would else be met by every file, one by one, and for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from filerbackup.errors import FilerBackupError, SourceRefused
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.decode import chunk_from_pb

_log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
_TRY_S = 3.0
"""Of one file: what hangs leaves time for the others."""
_DIRECTORIES = 50
_ENTRIES = 200
"""So many are looked at for files with chunks; where there is none, the first file to come shows it."""
_VOLUMES = 3
"""One volume server with a fault of its own does not keep us from copying what is on the others."""


class Lister(Protocol):
    """What is needed of a filer."""

    async def list_some(self, directory: str, after: str, limit: int) -> tuple[list[pb.Entry], bool]:
        """See `FilerClient`."""
        ...


class Reader(Protocol):
    """What is needed of the volume servers."""

    async def try_out(self, file_id: str) -> None:
        """See `Volumes`."""
        ...


async def require_reads(filer: Lister, volumes: Reader, root: str) -> None:
    """Read one byte each of a few files below `root`, until one could be read.

    Raises SourceRefused when some may not be read and none could be; nothing else. What is down or
    gone just now may well work when it is needed.
    """
    refused: SourceRefused | None = None
    tried: set[str] = set()
    try:
        async with asyncio.timeout(_PATIENCE_S), aclosing(_chunks(filer, root)) as chunks:
            async for file_id in chunks:
                volume = file_id.partition(",")[0]
                if volume in tried:
                    continue
                tried.add(volume)
                try:
                    async with asyncio.timeout(_TRY_S):
                        await volumes.try_out(file_id)
                    return
                except SourceRefused as error:
                    refused = refused or error
                except (FilerBackupError, TimeoutError) as error:
                    _log.debug("a file could not be tried out", extra={"err": str(error)})
                if len(tried) == _VOLUMES:
                    break
    except (FilerBackupError, TimeoutError) as error:
        _log.debug("not all files could be tried out", extra={"err": str(error)})
    if refused is not None:
        raise refused


async def _chunks(filer: Lister, root: str) -> AsyncGenerator[str, None]:
    """File ids of the tree's first files."""
    directories = [root]
    for _ in range(_DIRECTORIES):
        if not directories:
            return
        directory = directories.pop()
        entries, _ = await filer.list_some(directory, "", _ENTRIES)
        for entry in entries:
            for chunk in entry.chunks[:1]:
                yield chunk_from_pb(chunk).file_id
        below = [entry.name for entry in entries if entry.is_directory]
        directories += [f"{directory.rstrip('/')}/{name}" for name in reversed(below)]
