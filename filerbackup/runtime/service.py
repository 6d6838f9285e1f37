"""The service: connects, starts one replicator for each sink, keeps them apart, drains and stops them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from filerbackup.errors import FilerBackupError, SinkRefused, SourceRefused, SourceUnreachable, UsageError
from filerbackup.filer.client import FilerClient
from filerbackup.pipeline.watcher import Counters, Listener, describe
from filerbackup.retry import backoff_s
from filerbackup.runtime.build import Built, Shared, make_keys, make_replicator, make_shared
from filerbackup.runtime.preflight import require_reads
from filerbackup.settings.model import Settings, SourceSettings
from filerbackup.source.volumes import Volumes
from filerbackup.state.letters import PairDirectory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one sink. `error` is None when its replicator ended as it should.

    `dead_letters`: how many objects are not in the sink. `held`: how many deletes wait for a
    person's decision. `finished`: a one-shot run did all that it
    was to do; `trouble`: what kept it. `offset_ns`: the last low watermark.
    """

    name: str
    counters: Counters
    dead_letters: int
    held: int
    offset_ns: int
    error: FilerBackupError | None
    finished: bool
    trouble: str


@asynccontextmanager
async def connected(source: SourceSettings, settings: Settings) -> AsyncIterator[FilerClient]:
    """A client whose filer has answered. Raises SourceUnreachable after `connect_timeout_s`."""
    client = FilerClient(source.filers, settings.security.grpc)
    try:
        await _wait_for_filer(client, source.connect_timeout_s)
        yield client
    finally:
        await client.close()


async def _wait_for_filer(client: FilerClient, timeout_s: float) -> None:
    deadline, tries = time.monotonic() + timeout_s, 0
    while True:
        try:
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                await client.configuration()
                return
        except SourceRefused:
            raise
        except (SourceUnreachable, TimeoutError) as error:
            tries += 1
            pause_s = backoff_s(tries, random.random, longest_s=2.0)
            if time.monotonic() + pause_s >= deadline:
                known = ", ".join(address.grpc for address in client.addresses)
                raise SourceUnreachable(
                    f"no filer answered within {timeout_s:g} s: {error or 'no answer'}",
                    hint=f"tried {known} (gRPC port = HTTP port + 10000); --filer, --connect-timeout",
                ) from None
            await asyncio.sleep(pause_s)


async def shared_parts(
    stack: AsyncExitStack, client: FilerClient, settings: Settings, *, create_name: bool
) -> Shared:
    """What all sinks use together, closed with the stack.

    Raises UsageError, StateError and the source's errors.
    """
    configuration = await client.configuration()
    _log.info("connected to filer %s, SeaweedFS %s", client.current.http, configuration.version)
    cluster = await PairDirectory(client).cluster_id(create=create_name)
    volumes = Volumes(
        client.lookup_volumes,
        read_via=settings.source.read_via,
        filers=[address.http for address in client.addresses],
        security=settings.security,
    )
    stack.push_async_callback(volumes.close)
    keys = make_keys(settings, client)
    stack.push_async_callback(keys.close)
    return make_shared(settings, client, volumes, keys, cluster, configuration.dir_buckets)


class Service:
    """`run` works until `stop` is set, or, one-shot, until all is caught up."""

    def __init__(
        self,
        settings: Settings,
        *,
        one_shot: bool,
        listener: Listener | None = None,
        counts_ahead: bool = False,
    ) -> None:
        self._settings = settings
        self._one_shot = one_shot
        self._listener = listener
        self._counts_ahead = counts_ahead
        self._refused: dict[str, SinkRefused] = {}
        self.built: list[Built] = []

    async def run(self, stop: asyncio.Event) -> Sequence[Outcome]:
        """Start, work, stop; no outcomes when stopped before a filer answered.

        Raises UsageError, SourceUnreachable (at the start), StateError.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            client = await self._connect(stack, stop)
            if client is None:
                return []
            shared = await shared_parts(stack, client, settings, create_name=not settings.pipeline.dry_run)
            await require_folder(client, shared.scope.root)
            await require_reads(client, shared.volumes, shared.scope.root)
            for of in settings.sinks:
                built = make_replicator(
                    settings,
                    of,
                    shared,
                    one_shot=self._one_shot,
                    listener=self._listener,
                    counts_ahead=self._counts_ahead,
                    on_refused=self._note_refusal(of.name, stop),
                )
                stack.push_async_callback(built.sink.close)
                self.built.append(built)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._run_one(built, stop), name=built.name) for built in self.built
                ]
            if len(self._refused) == len(self.built) and not self._one_shot:
                raise next(iter(self._refused.values()))
            return [task.result() for task in tasks]

    async def _connect(self, stack: AsyncExitStack, stop: asyncio.Event) -> FilerClient | None:
        """A client whose filer has answered; None when told to stop before that."""
        settings = self._settings
        connecting = asyncio.create_task(stack.enter_async_context(connected(settings.source, settings)))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return await connecting if connecting.done() else None
        finally:
            connecting.cancel()
            stopping.cancel()
            await asyncio.wait({connecting, stopping})

    async def _run_one(self, built: Built, stop: asyncio.Event) -> Outcome:
        """One replicator; its failure is its own affair."""
        failure: FilerBackupError | None = None
        try:
            await built.replicator.run(stop)
        except FilerBackupError as error:
            built.replicator.watcher.logger.error("gives up", extra={"err": describe(error)})
            failure = error
        watcher = built.replicator.watcher
        return Outcome(
            built.name,
            watcher.counters,
            len(watcher.lettered),
            watcher.held,
            built.replicator.offset_ns,
            failure,
            built.replicator.finished,
            watcher.error,
        )

    def _note_refusal(self, name: str, stop: asyncio.Event) -> Callable[[SinkRefused], Awaitable[None]]:
        """When every sink says no at its first opening there is nothing to work for: fail, and say why."""

        async def note(error: SinkRefused) -> None:
            self._refused[name] = error
            if len(self._refused) == len(self._settings.sinks):
                stop.set()

        return note


async def require_folder(client: FilerClient, root: str) -> None:
    """Raise UsageError when the filer has no such folder."""
    if root == "/":
        return
    directory, _, name = root.rpartition("/")
    entry = await client.lookup(directory or "/", name)
    if entry is None or not entry.is_directory:
        raise UsageError(
            f"the filer has no folder {root!r}", hint="create it first, or name another with --path"
        )
