"""The filer's metadata stream: decoded, in batches, with a deadline on silence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Sequence

import grpc
import grpc.aio

from filerbackup.errors import SourceUnreachable
from filerbackup.events import Delete, Event, Heartbeat, Marker, Rename, Upsert
from filerbackup.filer.client import FilerClient, describe
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.decode import entry_from_pb

SILENCE_S = 30.0
"""A caught-up filer sends a heartbeat every 5 s; one that is silent for this long is gone."""


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

    async def events(self, since_ns: int, until_ns: int | None) -> AsyncGenerator[Sequence[Event], None]:
        """Batches after `since_ns`, up to `until_ns` if given. Raises SourceUnreachable."""
        self._epoch += 1
        address = self._client.current
        call = self._client.stub(address).SubscribeMetadata(self._request(since_ns, until_ns or 0))
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    response = await call.read()
                if not isinstance(response, pb.SubscribeMetadataResponse):
                    break
                if batch := list(_events(response)):
                    yield batch
        except TimeoutError:
            self._client.move_on(address)
            raise SourceUnreachable(
                f"filer {address.grpc}: the stream was silent for {SILENCE_S:.0f} s"
            ) from None
        except grpc.aio.AioRpcError as error:
            self._client.move_on(address)
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
            client_supports_batching=True,
            client_supports_idle_heartbeat=True,
        )


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
    else:
        yield Upsert(response.ts_ns, new)
