"""The bytes of a file on the target, chunk by chunk from its volume servers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.filer.fileid import file_id_of, parsed
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.sinks.filer.attributes import size_of
from filerbackup.sinks.filer.needles import Needles
from filerbackup.sinks.filer.target import Target

PIECE_BYTES = 4 << 20
_LARGEST_NEEDLE_BYTES = 256 << 20
_CIPHER_OVERHEAD_BYTES = 28
_NONCE_BYTES = 12
_KEEP_S = 600.0
_MOST_KEPT = 10_000
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Visible:
    """Bytes `start` to `end` of the file are those of the chunk from `start - chunk.offset` on."""

    start: int
    end: int
    chunk: pb.FileChunk


def visible(chunks: Iterable[pb.FileChunk]) -> list[Visible]:
    """Which bytes of which chunk count, in order: where chunks overlap, those of the newer one.

    Chunks of ours lie side by side; others come about when somebody writes into the copy.
    """
    ordered = sorted(chunks, key=lambda each: each.offset)
    if all(one.offset + one.size <= other.offset for one, other in pairwise(ordered)):
        return [Visible(each.offset, each.offset + each.size, each) for each in ordered if each.size]
    found: list[Visible] = []
    for chunk in sorted(ordered, key=lambda each: each.modified_ts_ns):
        start, end = chunk.offset, chunk.offset + chunk.size
        kept: list[Visible] = []
        for other in found:
            if other.start < start:
                kept.append(Visible(other.start, min(other.end, start), other.chunk))
            if other.end > end:
                kept.append(Visible(max(other.start, end), other.end, other.chunk))
        found = sorted([*kept, Visible(start, end, chunk)], key=lambda each: each.start)
    return [each for each in found if each.start < each.end]


class Reader:
    """Reads files of the target. Raises SinkUnavailable, SinkRefused."""

    def __init__(self, target: Target, needles: Needles) -> None:
        self._target, self._needles = target, needles
        self._servers: dict[str, tuple[float, Sequence[str]]] = {}

    async def blocks(self, message: pb.Entry, offset: int, length: int | None) -> AsyncGenerator[bytes, None]:
        """A range of a file, by default all; holes are zeros."""
        size = size_of(message)
        end = size if length is None else min(size, offset + length)
        if message.content:
            data = message.content[offset:end]
            if data:
                yield data
            return
        position = offset
        for part in visible([chunk async for chunk in self._resolved(message.chunks, offset, end, 0)]):
            if part.end <= position or part.start >= end:
                continue
            for zeros in _zeros(part.start - position):
                yield zeros
            position = max(position, part.start)
            while position < min(part.end, end):
                step = min(PIECE_BYTES, part.end - position, end - position)
                data = await self._piece(part.chunk, position - part.chunk.offset, step)
                yield data
                position += len(data)
        for zeros in _zeros(end - position):
            yield zeros

    async def _resolved(
        self, chunks: Iterable[pb.FileChunk], start: int, end: int, depth: int
    ) -> AsyncGenerator[pb.FileChunk, None]:
        for chunk in chunks:
            if not chunk.is_chunk_manifest:
                yield chunk
            elif chunk.offset < end and chunk.offset + chunk.size > start:
                if depth >= _DEEPEST:
                    raise SinkUnavailable("manifests of chunks are nested too deeply")
                listed = pb.FileChunkManifest()
                try:
                    listed.ParseFromString(await self._whole(chunk, _LARGEST_NEEDLE_BYTES))
                except ValueError as error:
                    raise SinkUnavailable(f"chunk {chunk.file_id} is no manifest: {error}") from None
                async for each in self._resolved(listed.chunks, start, end, depth + 1):
                    yield each

    async def _piece(self, chunk: pb.FileChunk, offset: int, size: int) -> bytes:
        if chunk.sse_type:
            raise SinkUnavailable("somebody replaced the copy by an object under server-side encryption")
        if chunk.cipher_key:
            data = (await self._whole(chunk, chunk.size))[offset : offset + size]
        else:
            data = await self._anywhere(chunk, offset, size, whole=False)
        if len(data) != size:
            raise SinkUnavailable(f"chunk {chunk.file_id} has only {len(data)} of {size} bytes at {offset}")
        return data

    async def _whole(self, chunk: pb.FileChunk, limit: int) -> bytes:
        data = await self._anywhere(chunk, 0, limit + _CIPHER_OVERHEAD_BYTES, whole=True)
        if not chunk.cipher_key:
            return data
        if chunk.is_compressed:
            raise SinkUnavailable("somebody replaced the copy by one that is compressed and encrypted")
        try:
            return AESGCM(chunk.cipher_key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            raise SinkUnavailable(f"chunk {chunk.file_id} cannot be decrypted") from None

    async def _anywhere(self, chunk: pb.FileChunk, offset: int, size: int, *, whole: bool) -> bytes:
        try:
            file_id = chunk.file_id or _joined(chunk.fid)
            volume = str(parsed(file_id)[0])
        except ValueError as error:
            raise SinkUnavailable(str(error)) from None
        problem: SinkError = SinkUnavailable(f"no volume server of the target has volume {volume}")
        for server in await self._servers_of(volume):
            try:
                return await self._needles.get(server, file_id, offset, size, whole=whole)
            except SinkError as error:
                problem = error
        self._servers.pop(volume, None)
        raise problem

    async def _servers_of(self, volume: str) -> Sequence[str]:
        until, servers = self._servers.get(volume, (0.0, ()))
        if until < time.monotonic():
            servers = (await self._target.lookup_volumes([volume])).get(volume, ())
            if len(self._servers) >= _MOST_KEPT:
                self._servers.clear()
            self._servers[volume] = (time.monotonic() + _KEEP_S, servers)
        return servers


def _joined(fid: pb.FileId) -> str:
    return file_id_of(fid.volume_id, fid.file_key, fid.cookie)


def _zeros(size: int) -> Iterable[bytes]:
    for at in range(0, size, PIECE_BYTES):
        yield bytes(min(PIECE_BYTES, size - at))
