"""A target that is part of what is watched: each copy would be copied again, for ever."""

from __future__ import annotations

import asyncio

import grpc.aio

from filerbackup.errors import FilerBackupError, SinkRefused, SinkUnavailable
from filerbackup.filer.client import CALL_TIMEOUT_S, FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.settings.model import ClientTls, SourceSettings
from filerbackup.sinks.filer.target import Target, as_sink_error, parent_and_name

_PEERS_S = 3.0
"""Filers of one cluster with separate stores tell each other of an entry within this time."""


def are_nested(one: str, other: str) -> bool:
    """Whether one of two directories (absolute paths) is the other, or lies in it."""
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)


def may_loop(directory: str, source: SourceSettings) -> bool:
    """Whether copies into this directory of the watched cluster would themselves be watched, or swept.

    Excluding the directory settles it, unless the watched folder lies in it.
    """
    if not are_nested(directory, source.path):
        return False
    is_below = directory.rstrip("/").startswith(source.path.rstrip("/") + "/")
    return not (is_below and any(_excludes(path, directory) for path in source.exclude_paths))


def _excludes(path: str, directory: str) -> bool:
    """Whether an excluded path, written out in full, is the directory or above it."""
    if not path.startswith("/") or any(each in path for each in "*?["):
        return False
    return f"{directory.rstrip('/')}/".startswith(f"{path.rstrip('/')}/")


class LoopCheck:
    """Whether the sink's directory and the watched folder are one inside the other, in one cluster.

    Filers that share a store have one signature. For others the proof is an entry that was made on
    the target and is seen on the source.
    """

    def __init__(self, target: Target, directory: str, source: SourceSettings, tls: ClientTls | None) -> None:
        self._target, self._directory, self._source = target, directory, source
        self._client = FilerClient(source.filers, tls) if may_loop(directory, source) else None
        self._may_be_peers = False

    async def before_writing(self, target: pb.GetFilerConfigurationResponse) -> None:
        """Compare what the filers say of themselves. Raises SinkRefused, SinkUnavailable."""
        if self._client is None:
            return
        answered = False
        for address in self._client.addresses:
            request = pb.GetFilerConfigurationRequest()
            try:
                source = await self._client.stub(address).GetFilerConfiguration(
                    request, timeout=CALL_TIMEOUT_S
                )
            except grpc.aio.AioRpcError:
                continue
            answered = True
            if source.signature == target.signature:
                raise self._loop()
            self._may_be_peers |= not set(source.masters).isdisjoint(target.masters)
        if not answered:
            raise SinkUnavailable("no filer of the source says whether the target is the same cluster")

    async def after_writing(self, path: str) -> None:
        """See whether what was made at `path` on the target is on the source too. Raises SinkRefused."""
        if self._client is None:
            return
        until = asyncio.get_running_loop().time() + (_PEERS_S if self._may_be_peers else 0.0)
        while True:
            try:
                found = await self._client.lookup(*parent_and_name(path))
            except FilerBackupError as error:
                raise as_sink_error(error, self._client.current.grpc) from None
            if found is not None:
                raise self._loop()
            if asyncio.get_running_loop().time() >= until:
                return
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Close the connection to the source."""
        if self._client is not None:
            await self._client.close()

    def _loop(self) -> SinkRefused:
        return SinkRefused(
            f"the target {self._target.address} is the cluster that is watched, and its directory "
            f"{self._directory} and the watched folder {self._source.path} lie one inside the other: "
            "copies would be copied again without end",
            hint="choose a `directory` for [sink.filer] outside of the watched folder, or another cluster",
        )
