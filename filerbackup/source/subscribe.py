"""The filer's metadata stream: decoded, in batches, with a deadline on silence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Sequence

import grpc
import grpc.aio

from filerbackup.errors import SourceUnreachable
from filerbackup.events import Delete, Event, Heartbeat, Marker, Rename, Upsert
from filerbackup.filer.client import FilerClient, describe, is_too_large
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.decode import chunk_from_pb, entry_from_pb

SILENCE_S = 30.0
"""A caught-up filer sends a heartbeat every 5 s; one that is silent for this long is gone."""


MOST_AT_ONCE = 4096
"""Events and their chunks in one batch."""


class Subscription:
    """Opens the stream again and again, each time with a higher epoch of the same client id.

    The filer ends an older stream of the same client when a newer epoch comes, and refuses one that
    is not newer.
    """

    def __init__(self, client: FilerClient, name: str, path_prefix: str) -> None:
        self._client = client
        self._name = name
        self._prefix = path_prefix
        self._client_id = random.randrange(1, 1 << 31)
        self._epoch = 0
        self._batching = True

    async def events(self, since_ns: int, until_ns: int | None) -> AsyncGenerator[Sequence[Event], None]:
        """Batches after `since_ns`, up to `until_ns` if given. Raises SourceUnreachable."""
        self._epoch += 1
        address = self._client.current
        stub = self._client.stub(address)
        call = stub.SubscribeMetadata(self._request(since_ns, until_ns or 0))
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    response = await call.read()
                if not isinstance(response, pb.SubscribeMetadataResponse):
                    break
                for batch in _batches(_events(response)):
                    yield batch
        except TimeoutError:
            self._client.abandon(address, stub)
            self._client.move_on(address)
            raise SourceUnreachable(
                f"filer {address.grpc}: the stream was silent for {SILENCE_S:.0f} s"
            ) from None
        except grpc.aio.AioRpcError as error:
            if not is_too_large(error):
                self._client.move_on(address)
            elif self._batching:
                # Large entries, many of them in one message: one at a time is slower and always fits.
                self._batching = False
            else:
                self._client.expect_large(address, stub)
            raise SourceUnreachable(describe(address, error)) from None
        finally:
            call.cancel()
        if until_ns is None:
            raise SourceUnreachable(f"filer {address.grpc} ended the stream")

    def _request(self, since_ns: int, until_ns: int) -> pb.SubscribeMetadataRequest:
        return pb.SubscribeMetadataRequest(
            client_name=self._name,
            path_prefix=self._prefix,
            since_ns=since_ns,
            until_ns=until_ns,
            client_id=self._client_id,
            client_epoch=self._epoch,
            client_supports_batching=self._batching,
            client_supports_idle_heartbeat=True,
        )


def _batches(events: Iterator[Event]) -> Iterator[Sequence[Event]]:
    """Parts of what came at once: decoded, chunks take five times the memory."""
    batch: list[Event] = []
    size = 0
    for event in events:
        batch.append(event)
        size += 1 + _chunks_of(event)
        if size >= MOST_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _chunks_of(event: Event) -> int:
    match event:
        case Upsert(entry=entry) | Delete(entry=entry):
            return len(entry.chunks)
        case Rename(old=old, new=new):
            return len(old.chunks) + len(new.chunks)
        case _:
            return 0


def _events(response: pb.SubscribeMetadataResponse) -> Iterator[Event]:
    """The envelope's own event first, then those that were packed behind it."""
    if response.HasField("event_notification"):
        yield from _event(response)
    elif response.ts_ns > 0:
        yield Heartbeat(response.ts_ns)
    for packed in response.events:
        yield from _event(packed)


def _event(response: pb.SubscribeMetadataResponse) -> Iterator[Event]:
    note = response.event_notification
    has_old, has_new = note.HasField("old_entry"), note.HasField("new_entry")
    if not has_old and not has_new:
        if response.ts_ns > 0:
            yield Marker(response.ts_ns)
        return
    directory = response.directory
    if not has_new:
        yield Delete(response.ts_ns, entry_from_pb(directory, note.old_entry))
        return
    new = entry_from_pb(note.new_parent_path or directory, note.new_entry)
    if has_old and (
        note.old_entry.name != note.new_entry.name or note.new_parent_path not in ("", directory)
    ):
        yield Rename(response.ts_ns, entry_from_pb(directory, note.old_entry), new)
    elif has_old and _was_uncached(note.old_entry, note.new_entry):
        yield Marker(response.ts_ns)
    else:
        same = has_old and _has_same_content(note.old_entry, note.new_entry)
        yield Upsert(response.ts_ns, new, same, is_new=not has_old)


def _has_same_content(old: pb.Entry, new: pb.Entry) -> bool:
    """Whether only attributes differ. A truncation changes the size and may leave the chunks.

    One file id may be given as text in one of the two, and as three numbers in the other.
    """
    is_empty = not (new.attributes.file_size or new.remote_entry.remote_size)
    return (
        (is_empty or bool(new.chunks or new.content))
        and old.is_directory == new.is_directory
        and old.attributes.symlink_target == new.attributes.symlink_target
        and old.attributes.file_size == new.attributes.file_size
        and old.content == new.content
        and len(old.chunks) == len(new.chunks)
        and all(map(_is_same_chunk, old.chunks, new.chunks))
    )


def _is_same_chunk(old: pb.FileChunk, new: pb.FileChunk) -> bool:
    return old == new or chunk_from_pb(old) == chunk_from_pb(new)


def _was_uncached(old: pb.Entry, new: pb.Entry) -> bool:
    """Whether the filer only dropped its own copy of what remote storage still has."""
    remote = new.remote_entry
    return (
        remote.remote_size > 0
        and bool(old.chunks)
        and not (new.chunks or new.content)
        and (old.remote_entry.remote_size, old.remote_entry.remote_mtime, old.remote_entry.remote_e_tag)
        == (remote.remote_size, remote.remote_mtime, remote.remote_e_tag)
    )
