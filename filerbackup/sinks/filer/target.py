"""Every call to the target's filer: with a deadline, and with no error but those of the tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from filerbackup.errors import (
    FilerBackupError,
    SinkError,
    SinkRefused,
    SinkUnavailable,
    SourceRefused,
    UsageError,
)
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.settings.model import ClientTls, FilerSinkSettings
from filerbackup.sinks.filer.problems import assign_problem, call_problem, entry_problem
from filerbackup.sinks.keys import shown

if TYPE_CHECKING:
    from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerAsyncStub

Q = TypeVar("Q")
R = TypeVar("R")

CALL_S = 15.0
ASSIGN_S = 45.0
"""A filer that finds no servers for a new volume says so after 30 s."""
TREE_S = 600.0
"""Of a removal or a move of a whole tree, which the filer does entry by entry."""

_NAME_TOO_LONG, _PARENT_IS_FILE, _IS_DIRECTORY, _IS_FILE, _EXISTS = 1, 2, 3, 4, 5
_NO_ENTRY = "no entry is found in filer store"
_NOT_EMPTY = "fail to delete non-empty folder"


class Uncertain(SinkUnavailable):
    """The filer did not answer: what was asked for may have been done, or may be done yet."""


class InTheWay(SinkUnavailable):
    """A directory stands where a file should go, or the reverse."""


def filer_client(grpc_address: str, tls: ClientTls | None) -> FilerClient:
    """A client for `host:grpcPort`. Raises UsageError."""
    host, colon, port = grpc_address.strip().rpartition(":")
    if not (colon and host and port.isdecimal() and port.isascii() and 0 < int(port) < 1 << 16):
        raise UsageError(
            f"grpcAddress {grpc_address!r} of [sink.filer] is not host:port",
            hint="it is the filer's gRPC port: usually its HTTP port + 10000, as in localhost:18888",
        )
    # Only the gRPC half of the address is ever used.
    return FilerClient([f"{host}:{port}.{port}"], tls)


def parent_and_name(path: str) -> tuple[str, str]:
    """The two halves in which the filer wants a path."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


class Target:
    """The filer of the target cluster. Paths are absolute."""

    def __init__(
        self,
        settings: FilerSinkSettings,
        tls: ClientTls | None,
        may_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_change` is called before each change of an entry; what it raises keeps that from happening."""
        self._settings = settings
        self._may_change = may_change
        self.address = settings.grpc_address
        self.client = filer_client(settings.grpc_address, tls)

    async def close(self) -> None:
        """Close the channel."""
        await self.client.close()

    # -- looking ----------------------------------------------------------------------------------

    async def configuration(self) -> pb.GetFilerConfigurationResponse:
        """What the filer says of itself."""
        return await self._call(lambda stub: stub.GetFilerConfiguration, pb.GetFilerConfigurationRequest())

    async def lookup(self, path: str) -> pb.Entry | None:
        """The entry, None when there is none."""
        parent, name = parent_and_name(path)
        request = pb.LookupDirectoryEntryRequest(directory=parent, name=name)
        stub = self.client.stub()
        try:
            answer = await stub.LookupDirectoryEntry(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            self._notice(stub, error)
            # The filer reports a miss as an error of status UNKNOWN.
            if error.code() is grpc.StatusCode.NOT_FOUND or _NO_ENTRY in (error.details() or ""):
                return None
            raise call_problem(self.address, error) from None
        return answer.entry

    async def lookup_volumes(self, volume_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Volume server addresses (`host:port`) of each volume."""
        request = pb.LookupVolumeRequest(volume_ids=volume_ids)
        answer = await self._call(lambda stub: stub.LookupVolume, request)
        return {
            volume: [location.url for location in found.locations]
            for volume, found in answer.locations_map.items()
        }

    # -- changing ---------------------------------------------------------------------------------

    async def assign(self, path: str, count: int, ttl_s: int) -> pb.AssignVolumeResponse:
        """File ids for `count` chunks of the file `path`. Raises SinkFull, SinkRefused, SinkUnavailable."""
        settings = self._settings
        request = pb.AssignVolumeRequest(
            count=count,
            path=path,
            collection=settings.collection,
            replication=settings.replication,
            ttl_sec=ttl_s,
            data_center=settings.data_center,
            disk_type=settings.disk,
        )
        try:
            answer = await self._call(lambda stub: stub.AssignVolume, request, ASSIGN_S)
        except Uncertain as error:
            # An id that was assigned and is not used costs nothing.
            raise SinkUnavailable(str(error), hint=error.hint) from None
        if answer.error or not answer.file_id or not answer.location.url:
            raise assign_problem(
                self.address, answer.error or "an empty answer", replication=settings.replication
            )
        return answer

    async def create(self, path: str, entry: pb.Entry, *, exclusive: bool = False) -> bool:
        """Create or replace; False when `exclusive` and something is there.

        Raises InTheWay, Uncertain, ObjectRejected.
        """
        parent, entry.name = parent_and_name(path)
        self._may_change()
        request = pb.CreateEntryRequest(directory=parent, entry=entry, o_excl=exclusive)
        answer = await self._call(lambda stub: stub.CreateEntry, request)
        if not answer.error and not answer.error_code:
            return True
        match answer.error_code:
            case code if code == _EXISTS and exclusive:
                return False
            case code if code in (_IS_DIRECTORY, _IS_FILE, _PARENT_IS_FILE):
                raise InTheWay(f"{shown(path)} on {self.address}: {answer.error[:200]}")
            case code:
                problem = entry_problem(shown(path), answer.error, too_long=code == _NAME_TOO_LONG)
                if type(problem) is SinkUnavailable:
                    # A filer that fails to make the directories above leaves the entry.
                    raise Uncertain(str(problem), hint=problem.hint)
                raise problem

    async def update(self, path: str, entry: pb.Entry) -> None:
        """Replace an entry that is there; chunks that it had and has no more are deleted by the filer."""
        parent, entry.name = parent_and_name(path)
        self._may_change()
        await self._call(lambda stub: stub.UpdateEntry, pb.UpdateEntryRequest(directory=parent, entry=entry))

    async def remove(self, path: str, *, tree: bool = False, data: bool = True) -> None:
        """Remove an entry, with `data` its chunks too; absent is fine, a full directory stays."""
        parent, name = parent_and_name(path)
        self._may_change()
        request = pb.DeleteEntryRequest(
            directory=parent, name=name, is_delete_data=data, is_recursive=tree, ignore_recursive_error=False
        )
        answer = await self._call(lambda stub: stub.DeleteEntry, request, TREE_S if tree else CALL_S)
        if not answer.error or _NO_ENTRY in answer.error or (not tree and _NOT_EMPTY in answer.error):
            return
        raise entry_problem(f"the removal of {shown(path)}", answer.error, too_long=False)

    async def rename(self, old: str, new: str, *, tree: bool) -> None:
        """Move an entry, with all below it; a file at the new path is replaced."""
        old_parent, old_name = parent_and_name(old)
        new_parent, new_name = parent_and_name(new)
        self._may_change()
        request = pb.AtomicRenameEntryRequest(
            old_directory=old_parent, old_name=old_name, new_directory=new_parent, new_name=new_name
        )
        await self._call(lambda stub: stub.AtomicRenameEntry, request, TREE_S if tree else CALL_S)

    def _notice(self, stub: SeaweedFilerAsyncStub, error: grpc.aio.AioRpcError) -> None:
        """A connection on which no answer came in time is not used again."""
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self.client.abandon(self.client.current, stub)

    async def _call(
        self,
        method: Callable[[SeaweedFilerAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Q, R]],
        request: Q,
        timeout_s: float = CALL_S,
    ) -> R:
        stub = self.client.stub()
        try:
            return await method(stub)(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            self._notice(stub, error)
            refused = None if _is_uncertain(error) else await self.client.refused(self.client.current, error)
            if refused is not None:
                raise SinkRefused(f"the target's {refused}", hint=refused.hint) from None
            problem = call_problem(self.address, error)
            if _is_uncertain(error) and type(problem) is SinkUnavailable:
                raise Uncertain(str(problem), hint=problem.hint) from None
            raise problem from None


def as_sink_error(error: FilerBackupError, address: str) -> SinkError:
    """What the shared client says of a source, said of the target."""
    text = f"the target filer {address}: {error}"
    if isinstance(error, SourceRefused):
        return SinkRefused(text, hint=error.hint)
    return SinkUnavailable(text, hint=error.hint)


def _is_uncertain(error: grpc.aio.AioRpcError) -> bool:
    """Whether the filer may have got the request: never when the connection was refused."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return "failed to connect" not in (error.details() or "").lower()
    return True
