"""Reading chunks: which server to ask, what to do when it fails, and what all answers mean together.

A read is all or nothing: a replica that fails in the middle leaves nothing behind, the next one
starts again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from filerbackup.errors import (
    ChunkGone,
    FilerBackupError,
    SourceRefused,
    SourceUnreachable,
    Unreadable,
    UsageError,
    VolumeMissing,
)
from filerbackup.events import Chunk
from filerbackup.settings.model import SecuritySettings
from filerbackup.source.codec import CIPHER_OVERHEAD_BYTES, BadBytes, decrypt, inflate, is_gzip
from filerbackup.source.fetch import ChunkHttp, Longer, Miss, Verdict, volume_of
from filerbackup.source.locations import Locations, Lookup

T = TypeVar("T")

PIECE_BYTES = 4 << 20
"""The most that one ranged read asks for."""

_LARGEST_STORED_BYTES = 32 << 20
"""Of an encrypted chunk that was truncated: its size does not tell how much is stored."""
_TRUNCATED_AT_ONCE = 1
_WORTH_A_THREAD_BYTES = 256 << 10
_SUSPECT_S = 15.0
_PAUSE_S = 0.5
_SERVING_S = 60.0
_FILER_TRIES = 3


@dataclass(frozen=True, slots=True)
class Stored:
    """What a server holds for a chunk: its clear length, its MD5, and that of the chunk's part."""

    size: int
    md5: bytes
    md5_of_chunk: bytes


class Volumes:
    """Reads chunks from volume servers ("volume") or through filers ("filer").

    `filers` are `host:port` of their HTTP servers, needed for "filer" only. Every read raises
    ChunkGone, Unreadable, SourceRefused or SourceUnreachable. Shared by all replicators.
    """

    def __init__(
        self,
        lookup: Lookup,
        *,
        filers: Sequence[str] = (),
        read_via: str = "volume",
        security: SecuritySettings | None = None,
        connections_per_host: int = 32,
    ) -> None:
        if read_via not in ("volume", "filer") or (read_via == "filer" and not filers):
            raise UsageError(f"cannot read via {read_via!r} with {len(filers)} filers")
        self._via_filer = read_via == "filer"
        self._locations = Locations(lookup)
        self._filers = tuple(filers)
        self._http = ChunkHttp(
            security or SecuritySettings(),
            via_filer=self._via_filer,
            connections_per_host=connections_per_host,
        )
        self._truncated = asyncio.Semaphore(_TRUNCATED_AT_ONCE)
        self._suspect_until: dict[str, float] = {}
        self._served_at: dict[str, float] = {}

    async def read(self, chunk: Chunk, offset: int = 0, size: int | None = None) -> bytes:
        """Clear bytes of a chunk, by default all; exactly as many as asked for.

        An encrypted chunk is fetched and decrypted whole whatever the range is.
        """
        wanted = chunk.size - offset if size is None else size
        if chunk.cipher_key:
            whole = await self._anywhere(chunk, lambda server: self._encrypted(server, chunk))
            # What the tag vouches for may be longer: then the chunk was truncated after it was written.
            return whole if wanted == len(whole) else whole[offset : offset + wanted]
        if wanted != chunk.size:
            part = await self._anywhere(
                chunk, lambda server: self._http.range(server, chunk.file_id, offset, wanted)
            )
            return part.data
        fetch = self._compressed if chunk.is_compressed else self._plain
        return await self._anywhere(chunk, lambda server: fetch(server, chunk))

    async def read_stored(self, chunk: Chunk, limit: int) -> bytes:
        """All clear bytes that are stored for a chunk whose size says nothing of them: a manifest."""

        async def fetch(server: str) -> bytes:
            data = await self._stored_within(server, chunk, limit)
            if len(data) > limit:
                raise Miss(Verdict.BAD, f"{server} has more than {limit} bytes")
            return data

        return await self._anywhere(chunk, fetch)

    async def examine(self, chunk: Chunk) -> Stored:
        """Read all that is stored for a chunk that is not encrypted, holding one piece at a time."""
        md5_of_all, md5_of_chunk = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
        position, total = 0, 1
        while position < total:
            fetch = partial(
                self._http.range, file_id=chunk.file_id, offset=position, size=PIECE_BYTES, at_most=True
            )
            data, total = await self._anywhere(chunk, fetch)
            await asyncio.to_thread(md5_of_all.update, data)
            await asyncio.to_thread(md5_of_chunk.update, data[: max(chunk.size - position, 0)])
            position += len(data)
        return Stored(total, md5_of_all.digest(), md5_of_chunk.digest())

    async def try_out(self, file_id: str) -> None:
        """Read one byte of a chunk: whether we may. Raises what every read raises."""
        chunk = Chunk(file_id, offset=0, size=1, modified_ts_ns=0)
        await self._anywhere(chunk, lambda server: self._http.range(server, file_id, 0, 1, at_most=True))

    async def close(self) -> None:
        """Close connections and stop lookups."""
        await self._locations.close()
        await self._http.close()

    # -- one server ------------------------------------------------------------------------------

    async def _plain(self, server: str, chunk: Chunk) -> bytes:
        try:
            return await self._http.exact(server, chunk.file_id, chunk.size)
        except Longer:
            return await self._head(server, chunk)

    async def _compressed(self, server: str, chunk: Chunk) -> bytes:
        try:
            data = await self._stored(server, chunk, chunk.size)
        except Longer:
            return await self._head(server, chunk)
        if len(data) > chunk.size:
            return await self._head(server, chunk)
        if len(data) < chunk.size:
            raise Miss(Verdict.BAD, f"{server} has {len(data)} bytes of {chunk.size}")
        return data

    async def _encrypted(self, server: str, chunk: Chunk) -> bytes:
        try:
            data = await self._stored(server, chunk, chunk.size)
        except Longer:
            # Nobody has planned for so much memory.
            async with self._truncated:
                most = max(chunk.size, _LARGEST_STORED_BYTES)
                data = await self._stored_within(server, chunk, most)
        if len(data) < chunk.size:
            raise Miss(Verdict.BAD, f"{server} has {len(data)} bytes of {chunk.size}")
        return data

    async def _stored_within(self, server: str, chunk: Chunk, limit: int) -> bytes:
        try:
            return await self._stored(server, chunk, limit)
        except Longer:
            raise Miss(Verdict.BAD, f"{server} has more than a chunk of {limit} bytes can be") from None

    async def _head(self, server: str, chunk: Chunk) -> bytes:
        """Of more than the chunk's size: truncated, if the server stands by it when asked for a range."""
        return (await self._http.range(server, chunk.file_id, 0, chunk.size)).data

    async def _stored(self, server: str, chunk: Chunk, limit: int) -> bytes:
        """Everything in the clear, cut off beyond `limit` + 1 bytes if it was compressed.

        Raises Longer when more is stored than can come from so many bytes.
        """
        encoding = "gzip" if chunk.is_compressed and not chunk.cipher_key else "identity"
        body = await self._http.stored(server, chunk.file_id, _stored_limit(limit), encoding=encoding)
        data = body.data
        try:
            if chunk.cipher_key:
                data = await _maybe_in_thread(len(data), decrypt, data, chunk.cipher_key)
                packed = chunk.is_compressed and is_gzip(data)
            else:
                # A label is not needed for what has not the chunk's own length and can be gzip.
                unlabelled = chunk.is_compressed and len(data) != chunk.size and is_gzip(data)
                packed = body.labelled_gzip or unlabelled
            return await _maybe_in_thread(limit, inflate, data, limit) if packed else data
        except BadBytes as error:
            raise Miss(Verdict.BAD, f"{server}: {error}") from None

    # -- all of them -----------------------------------------------------------------------------

    async def _anywhere(self, chunk: Chunk, fetch: Callable[[str], Awaitable[T]]) -> T:
        """The first good answer of any server; asks for fresh locations before it gives up."""
        volume_id = volume_of(chunk.file_id)
        if volume_id is None:
            raise Unreadable(f"chunk {chunk.file_id[:60]!r} is no file id")
        servers = await self._servers(volume_id)
        misses: dict[str, Miss] = {}
        for server in self._in_order(servers):
            try:
                return await self._one(server, fetch)
            except Miss as miss:
                misses[server] = _light(miss)
        fresh = await self._again(volume_id, servers, misses)
        for server in self._in_order(fresh):
            try:
                return await self._one(server, fetch)
            except Miss as miss:
                misses[server] = _light(miss)
        raise await self._meaning(chunk, volume_id, misses)

    async def _one(self, server: str, fetch: Callable[[str], Awaitable[T]]) -> T:
        try:
            found = await fetch(server)
        except Miss as miss:
            if miss.verdict is Verdict.DOWN:
                self._suspect_until[server] = time.monotonic() + _SUSPECT_S
            raise
        self._served_at[server] = time.monotonic()
        if server in self._suspect_until:
            del self._suspect_until[server]
        return found

    async def _servers(self, volume_id: str) -> tuple[str, ...]:
        if self._via_filer:
            return self._filers
        return self._locations.cached(volume_id) or await self._locations.find(volume_id)

    def _in_order(self, servers: Sequence[str]) -> Sequence[str]:
        """Spread over the replicas; those that were down a moment ago come last."""
        if len(servers) < 2:
            return servers
        now = time.monotonic()
        shuffled = list(servers) if self._via_filer else random.sample(servers, len(servers))
        return sorted(shuffled, key=lambda server: self._suspect_until.get(server, 0.0) > now)

    async def _again(
        self, volume_id: str, servers: Sequence[str], misses: Mapping[str, Miss]
    ) -> Sequence[str]:
        """Whom to ask in the second and last round."""
        if not servers:
            return ()
        verdicts = {miss.verdict for miss in misses.values()}
        if self._via_filer:
            # Each passes the read on to any one replica, which may just have been the wrong one.
            gone = [server for server, miss in misses.items() if miss.verdict is Verdict.GONE]
            if gone:
                return gone[:1] * _FILER_TRIES
        passing = bool(verdicts & {Verdict.DOWN, Verdict.BROKEN})
        if passing:
            await asyncio.sleep(_PAUSE_S)
        if self._via_filer:
            return servers if passing else ()
        self._locations.forget(volume_id, servers)
        fresh = await self._locations.find(volume_id)
        return [server for server in fresh if server not in misses or passing]

    async def _meaning(self, chunk: Chunk, volume_id: str, misses: Mapping[str, Miss]) -> FilerBackupError:
        verdicts = {miss.verdict for miss in misses.values()}
        what = f"chunk {chunk.file_id}: " + "; ".join(str(miss) for miss in misses.values())
        nowhere = VolumeMissing(f"chunk {chunk.file_id}: no volume server has volume {volume_id}")
        if not misses:
            return nowhere
        if self._via_filer:
            # Any filer can answer for all; and it says 500 for a volume that it cannot find.
            verdicts = verdicts - {Verdict.DOWN, Verdict.BUSY} or verdicts
            if Verdict.DOWN in verdicts and not await self._locations.find(volume_id):
                return nowhere
        if Verdict.REFUSED in verdicts:
            hints = (miss.hint for miss in misses.values() if miss.verdict is Verdict.REFUSED)
            return SourceRefused(what, hint=next(hints))
        if verdicts & {Verdict.DOWN, Verdict.BUSY}:
            return SourceUnreachable(what)
        if Verdict.BROKEN in verdicts:
            return Unreadable(what) if self._serve_others(misses) else SourceUnreachable(what)
        if Verdict.BAD in verdicts:
            return Unreadable(what)
        return ChunkGone(what)

    def _serve_others(self, misses: Mapping[str, Miss]) -> bool:
        """Whether the servers that break over this chunk read others well: then it is the chunk."""
        since = time.monotonic() - _SERVING_S
        return all(
            self._served_at.get(server, 0.0) > since
            for server, miss in misses.items()
            if miss.verdict is Verdict.BROKEN
        )


def _light(miss: Miss) -> Miss:
    """Without the frames that hold on to what was read, while other servers are asked."""
    miss.__context__ = None
    return miss.with_traceback(None)


def _stored_limit(clear_size: int) -> int:
    """Generous: gzip may grow by a little."""
    return clear_size + clear_size // 64 + 4096 + CIPHER_OVERHEAD_BYTES


async def _maybe_in_thread(size: int, function: Callable[..., bytes], *arguments: object) -> bytes:
    if size < _WORTH_A_THREAD_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
