"""The filer's key-value pairs: small records that any host can read."""

from __future__ import annotations

import asyncio
import logging
import struct
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from filerbackup.errors import FilerBackupError, StateError
from filerbackup.filer.client import CALL_TIMEOUT_S, FilerAddress, FilerClient, describe, is_transport
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.state import records

OTHERS_TIMEOUT_S = 2.5
"""Of a call to a filer that is not the one in use: it must not cost the others their lease."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the filers said of one key.

    `heard`: the value of each that answered, empty where it has none; never without one. `silent`: why
    each of the others did not, one line each.
    """

    heard: tuple[bytes, ...]
    silent: tuple[str, ...] = ()

    @property
    def found(self) -> list[bytes]:
        """The values that there are."""
        return [value for value in self.heard if value]


class KeyValues:
    """Filers with separate stores do not share their pairs.

    So a read asks all filers, and a write goes to the one in use for sure and to the others as well
    as can be.
    """

    def __init__(self, client: FilerClient) -> None:
        self._client = client

    async def get_all(self, key: bytes) -> Answers:
        """What the filers have, at least one of which answered. Raises StateError."""
        current = self._client.current
        answers = await asyncio.gather(
            *(self._get(address, key, is_current=address == current) for address in self._client.addresses)
        )
        heard = tuple(answer for answer in answers if isinstance(answer, bytes))
        silent = tuple(str(answer) for answer in answers if isinstance(answer, _Silence))
        if not heard:
            raise StateError(f"cannot read state: {'; '.join(silent)}")
        of_current = answers[self._client.addresses.index(current)]
        if isinstance(of_current, _Silence) and of_current.is_transport:
            # Its lock may answer though its store does not: else every read would wait for it.
            self._client.move_on(current)
        return Answers(heard, silent)

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

    async def _get(self, address: FilerAddress, key: bytes, *, is_current: bool) -> bytes | _Silence:
        """The value, empty when there is none; or what went wrong."""
        stub = self._client.stub(address)
        timeout_s = CALL_TIMEOUT_S if is_current else OTHERS_TIMEOUT_S
        try:
            answer = await stub.KvGet(pb.KvGetRequest(key=key), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if is_current and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._client.abandon(address, stub)
            return _Silence(describe(address, error), is_transport(error))
        # A failure of the store comes in a field of an answer whose status is OK.
        if answer.error:
            return _Silence(f"filer {address.grpc}: {answer.error[:300]}", is_transport=False)
        return bytes(answer.value)

    async def _copy(self, address: FilerAddress, request: pb.KvPutRequest) -> None:
        try:
            await self._client.stub(address).KvPut(request, timeout=OTHERS_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            # The copy is a convenience for a failover; the filer in use has the record.
            _log.debug("state was not copied", extra={"err": describe(address, error)})


@dataclass(frozen=True, slots=True)
class _Silence:
    """Why a filer gave no value. `is_transport`: another filer may answer what this one did not."""

    reason: str
    is_transport: bool

    def __str__(self) -> str:
        return self.reason


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
