"""The bytes of a file: chunks fetched ahead, put in order, holes filled, everything checked."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from filerbackup.errors import Unreadable
from filerbackup.events import Chunk, Entry
from filerbackup.source.checks import Verifier, md5_beside, md5_of, plausible_md5, stored_md5
from filerbackup.source.chunks import Interval
from filerbackup.source.manifests import resolved_intervals
from filerbackup.source.prefetch import Fetcher
from filerbackup.source.s3_etag import Part, PartVerifier, parts_of
from filerbackup.source.sse import DataKeys, NoKeys, Opener, is_sealed, kind_of
from filerbackup.source.volumes import PIECE_BYTES, Volumes

_log = logging.getLogger(__name__)

_ZEROS = bytes(1 << 20)
_LARGEST_FILE_BYTES = 1 << 50
_LARGEST_ENCRYPTED_BYTES = 256 << 20
"""It is decrypted in memory. A volume server takes no larger upload by default; a filer makes 4 MiB."""
_MANIFEST_MEMORY_BYTES = 8 << 20
_TINY_PIECES = 4
"""Pieces that are far below the largest size may be under way in this multiple of the prefetch."""
_NOT_THE_CLEAR_BYTES = "what was decrypted does not have the MD5 of the clear bytes that the filer gives"


_Check = Verifier | PartVerifier


class _Piece(NamedTuple):
    """What one request fetches. `cost` counts the bytes held while it is under way."""

    interval: Interval
    chunk_offset: int
    size: int
    cost: int


class FileContent:
    """The content of one entry; satisfies `filerbackup.content.Content`.

    Pieces of `piece_bytes`, `prefetch` of them, is what is fetched at once. A plain chunk of up to two
    pieces comes in one read, because a volume server checks its CRC only then; so do encrypted
    chunks, and compressed ones that fit. The length is checked always, the MD5 of the whole or of
    each chunk where the filer has one. Objects that the S3 gateway has encrypted are decrypted with
    `keys`, and are only what has the MD5s that the gateway gave their clear bytes.
    """

    __slots__ = ("_entry", "_is_sealed", "_keys", "_md5", "_piece_bytes", "_prefetch", "_proven", "_volumes")

    def __init__(
        self,
        entry: Entry,
        volumes: Volumes,
        *,
        keys: DataKeys | None = None,
        prefetch: int = 4,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._entry = entry
        self._volumes = volumes
        self._keys = keys
        self._is_sealed = is_sealed(entry)
        self._proven: dict[str, bytes] | None = None
        self._prefetch = prefetch
        self._piece_bytes = piece_bytes
        self._md5: bytes | None = None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._entry.size

    @property
    def md5(self) -> bytes:
        """The filer's MD5 of this content; empty when there is none, or it is out of date.

        Most of what is out of date shows at once; the rest only when everything has been read, and
        this becomes empty then: compare with it after reading.
        """
        if self._md5 is None:
            entry = self._entry
            if self._is_sealed:
                self._md5 = entry.md5
            elif entry.content:
                self._md5 = entry.md5 if md5_of(entry.content) == entry.md5 else b""
            else:
                self._md5 = plausible_md5(entry.md5, entry.size, entry.chunks)
        return self._md5

    @property
    def memory_bytes(self) -> int:
        """The most that one open stream holds, without the blocks that its reader keeps."""
        entry = self._entry
        if entry.content:
            return entry.size
        if any(chunk.is_manifest for chunk in entry.chunks):
            return self._budget + _MANIFEST_MEMORY_BYTES
        costs = [self._cost(chunk, chunk.size) for chunk in entry.chunks]
        pieces = [self._cost(chunk, min(chunk.size, self._step(chunk))) for chunk in entry.chunks]
        largest = max(pieces, default=0)
        held = min(sum(costs), max(self._budget, largest))
        # A piece is held twice while what came in bits is joined.
        return held + largest if held > largest else held

    async def read(self) -> bytes:
        """Everything at once, checked."""
        entry = self._entry
        if entry.content:
            return await self._inline()
        if len(entry.chunks) != 1 or not self._is_one_read(entry.chunks[0]):
            return b"".join([block async for block in self.stream()])
        self._refuse()
        data = await self._volumes.read(entry.chunks[0])
        expected = self.md5 or stored_md5(entry.chunks[0])
        if expected:
            found = await md5_beside(data)
            if found != expected:
                await self._arbitrate(found)
        return data

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order, checked before it ends."""
        entry = self._entry
        if entry.content or (len(entry.chunks) == 1 and self._is_one_read(entry.chunks[0])):
            data = await self.read()
            if data:
                yield data
            return
        self._refuse()
        verifier: _Check
        if self._is_sealed and not self.md5:
            verifier = PartVerifier(self._parts())
        else:
            # One digest a byte: of the whole where it can be trusted, else of each chunk.
            verifier = Verifier(whole=bool(self.md5), doubt=None if self.md5 else self._doubt)
        async with aclosing(self._verified(verifier)) as blocks:
            async for block in blocks:
                yield block
        found = await verifier.digest()
        if found != self.md5:
            await self._arbitrate(found)

    # -- what to refuse --------------------------------------------------------------------------

    def _refuse(self) -> None:
        entry = self._entry
        if entry.size > _LARGEST_FILE_BYTES:
            raise Unreadable(f"{entry.size} bytes cannot be the size of a file")
        if entry.remote_size > 0 and entry.size > 0:
            stored = max((chunk.offset + chunk.size for chunk in entry.chunks), default=0)
            if not entry.chunks:
                raise Unreadable("the content is only in remote storage: cache it on the filer first")
            if stored < entry.size == entry.remote_size:
                raise Unreadable("remote storage has a newer content: cache it on the filer first")
        for chunk in entry.chunks:
            _refuse_chunk(chunk)

    def _is_one_read(self, chunk: Chunk) -> bool:
        return (
            chunk.offset == 0
            and 0 < chunk.size == self._entry.size
            and not chunk.is_manifest
            and not self._is_sealed
            and (chunk.size <= self._step(chunk) or bool(chunk.cipher_key))
        )

    async def _inline(self) -> bytes:
        content = self._entry.content
        missing = self._entry.size - len(content)
        if missing > len(_ZEROS):
            raise Unreadable(f"{len(content)} bytes inside the entry cannot be a file of {self._entry.size}")
        if self._is_sealed:
            content = await self._opener().content(content)
            if not self.md5:
                verifier = PartVerifier(self._parts())
                await verifier.feed(Interval(0, len(content), None), content)
                await verifier.digest()
            elif md5_of(content) != self.md5:
                raise Unreadable(_NOT_THE_CLEAR_BYTES)
        return content + _ZEROS[:missing] if missing > 0 else content

    # -- the S3 gateway's encryption -------------------------------------------------------------

    def _opener(self) -> Opener:
        return Opener(self._entry.extended, self._keys or NoKeys())

    def _parts(self) -> Sequence[Part]:
        """What to compare with. Marks without any encrypted chunk may be left over, or all there is."""
        entry = self._entry
        parts = parts_of(entry)
        if not parts and entry.size and not any(chunk.sse_type for chunk in entry.chunks):
            raise Unreadable("marked as encrypted, but no chunk is, and no MD5 tells what is right")
        return parts

    # -- in order --------------------------------------------------------------------------------

    async def _verified(self, *verifiers: _Check) -> AsyncGenerator[bytes, None]:
        """Blocks that all have taken; exactly as many bytes as the entry has."""
        left = self._entry.size
        try:
            async with aclosing(self._blocks()) as blocks:
                async for interval, block in blocks:
                    for verifier in verifiers:
                        await verifier.feed(interval, block)
                    left -= len(block)
                    yield block
            for verifier in verifiers:
                await verifier.digest()
            if left:
                raise Unreadable(f"{self._entry.size - left} bytes were read of {self._entry.size}")
        finally:
            for verifier in verifiers:
                await verifier.close()

    async def _blocks(self) -> AsyncGenerator[tuple[Interval, bytes], None]:
        """Pieces in order, several under way at a time; holes as blocks of zeros."""
        fetcher = Fetcher(self._volumes, self._opener())
        window: deque[tuple[_Piece, asyncio.Task[bytes] | None]] = deque()
        held = 0
        pieces = self._pieces()
        try:
            coming = await anext(pieces, None)
            while coming or window:
                while coming and len(window) < self._prefetch * _TINY_PIECES:
                    if window and held + coming.cost > self._budget:
                        break
                    chunk = coming.interval.chunk
                    task = fetcher.start(chunk, coming.chunk_offset, coming.size) if chunk else None
                    window.append((coming, task))
                    held += coming.cost
                    coming = await anext(pieces, None)
                piece, task = window.popleft()
                if task is not None:
                    yield piece.interval, await task
                    held -= piece.cost
                    continue
                for at in range(0, piece.size, len(_ZEROS)):
                    yield piece.interval, _ZEROS[: piece.size - at]
        finally:
            await fetcher.close()
            await pieces.aclose()

    async def _pieces(self) -> AsyncGenerator[_Piece, None]:
        entry = self._entry
        intervals = resolved_intervals(entry.chunks, entry.size, self._volumes.read_stored)
        async with aclosing(intervals):
            async for interval in intervals:
                chunk = interval.chunk
                if chunk is None:
                    yield _Piece(interval, 0, interval.size, 0)
                    continue
                _refuse_chunk(chunk)
                if self._comes_whole(chunk, interval):
                    yield _Piece(
                        interval, interval.chunk_offset, interval.size, self._cost(chunk, chunk.size)
                    )
                    continue
                step = self._step(chunk)
                for at in range(0, interval.size, step):
                    size = min(step, interval.size - at)
                    yield _Piece(interval, interval.chunk_offset + at, size, size)

    # -- memory ----------------------------------------------------------------------------------

    @property
    def _budget(self) -> int:
        return self._prefetch * self._piece_bytes

    def _step(self, chunk: Chunk) -> int:
        """The longest range of a plain chunk that is read at once."""
        return self._piece_bytes * (2 if chunk.size <= 2 * self._piece_bytes <= self._budget else 1)

    def _comes_whole(self, chunk: Chunk, interval: Interval) -> bool:
        if chunk.cipher_key:
            return True
        return chunk.is_compressed and interval.is_whole_chunk and 2 * chunk.size <= self._budget

    def _cost(self, chunk: Chunk, size: int) -> int:
        """What is stored and what comes out of it are in memory side by side for a moment."""
        if chunk.cipher_key or (chunk.is_compressed and 2 * chunk.size <= self._budget):
            return 2 * chunk.size + (size if chunk.sse_type else 0)
        return 2 * size if chunk.sse_type else size

    # -- when a digest differs -------------------------------------------------------------------

    async def _doubt(self, chunk: Chunk, found: bytes) -> None:
        """A chunk is not what was stored: fine only when it was truncated since."""
        stored = await self._volumes.examine(chunk)
        if stored.md5 != stored_md5(chunk):
            if self._proven is None:
                self._proven = await self._proven_by_etag()
            if self._proven.get(chunk.file_id) == found:
                return
            raise Unreadable(f"chunk {chunk.file_id} is damaged: its MD5 is not what was stored")
        if stored.size <= chunk.size or stored.md5_of_chunk != found:
            raise Unreadable(f"chunk {chunk.file_id} was read twice with different bytes")

    async def _proven_by_etag(self) -> dict[str, bytes]:
        """The MD5s of chunks with a wrong e_tag, if the whole has the object's ETag; by file id.

        The gateway leaves the e_tag of the encrypted chunk on the one that it decrypts for a copy.
        """
        parts = parts_of(self._entry)
        found: dict[str, bytes] = {}
        if not parts:
            return found

        async def note(chunk: Chunk, md5: bytes) -> None:
            found[chunk.file_id] = md5

        chunks = Verifier(whole=False, doubt=note)
        try:
            async with aclosing(self._verified(PartVerifier(parts), chunks)) as blocks:
                async for _ in blocks:
                    pass
        except Unreadable:
            return {}
        return found

    async def _arbitrate(self, found: bytes) -> None:
        """What was read has another MD5 than the entry says. Read it again, checking each chunk.

        When every chunk is what was stored and the bytes are the same once more, the entry's MD5 is
        out of date. Not so for what was decrypted, whose chunks prove nothing.
        """
        if self._is_sealed:
            raise Unreadable(_NOT_THE_CLEAR_BYTES)
        verifier = Verifier(whole=True, doubt=self._doubt)
        async with aclosing(self._verified(verifier)) as blocks:
            async for _ in blocks:
                pass
        if await verifier.digest() != found:
            raise Unreadable("read twice with different bytes")
        if self._md5:
            _log.info("the filer's MD5 is out of date, every chunk was checked instead: %r", self._entry.path)
        self._md5 = b""


def _refuse_chunk(chunk: Chunk) -> None:
    if chunk.sse_type:
        kind_of(chunk.sse_type)
    if chunk.offset < 0 or chunk.offset + chunk.size > _LARGEST_FILE_BYTES:
        raise Unreadable(f"chunk {chunk.file_id[:60]!r} claims {chunk.size} bytes at {chunk.offset}")
    if chunk.cipher_key and chunk.size > _LARGEST_ENCRYPTED_BYTES:
        raise Unreadable(f"chunk {chunk.file_id[:60]!r} of {chunk.size} bytes is too long to be decrypted")
