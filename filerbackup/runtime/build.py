"""Putting the parts together: one replicator for each enabled sink, on shared connections."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from filerbackup.errors import SinkRefused
from filerbackup.filer.client import FilerClient
from filerbackup.observe.logs import bind, cleaned
from filerbackup.pipeline.apply import Applier, Ends
from filerbackup.pipeline.budget import ByteBudget
from filerbackup.pipeline.fence import Fence, FencedSink
from filerbackup.pipeline.filters import Scope
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.layout import Dated, Layout, Mirror
from filerbackup.pipeline.limiter import Limiter
from filerbackup.pipeline.planner import Planner
from filerbackup.pipeline.replicator import Replicator, Wishes
from filerbackup.pipeline.watcher import Listener, Watcher
from filerbackup.pipeline.way import Way
from filerbackup.settings.model import Settings, SinkSettings
from filerbackup.sinks.base import Sink
from filerbackup.sinks.dry_run import DryRunSink
from filerbackup.sinks.registry import create_sink
from filerbackup.source.filer import FilerSource
from filerbackup.source.kms import make_kms
from filerbackup.source.sse_keys import KEK_DIRECTORY, KEK_NAME, SseKeys
from filerbackup.source.volumes import Volumes
from filerbackup.state.boot import FilerBoot
from filerbackup.state.checkpoints import FilerCheckpoints, FilerStatus
from filerbackup.state.dry_run import DryRunBoot, DryRunCheckpoints, DryRunHeld, DryRunLetters, DryRunStatus
from filerbackup.state.held import FilerHeldDeletes
from filerbackup.state.kv import KeyValues
from filerbackup.state.lease import FilerLease, lease_clock, owner_name
from filerbackup.state.letters import FilerDeadLetters, PairDirectory, require_cluster
from filerbackup.state.pair import Pair


@dataclass(frozen=True, slots=True)
class Shared:
    """What all replicators of a process use together."""

    client: FilerClient
    volumes: Volumes
    keys: SseKeys
    scope: Scope
    budget: ByteBudget
    cluster: str
    owner: str
    buckets_directory: str


@dataclass(frozen=True, slots=True)
class Built:
    """A replicator with what its owner has to close or name."""

    name: str
    pair: Pair
    sink: Sink
    replicator: Replicator


def pair_of(path: str, sink: Sink) -> Pair:
    """The identity of (watched folder, sink)."""
    identity = sink.identity
    return Pair(path, identity.kind, identity.endpoint, identity.container, identity.directory)


def make_keys(settings: Settings, client: FilerClient) -> SseKeys:
    """What decrypts objects of the source's S3 gateway. Raises UsageError.

    A passphrase for the key that lies on the filer says as much as the option that it may be read.
    """

    async def read_kek() -> bytes:
        found = await client.lookup(KEK_DIRECTORY, KEK_NAME)
        return found.content if found is not None else b""

    sse = settings.security.sse
    from_filer = settings.source.sse_kek_from_filer or bool(sse.kek_passphrase)
    services = [service for of in sse.kms if (service := make_kms(of)) is not None]
    return SseKeys(sse, read_kek=read_kek if from_filer else None, kms=services)


def make_shared(
    settings: Settings, client: FilerClient, volumes: Volumes, keys: SseKeys, cluster: str, buckets: str
) -> Shared:
    """The shared parts."""
    source = settings.source
    buckets = buckets or "/buckets"
    scope = Scope(
        source.path,
        exclude_paths=source.exclude_paths,
        exclude_names=source.exclude_names,
        buckets_directory=buckets,
    )
    budget = ByteBudget(settings.pipeline.memory_bytes)
    return Shared(client, volumes, keys, scope, budget, cluster, owner_name(), buckets)


def make_replicator(
    settings: Settings,
    of: SinkSettings,
    shared: Shared,
    *,
    one_shot: bool,
    listener: Listener | None,
    counts_ahead: bool,
    on_refused: Callable[[SinkRefused], Awaitable[None]],
) -> Built:
    """One replicator. Raises UsageError for a sink that cannot be made from its settings."""
    dry_run = settings.pipeline.dry_run
    real_sink = create_sink(of, settings.security, settings.source)
    pair = pair_of(shared.scope.root, real_sink)
    lease = FilerLease(shared.client, pair.lock_name, shared.owner, lease_clock)
    fence = Fence(lambda: lease.left_s)
    sink: Sink = DryRunSink(real_sink, of.name) if dry_run else FencedSink(real_sink, fence)
    values = KeyValues(shared.client)
    checkpoints = (DryRunCheckpoints if dry_run else FilerCheckpoints)(values, pair, of.weed_identity)
    source = make_source(settings, shared, f"filerbackup-{of.name}")
    letters = DryRunLetters() if dry_run else FilerDeadLetters(shared.client, pair)
    ends = Ends(source, sink, letters)
    prefix = f"{of.name}:" if len(settings.sinks) > 1 else ""
    watcher = Watcher(
        bind(logging.getLogger("filerbackup.replicator"), sink=of.name),
        listener,
        prefix,
        counts_ahead,
        clean=cleaned,
    )
    layout = _layout(settings, of, shared.scope)
    way = Way(
        ends=ends,
        checkpoints=checkpoints,
        scope=shared.scope,
        layout=layout,
        planner=Planner(layout, sink.capabilities),
        watcher=watcher,
        fence=Fence(lambda: math.inf) if dry_run else fence,
        require_cluster=partial(require_cluster, shared.client, shared.cluster),
        generation=lambda: lease.generation,
        boot=DryRunBoot() if dry_run else FilerBoot(shared.client),
        holder=shared.owner,
        limiter=lambda: Limiter(of.concurrency or settings.pipeline.concurrency, _clock),
        guard=lambda: Guard(
            settings.pipeline.delete_guard,
            (DryRunHeld if dry_run else FilerHeldDeletes)(shared.client, pair),
            watcher,
            directories=sink.capabilities.directories,
        ),
        applier=lambda limiter, guard: Applier(
            ends, layout, budget=shared.budget, limiter=limiter, watcher=watcher, guard=guard, clock=_clock
        ),
    )
    replicator = Replicator(
        way,
        checkpoints,
        lease,
        (DryRunStatus if dry_run else FilerStatus)(values, pair),
        _wishes(settings, one_shot),
        holder=shared.owner,
        cluster=shared.cluster,
        filer_in_use=lambda: shared.client.current.grpc,
        on_refused=on_refused,
        register=_nothing if dry_run else partial(PairDirectory(shared.client).register, pair),
    )
    return Built(of.name, pair, sink, replicator)


def make_source(settings: Settings, shared: Shared, name: str) -> FilerSource:
    """The watched folder; the filer's log knows the subscriber by the name."""
    return FilerSource(
        shared.client,
        shared.volumes,
        root=shared.scope.root,
        name=name,
        holds=shared.scope.holds,
        buckets_directory=shared.buckets_directory,
        all_versions=settings.source.versions == "all",
        fetch_remote=settings.source.remote_entries == "fetch",
        keys=shared.keys,
    )


def _layout(settings: Settings, of: SinkSettings, scope: Scope) -> Layout:
    if of.is_incremental:
        return Dated(scope.relative, of.timezone)
    return Mirror(scope.relative, keeps_deleted=settings.pipeline.no_delete)


def _wishes(settings: Settings, one_shot: bool) -> Wishes:
    asked = settings.pipeline
    return Wishes(
        one_shot=one_shot,
        start=asked.start,
        adopt_weed_checkpoint=asked.adopt_weed_checkpoint,
        claim=asked.claim,
        dry_run=asked.dry_run,
        grace_s=asked.grace_s,
        reconcile_every_s=asked.reconcile_every_s,
    )


async def _nothing() -> None:
    """What a dry run leaves behind."""


def _clock() -> float:
    return asyncio.get_running_loop().time()
