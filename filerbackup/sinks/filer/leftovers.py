"""Chunks that no file holds: noted before they are uploaded, and deleted when no file came of them.

A note is an entry of the target's filer that holds one chunk, `.filerbackup/tmp/<upload>/<number>`.
Deleting it with its data lets the filer delete the chunk, on all replicas, with its own rights, and
again later when a volume server is away; deleting it without leaves the chunk to the file. What a
killed process leaves is found at the next start.

A chunk is never deleted while it may be part of a file: when the filer did not answer whether a file
was created, the file is looked up later.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from filerbackup.errors import FilerBackupError, SinkError, SinkUnavailable
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import PAGE
from filerbackup.sinks.base import OWN_PREFIX
from filerbackup.sinks.filer.target import Target, as_sink_error

PATH_NAME = "filerbackup-path"
"""The extended attribute of a note: the path of the file that is written."""

_DIRECTORY = f"{OWN_PREFIX}/tmp"  # noqa: S108 - on the filer
_SETTLE_AFTER_S = 60.0
"""When a filer that did not answer has surely carried out what it was asked for, or never will."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Upload:
    """One file on its way: where its notes are, and the chunks that are not noted."""

    path: str
    directory: str
    notes: int = 0
    unnoted: list[pb.FileChunk] = field(default_factory=list)
    doubted_at: float = 0.0


class Leftovers:
    """Notes below the directory of a sink (an absolute path, "" for the root)."""

    def __init__(self, target: Target, root: str) -> None:
        self._target = target
        self._root = root
        self._directory = f"{root}/{_DIRECTORY}"
        self._doubted: list[Upload] = []
        self._is_swept = False
        self._sweeping = asyncio.Lock()

    def begin(self, path: str) -> Upload:
        """For the file at `path`; nothing is noted yet."""
        return Upload(path, f"{self._directory}/{secrets.token_hex(8)}")

    async def note(self, upload: Upload, chunk: pb.FileChunk) -> None:
        """Before the chunk is uploaded."""
        held = pb.FileChunk()
        held.CopyFrom(chunk)
        held.offset = 0
        now_s = int(time.time())
        entry = pb.Entry(
            attributes=pb.FuseAttributes(file_size=chunk.size, mtime=now_s, crtime=now_s, file_mode=0o600),
            chunks=[held],
            extended={PATH_NAME: upload.path.encode()},
        )
        upload.notes += 1
        await self._target.create(f"{upload.directory}/{upload.notes}", entry)

    async def check(self, upload: Upload) -> None:
        """Raise SinkUnavailable when another process has taken this upload for a dead one's."""
        if upload.notes and await self._target.lookup(upload.directory) is None:
            raise SinkUnavailable("another process has removed the chunks of this upload")

    async def keep(self, upload: Upload) -> None:
        """The file holds its chunks. Never fails: what cannot be removed now is removed later."""
        try:
            if upload.notes:
                await self._target.remove(upload.directory, tree=True, data=False)
        except SinkError as error:
            _log.info("notes of an upload stay for now: %s", error)
            self._doubt(upload)

    async def discard(self, upload: Upload) -> None:
        """No file holds its chunks, nor ever will. Never fails: what stays behind is in the log."""
        try:
            while upload.unnoted:
                await self.note(upload, upload.unnoted[-1])
                upload.unnoted.pop()
            if upload.notes:
                await self._target.remove(upload.directory, tree=True, data=True)
        except SinkError as error:
            _log.info("chunks of a broken upload stay for now: %s", error)
            self._doubt(upload)

    def doubt(self, upload: Upload, chunks: Sequence[pb.FileChunk]) -> None:
        """Nobody knows yet whether the file holds these chunks."""
        if not upload.notes:
            upload.unnoted.extend(chunks)
        self._doubt(upload)

    async def settle(self, path: str = "", *, min_age_s: float = _SETTLE_AFTER_S) -> None:
        """Find out about doubtful uploads; with `path`, of all at or below it, else of the old ones.

        Raises SinkUnavailable while the filer cannot be asked: what is in doubt must not be moved.
        """
        for upload in list(self._doubted):
            if path:
                if upload.path != path and not upload.path.startswith(path + "/"):
                    continue
            elif time.monotonic() - upload.doubted_at < min_age_s:
                continue
            kept = await self._is_kept(upload)
            self._doubted.remove(upload)
            await (self.keep(upload) if kept else self.discard(upload))

    async def sweep(self) -> None:
        """Remove what processes that are no more have left: the first call, others wait for that.

        For the one that may write alone, before it writes. Raises SinkError; the next call then tries again.
        """
        if not self._is_swept:
            async with self._sweeping:
                await self._sweep_once()

    async def _sweep_once(self) -> None:
        if not self._is_swept:
            await self._sweep()
            self._is_swept = True

    async def _sweep(self) -> None:
        async for message in self._entries(self._directory):
            directory = f"{self._directory}/{message.name}"
            path = ""
            async for note in self._entries(directory):
                path = note.extended[PATH_NAME].decode("utf-8", "replace") or "?"
                break
            upload = Upload(path, directory, notes=1)
            if not path:
                await self._target.remove(directory)
            elif path.startswith(f"{self._root}/"):
                kept = await self._is_kept(upload)
                await (self.keep(upload) if kept else self.discard(upload))

    # -- inside -----------------------------------------------------------------------------------

    def _doubt(self, upload: Upload) -> None:
        upload.doubted_at = time.monotonic()
        if upload not in self._doubted:
            self._doubted.append(upload)

    async def _is_kept(self, upload: Upload) -> bool:
        """Whether the file holds any chunk of the upload, and then all that it needs."""
        live = await self._target.lookup(upload.path)
        held = {chunk.file_id for chunk in live.chunks} if live is not None else set()
        if not held:
            return False
        if any(chunk.file_id in held for chunk in upload.unnoted):
            return True
        if not upload.notes:
            return False
        async for note in self._entries(upload.directory):
            if any(chunk.file_id in held for chunk in note.chunks):
                return True
        return False

    async def _entries(self, directory: str) -> AsyncIterator[pb.Entry]:
        after = ""
        while True:
            try:
                page = await self._target.client.list_page(directory, after, PAGE)
            except FilerBackupError as error:
                raise as_sink_error(error, self._target.address) from None
            for message in page:
                yield message
            if len(page) < PAGE:
                return
            after = page[-1].name
