"""One gRPC client for all filers of a cluster: unary calls with failover, streams on the one in use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from filerbackup.errors import ChunkGone, SourceRefused, SourceUnreachable, Unreadable, UsageError
from filerbackup.filer.channels import LARGEST_MESSAGE_BYTES, Channels
from filerbackup.filer.handshake import Handshakes
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from filerbackup.settings.model import ClientTls

if TYPE_CHECKING:
    from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerAsyncStub

Q = TypeVar("Q")
R = TypeVar("R")

GRPC_PORT_OFFSET = 10_000
"""A filer's gRPC port is its HTTP port plus this, unless given as `host:port.grpcPort`."""

CALL_TIMEOUT_S = 15.0
PAGE_BYTES = 4 << 20
"""Of entries with thousands of chunks a page holds fewer."""
LIST_TIMEOUT_S = 60.0
"""Of one page of a directory, with large entries."""
FETCH_TIMEOUT_S = 600.0
"""For the filer to copy one file from remote storage; it goes on by itself after that."""
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_log = logging.getLogger(__name__)
_NO_ENTRY = "no entry is found in filer store"


@dataclass(frozen=True, slots=True)
class FilerAddress:
    """Where one filer is: HTTP for proxied reads, gRPC for the rest."""

    http: str
    grpc: str

    @staticmethod
    def parse(text: str) -> FilerAddress:
        """`host:port` or `host:port.grpcPort`. Raises UsageError."""
        host, colon, ports = text.strip().rpartition(":")
        http_port, _, grpc_port = ports.partition(".")
        if not (colon and host and http_port.isdigit() and (not grpc_port or grpc_port.isdigit())):
            raise UsageError(f"filer address {text!r} is not host:port or host:port.grpcPort")
        number = int(grpc_port) if grpc_port else int(http_port) + GRPC_PORT_OFFSET
        if not 0 < number < 65_536:
            raise UsageError(f"filer address {text!r}: gRPC port {number} does not exist")
        return FilerAddress(f"{host}:{http_port}", f"{host}:{number}")


class _Answered(SourceUnreachable):
    """A filer did answer: with an error."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class FilerClient:
    """Calls the filer in use; when it does not answer, the next one becomes the one in use.

    Every call has a deadline and raises SourceUnreachable when no filer answered, SourceRefused when
    one said that we may not.
    """

    def __init__(self, addresses: Sequence[str], tls: ClientTls | None = None) -> None:
        self.addresses = tuple(FilerAddress.parse(address) for address in addresses)
        if not self.addresses:
            raise UsageError("no filer address is given")
        self._channels = Channels(tls)
        self._handshakes = Handshakes(tls)
        self._stubs: dict[FilerAddress, SeaweedFilerAsyncStub] = {}
        self._in_use = 0

    @property
    def current(self) -> FilerAddress:
        """The filer in use."""
        return self.addresses[self._in_use]

    def stub(self, address: FilerAddress | None = None) -> SeaweedFilerAsyncStub:
        """The stub of one filer, by default of the one in use."""
        address = address or self.current
        if address not in self._stubs:
            self._stubs[address] = SeaweedFilerStub(self._channels.open(address.grpc))
        return self._stubs[address]

    def abandon(self, address: FilerAddress, silent: SeaweedFilerAsyncStub) -> None:
        """No answer came in time through this stub: what follows gets a connection of its own.

        gRPC itself finds out only after up to a minute that a connection is dead.
        """
        if self._stubs.get(address) is silent:
            del self._stubs[address]
            self._channels.retire(address.grpc)

    def expect_large(self, address: FilerAddress, refused: SeaweedFilerAsyncStub) -> None:
        """A single entry, or event, was larger than we take: take anything from now on."""
        _log.warning("filer %s has an entry of more than %d bytes", address.grpc, self._channels.most_bytes)
        self._channels.most_bytes = LARGEST_MESSAGE_BYTES
        self.abandon(address, refused)

    def move_on(self, failed: FilerAddress) -> None:
        """Use the next filer, if `failed` is still the one in use."""
        if failed == self.current:
            self._in_use = (self._in_use + 1) % len(self.addresses)

    async def call(
        self,
        method: Callable[[SeaweedFilerAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Q, R]],
        request: Q,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> R:
        """One unary call, tried once on each filer."""
        problem, refused = "", None
        for _ in self.addresses:
            address = self.current
            stub = self.stub(address)
            try:
                return await method(stub)(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                problem = describe(address, error)
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self.abandon(address, stub)
                if error.code() in _REFUSALS:
                    raise SourceRefused(problem, hint="check grpc.client in security.toml") from None
                if is_too_large(error):
                    self.expect_large(address, stub)
                    raise SourceUnreachable(problem) from None
                if not is_transport(error):
                    raise _Answered(problem, error.code()) from None
                refused = refused or await self.refused(address, error)
                self.move_on(address)
        raise refused or SourceUnreachable(problem)

    async def lookup(self, directory: str, name: str) -> pb.Entry | None:
        """The live entry, or None when the filer says that there is none."""
        request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
        try:
            answer = await self.call(lambda stub: stub.LookupDirectoryEntry, request)
        except SourceUnreachable as error:
            # The filer reports a miss as an error of status UNKNOWN.
            if _NO_ENTRY in str(error):
                return None
            raise
        return answer.entry

    async def cache_remote(self, directory: str, name: str) -> pb.Entry:
        """Have the filer fetch a file's content from remote storage; the entry with its chunks.

        Raises ChunkGone when there is no such entry any more, Unreadable when the filer cannot.
        """
        request = pb.CacheRemoteObjectToLocalClusterRequest(directory=directory, name=name)
        try:
            answer = await self.call(
                lambda stub: stub.CacheRemoteObjectToLocalCluster, request, timeout_s=FETCH_TIMEOUT_S
            )
        except _Answered as error:
            if error.code is grpc.StatusCode.NOT_FOUND or _NO_ENTRY in str(error):
                raise ChunkGone(str(error)) from None
            raise Unreadable(f"the content is only in remote storage: {error}") from None
        return answer.entry

    async def list_page(self, directory: str, after: str, limit: int, *, prefix: str = "") -> list[pb.Entry]:
        """Up to `limit` entries of a directory whose names come after `after`; fewer: these are the last."""
        page, _ = await self.list_some(
            directory, after, limit, prefix=prefix, most_bytes=LARGEST_MESSAGE_BYTES
        )
        return page

    async def list_some(
        self, directory: str, after: str, limit: int, *, prefix: str = "", most_bytes: int = PAGE_BYTES
    ) -> tuple[list[pb.Entry], bool]:
        """As `list_page`, but ends early behind `most_bytes`; and whether these are the last."""
        request = pb.ListEntriesRequest(
            directory=directory, prefix=prefix, startFromFileName=after, limit=limit
        )
        address = self.current
        stub = self.stub(address)
        try:
            stream = stub.ListEntries(request, timeout=LIST_TIMEOUT_S)
            page, size = [], 0
            async for response in stream:
                page.append(response.entry)
                size += response.ByteSize()
                if size > most_bytes:
                    stream.cancel()
                    return page, False
            return page, len(page) < limit
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND or _NO_ENTRY in (error.details() or ""):
                return [], True
            if is_too_large(error):
                self.expect_large(address, stub)
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self.abandon(address, stub)
            self.move_on(address)
            raise SourceUnreachable(describe(address, error)) from None

    async def lookup_volumes(self, volume_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Volume server addresses (`host:port`) of each volume; a volume without any is absent."""
        request = pb.LookupVolumeRequest(volume_ids=volume_ids)
        answer = await self.call(lambda stub: stub.LookupVolume, request)
        return {
            volume: [location.url for location in found.locations]
            for volume, found in answer.locations_map.items()
            if found.locations
        }

    async def configuration(self) -> pb.GetFilerConfigurationResponse:
        """What the filer says of itself."""
        return await self.call(lambda stub: stub.GetFilerConfiguration, pb.GetFilerConfigurationRequest())

    async def now_ns(self) -> int:
        """The filer's clock, in Unix nanoseconds."""
        answer = await self.call(lambda stub: stub.Ping, pb.PingRequest())
        return answer.start_time_ns

    async def close(self) -> None:
        """Close all channels."""
        await self._channels.close()

    async def refused(self, address: FilerAddress, error: grpc.aio.AioRpcError) -> SourceRefused | None:
        """What a person has to change about TLS, if that is why a call got no answer."""
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return None
        if await self._channels.renew():
            # From now on with the new certificate; what runs on an old connection has a while to end.
            self._stubs.clear()
            return None
        return await self._handshakes.problem(address.grpc)


def is_transport(error: grpc.aio.AioRpcError) -> bool:
    """Whether another filer may answer what this one did not."""
    return error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    )


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """Whether a message was refused here because of its size."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or "")


def describe(address: FilerAddress, error: grpc.aio.AioRpcError) -> str:
    """One line about a failed call."""
    details = " ".join((error.details() or "").split())[:300]
    return f"filer {address.grpc}: {error.code().name}: {details}"
