"""The filer's key-value pairs: small records that any host can read."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import grpc
import grpc.aio

from filerbackup.errors import FilerBackupError, StateError
from filerbackup.filer.client import CALL_TIMEOUT_S, FilerAddress, FilerClient, describe
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.state import records


class KeyValues:
    """Filers with separate stores do not share their pairs.

    So a read asks all filers, and a write goes to the one in use for sure and to the others as well
    as can be.
    """

    def __init__(self, client: FilerClient) -> None:
        self._client = client

    async def get_all(self, key: bytes) -> list[bytes]:
        """The values that the filers have, at least one of which answered. Raises StateError."""
        answers = await asyncio.gather(*(self._get(address, key) for address in self._client.addresses))
        values = [answer for answer in answers if isinstance(answer, bytes)]
        if not values:
            raise StateError(f"cannot read state: {'; '.join(str(answer) for answer in answers)}")
        return [value for value in values if value]

    async def put(self, key: bytes, value: bytes) -> None:
        """Write; an empty value deletes. Raises StateError."""
        request = pb.KvPutRequest(key=key, value=value)
        try:
            answer = await self._client.call(lambda stub: stub.KvPut, request)
        except FilerBackupError as error:
            raise StateError(f"cannot write state: {error}", hint=error.hint) from None
        if answer.error:
            raise StateError(f"cannot write state: filer {self._client.current.grpc}: {answer.error[:300]}")
        others = [address for address in self._client.addresses if address != self._client.current]
        if others:
            await asyncio.gather(*(self._copy(address, request) for address in others))

    async def _get(self, address: FilerAddress, key: bytes) -> bytes | str:
        """The value, empty when there is none; or what went wrong, as text."""
        try:
            answer = await self._client.stub(address).KvGet(pb.KvGetRequest(key=key), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return describe(address, error)
        # A failure of the store comes in a field of an answer whose status is OK.
        return f"filer {address.grpc}: {answer.error[:300]}" if answer.error else bytes(answer.value)

    async def _copy(self, address: FilerAddress, request: pb.KvPutRequest) -> None:
        try:
            await self._client.stub(address).KvPut(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            # The copy is a convenience for a failover; the filer in use has the record.
            return


def decode_record(raw: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else (another program's value, a future format)."""
    try:
        return records.parse_object(raw)
    except ValueError:
        return None


def decode_weed_offset(raw: bytes) -> int:
    """Weed's checkpoint: eight bytes, big-endian nanoseconds, 0 for none. Raises StateError."""
    offset_ns: int = struct.unpack(">q", raw)[0] if len(raw) == 8 else -1
    if offset_ns < 0:
        raise StateError(
            f"the checkpoint of weed filer.backup cannot be read: {len(raw)} bytes that are no time",
            hint="start with a snapshot or a time instead of weed's checkpoint",
        )
    return offset_ns


def encode_weed_offset(offset_ns: int) -> bytes:
    """The same, for handing back."""
    return struct.pack(">Q", offset_ns)
