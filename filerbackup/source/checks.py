"""Digests of what is read, and how far the filer's own digests can be trusted.

What is known of weed 4.48 and its source:

- The filer's HTTP API and the S3 gateway set `attributes.md5` with the whole content, and remove it
  when they append or write at an offset. A mount never touches it: after a write, a truncation or
  `open(O_TRUNC)` through a mount it describes what the file once was.
- `e_tag` of a chunk is base64 of the MD5 of its clear bytes, put there by whoever stored it, empty
  for an encrypted one. A truncation through a mount shortens the chunk's `size` and nothing else.
- A volume server checks its CRC only when a whole chunk is read (then it answers 500 or hangs up);
  a range is served as it is on the disk, damaged or not. So digests are what finds a rotten disk.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

from filerbackup.events import Chunk
from filerbackup.source.chunks import Interval

Doubt = Callable[[Chunk, bytes], Awaitable[None]]
"""Called with a chunk and the MD5 of what was read of it, when its e_tag says otherwise; may raise."""

_WORTH_A_THREAD_BYTES = 256 << 10
_MD5_BYTES = 16
_MD5_OF_NOTHING = hashlib.md5(b"", usedforsecurity=False).digest()


def stored_md5(chunk: Chunk) -> bytes:
    """The MD5 of a chunk's clear bytes as they were stored, or empty when it is not known."""
    if chunk.cipher_key or chunk.sse_type:
        return b""
    try:
        match len(chunk.e_tag):
            case 24:
                found = base64.b64decode(chunk.e_tag, validate=True)
            case 32:
                found = bytes.fromhex(chunk.e_tag)
            case _:
                return b""
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) == _MD5_BYTES else b""


def plausible_md5(md5: bytes, size: int, chunks: Sequence[Chunk]) -> bytes:
    """An entry's MD5, or empty when its chunks show that it may be of an earlier content.

    Who writes a whole file and its MD5 leaves pieces of one size, side by side. One piece has the
    MD5 of the file. Anything else was changed since.
    """
    if not md5:
        return b""
    if not chunks:
        return md5 if size == 0 and md5 == _MD5_OF_NOTHING else b""
    if len(chunks) == 1 and not chunks[0].is_manifest and stored_md5(chunks[0]) not in (b"", md5):
        return b""
    ordered = sorted(chunks, key=lambda chunk: chunk.offset) if len(chunks) > 1 else chunks
    if ordered[0].offset != 0 or ordered[-1].offset + ordered[-1].size != size:
        return b""
    if any(one.offset + one.size != other.offset for one, other in pairwise(ordered)):
        return b""
    if len({chunk.size for chunk in ordered[:-1] if not chunk.is_manifest}) > 1:
        return b""
    return md5


def md5_of(data: bytes) -> bytes:
    """For comparing with the filer's digests, not for security."""
    return hashlib.md5(data, usedforsecurity=False).digest()


async def md5_beside(data: bytes) -> bytes:
    """The same, in a thread when it would hold up the loop."""
    if len(data) < _WORTH_A_THREAD_BYTES:
        return md5_of(data)
    return await asyncio.to_thread(md5_of, data)


class Verifier:
    """Hashes blocks of a file in order, large ones in a thread while the next is on its way.

    `whole`: make the digest of everything. `doubt`, if given: check each chunk that is shown from
    its first to its last byte against its own digest.
    """

    def __init__(self, *, whole: bool, doubt: Doubt | None) -> None:
        self._whole = hashlib.md5(usedforsecurity=False) if whole else None
        self._doubt = doubt
        self._chunk_hash = hashlib.md5(usedforsecurity=False)
        self._chunk_left = 0
        self._ended: tuple[Chunk, bytes] | None = None
        self._pending: asyncio.Future[None] | None = None

    async def feed(self, interval: Interval, block: bytes) -> None:
        """The next block; all of an interval come in order. Raises what `doubt` raises."""
        await self._settle()
        hashes = [self._whole] if self._whole else []
        if self._doubt and interval.chunk and interval.is_whole_chunk:
            expected = stored_md5(interval.chunk)
            if expected:
                if self._chunk_left == 0:
                    self._chunk_hash = hashlib.md5(usedforsecurity=False)
                    self._chunk_left = interval.size
                self._chunk_left -= len(block)
                hashes.append(self._chunk_hash)
                if self._chunk_left == 0:
                    self._ended = (interval.chunk, expected)
        if len(block) < _WORTH_A_THREAD_BYTES:
            _update(hashes, block)
        elif hashes:
            loop = asyncio.get_running_loop()
            self._pending = loop.run_in_executor(None, _update, hashes, block)

    async def digest(self) -> bytes:
        """Of everything, or empty when that was not wanted. Raises what `doubt` raises."""
        await self._settle()
        return self._whole.digest() if self._whole else b""

    async def close(self) -> None:
        """Wait for the thread."""
        if self._pending is not None:
            await self._pending
            self._pending = None

    async def _settle(self) -> None:
        await self.close()
        if self._ended is None:
            return
        (chunk, expected), self._ended = self._ended, None
        found = self._chunk_hash.digest()
        if found != expected and self._doubt:
            await self._doubt(chunk, found)


def _update(hashes: Sequence[hashlib._Hash], block: bytes) -> None:
    for one in hashes:
        one.update(block)
