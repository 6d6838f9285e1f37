"""One (source folder, sink), for as long as the process lives: lease, sink, start point, session, again.

Read this first, then `session`, then the stages in the order of the data: `filters`, `layout`,
`planner`, `scheduler`, `apply`, `watermark`, `checkpointer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from filerbackup.errors import (
    FilerBackupError,
    LeaseLost,
    LogGap,
    SinkError,
    SinkRefused,
    SourceRefused,
    SourceUnreachable,
    StateError,
    UsageError,
)
from filerbackup.pipeline.horizon import Horizon
from filerbackup.pipeline.mark import Ownership, claim_sink
from filerbackup.pipeline.session import Session
from filerbackup.pipeline.start import CheckpointsWithWeed, choose_start, describe_start, require_log
from filerbackup.pipeline.watcher import Watcher
from filerbackup.pipeline.way import Way
from filerbackup.retry import backoff_s
from filerbackup.state.base import Lease, Status, StatusStore

ASK_AGAIN_S = 2.0
"""How often a standby asks for the lease."""
LONGEST_PAUSE_S = 5.0
"""Between sessions, while the filer or the sink is away."""
STATUS_EVERY_S = 5.0
STATUS_CHECK_S = 0.5
RENEW_EVERY_S = 4.0
CLOSES_WITHIN_S = 30.0
SAID_LATELY_NS = 30_000_000_000
"""Who has said something since then may still work; the clocks of two hosts differ a little."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asked for. `lease_patience_s`: how long a one-shot run waits for another process."""

    one_shot: bool
    start: str
    adopt_weed_checkpoint: bool
    claim: bool
    dry_run: bool
    grace_s: float
    reconcile_every_s: float
    lease_patience_s: float = 20.0


class Replicator:
    """`run` returns when it was told to stop, or when a one-shot run is done."""

    def __init__(
        self,
        way: Way,
        checkpoints: CheckpointsWithWeed,
        lease: Lease,
        status: StatusStore,
        wishes: Wishes,
        *,
        holder: str,
        cluster: str,
        filer_in_use: Callable[[], str],
        on_refused: Callable[[SinkRefused], Awaitable[None]],
        register: Callable[[], Awaitable[None]],
    ) -> None:
        self._way, self._checkpoints, self._lease, self._status = way, checkpoints, lease, status
        self._wishes = wishes
        self._holder = holder
        self._cluster = cluster
        self._filer_in_use = filer_in_use
        self._on_refused = on_refused
        self._register = register
        self._finished = False
        self._session: Session | None = None
        self._sessions = 0
        self._offset_ns = 0
        self._source_failed = False
        self._horizon = Horizon(way.ends.source, way.watcher)

    @property
    def watcher(self) -> Watcher:
        """How it is."""
        return self._way.watcher

    @property
    def session(self) -> Session | None:
        """The session that runs, or None while it starts or stands by."""
        return self._session

    @property
    def finished(self) -> bool:
        """Whether a one-shot run has done all that there was to do."""
        return self._finished

    @property
    def offset_ns(self) -> int:
        """The low watermark of the session that runs, or of the last one."""
        return self._session.offset_ns if self._session else self._offset_ns

    def lag_ns(self) -> int:
        """Now minus the low watermark while there is a backlog or no word from the filer, else 0."""
        session = self._session
        since_ns = session.behind_since_ns if session else self._offset_ns or None
        return 0 if since_ns is None else max(0, time.time_ns() - since_ns)

    async def run(self, stop: asyncio.Event) -> None:
        """Work. Raises UsageError, and in a one-shot run what makes going on pointless."""
        failures, had_lease = 0, False
        while not stop.is_set():
            try:
                had_lease = False
                if had_lease := await self._take_lease(stop):
                    await self._leased(stop)
                return
            except (FilerBackupError, BaseExceptionGroup) as raised:
                self._ended_by(sole(raised))
            finally:
                self._offset_ns = self.offset_ns
                self._session = None
                await self._lease.release()
                # Whatever was cancelled with the session holds its buffers in cycles.
                gc.collect()
            failures += 1
            with contextlib.suppress(StateError):
                await self._look_at_horizon()
                # Else it is another's word that stands there, which a standby relies on.
                if had_lease and self.watcher.state != "standby":
                    await self._save_status(self.watcher.state)
            await _sleep(backoff_s(failures, random.random, LONGEST_PAUSE_S), stop)

    def _ended_by(self, error: FilerBackupError) -> None:
        """Decide whether another session may do better; raises the error when not."""
        match error:
            case LeaseLost():
                self.watcher.state = "standby"
                self._source_failed = True
                self.watcher.logger.warning("stops writing", extra={"err": str(error)})
            case SinkRefused() if self._wishes.one_shot and not self._sessions:
                raise error
            case SinkError():
                self.watcher.trouble("sink-error", error)
            case LogGap():
                # The next session most likely finds it too, says so, and begins with a snapshot.
                self._source_failed = True
                self.watcher.complain("begins again", error)
            case SourceUnreachable() | SourceRefused() | StateError():
                self._source_failed = True
                self.watcher.trouble("source-error", error)
            case _:
                raise error

    # -- the lease --------------------------------------------------------------------------------

    async def _take_lease(self, stop: asyncio.Event) -> bool:
        """Wait as a standby until the lease is ours; False when told to stop before."""
        if self._wishes.dry_run:
            return True
        patience = time.monotonic() + self._wishes.lease_patience_s
        told = ""
        while not stop.is_set():
            holder = await self._lease.acquire()
            if holder is None:
                self.watcher.state = "starting"
                return await self._outlast_another(stop, was_seen=bool(told))
            if holder != told:
                self.watcher.logger.info("stands by: %s works on this folder and sink", holder)
                told = holder
            self.watcher.state = "standby"
            if self._wishes.one_shot and time.monotonic() > patience:
                raise FilerBackupError(
                    f"{holder} works on this folder and sink and keeps the copy up to date",
                    hint="filerbackup status",
                )
            await _sleep(ASK_AGAIN_S, stop)
        return False

    async def _outlast_another(self, stop: asyncio.Event, *, was_seen: bool) -> bool:
        """Wait until nobody else can still think that it has the lease; False when told to stop before.

        A filer that was restarted has forgotten it and gives it to the first who asks, while the one who
        had it goes on until its next renewal. From one that was not, what was seen to be another's has
        run out or was given back.
        """
        stored = await self._checkpoints.load() if was_seen else None
        if stored is not None and stored.boot and stored.boot == await self._way.boot.ask():
            await self._lease.renew()
            return True
        said = await self._status.load()
        # A filer with a fault may have let that wait for long.
        await self._lease.renew()
        if said is None or said.holder == self._holder or said.state in ("stopped", "standby"):
            return True
        if time.time_ns() - said.updated_ns > SAID_LATELY_NS:
            return True
        self.watcher.logger.info("waits until %s must have noticed that its lease is gone", said.holder)
        ends_at = time.monotonic() + self._lease.lasts_s
        while time.monotonic() < ends_at and not stop.is_set():
            await _sleep(min(RENEW_EVERY_S, self._lease.lasts_s), stop)
            await self._lease.renew()
        return not stop.is_set()

    async def _keep_lease(self) -> None:
        """Renew; when that fails for too long, end the session before the lease runs out."""
        restarts = self._lease.restarts
        pause_s = RENEW_EVERY_S
        while not self._wishes.dry_run:
            await asyncio.sleep(max(0.05, min(pause_s, self._lease.left_s)))
            # Not later: a process that stood still for too long must not renew what was another's meanwhile.
            self._way.fence.check()
            try:
                async with asyncio.timeout(max(0.05, self._lease.left_s)):
                    await self._lease.renew()
                    if self._lease.restarts != restarts:
                        await self._after_restart()
                        restarts = self._lease.restarts
                pause_s = RENEW_EVERY_S
            except (StateError, SourceUnreachable, TimeoutError):
                pause_s = 0.5
            self._way.fence.check()

    async def _after_restart(self) -> None:
        """The filer had forgotten the lease, and perhaps some of its log."""
        await self._checkpoints.confirm()
        await self._way.require_cluster()
        self.watcher.logger.warning("the filer was restarted; what its log may have lost is looked for")
        # Before the new run's name goes into a checkpoint, which the next process would believe.
        if self._session is not None:
            self._session.want_comparison()
        else:
            self._source_failed = True
        await self._way.boot.ask()

    # -- one session --------------------------------------------------------------------------------

    async def _leased(self, stop: asyncio.Event) -> None:
        """Work, and renew the lease beside it, from the first step on; if one of them fails, both end."""
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep_lease(), name="lease")
            try:
                await self._work(stop)
            finally:
                await self._close_sink()
                keeper.cancel()

    async def _close_sink(self) -> None:
        """Under the lease: no request that the sink has collected may come after one of the next holder."""
        try:
            async with asyncio.timeout(CLOSES_WITHIN_S):
                await self._way.ends.sink.close()
        except Exception as error:  # noqa: BLE001  the session has ended, and with what is decided already
            self.watcher.complain("the sink was not closed in order", error)

    async def _work(self, stop: asyncio.Event) -> None:
        await self._way.require_cluster()
        boot = await self._way.boot.ask()
        await self._checkpoints.take_over(self._holder)
        ownership = await self._open_sink()
        await self._register()
        start = await choose_start(
            self._way.ends.source,
            self._checkpoints,
            wish=self._wishes.start,
            adopt_weed=self._wishes.adopt_weed_checkpoint,
            first_session=self._sessions == 0,
            sink_is_new=ownership.is_new,
        )
        self.watcher.logger.info("%s", describe_start(start))
        restarted = bool(boot) and start.checkpoint.boot not in ("", boot)
        self._session = Session(
            self._way,
            start,
            one_shot=self._wishes.one_shot,
            may_sweep=ownership.may_sweep,
            was_empty=ownership.was_empty,
            compare_soon=self._source_failed or restarted,
            reconcile_every_s=self._wishes.reconcile_every_s,
            grace_s=self._wishes.grace_s,
            filer_in_use=self._filer_in_use,
        )
        self._sessions += 1
        self._source_failed = False
        try:
            self._finished = await self._session.run(stop, (self._publish_status,))
        finally:
            with contextlib.suppress(StateError):
                await self._save_status(
                    "stopped" if stop.is_set() or self._wishes.one_shot else self.watcher.state
                )

    async def _open_sink(self) -> Ownership:
        sink = self._way.ends.sink
        try:
            await sink.open()
        except SinkRefused as error:
            if not self._sessions:
                await self._on_refused(error)
            raise
        return await claim_sink(
            sink,
            cluster=self._cluster,
            path=self._way.scope.root,
            layout=self._way.layout.name,
            claim=self._wishes.claim,
        )

    # -- the status on the filer ----------------------------------------------------------------------

    async def _publish_status(self) -> None:
        """Every few seconds, and soon after the state has changed."""
        said, said_at = "", 0.0
        while True:
            now = time.monotonic()
            await self._look_at_horizon()
            if self.watcher.state != said or now - said_at >= STATUS_EVERY_S:
                said, said_at = self.watcher.state, now
                with contextlib.suppress(StateError):
                    await self._save_status(said)
            await asyncio.sleep(STATUS_CHECK_S)

    async def _look_at_horizon(self) -> None:
        """Raises LogGap when what is still to be read is no longer there, StateError."""
        session, offset_ns = self._session, self.offset_ns
        if session is None and not offset_ns:
            stored = await self._checkpoints.load()
            offset_ns = stored.offset_ns if stored else 0
        behind = session is None or session.behind_since_ns is not None
        looked = await self._horizon.look(offset_ns, behind=behind)
        if not looked or session is None or not session.follows or not behind:
            return
        if (self._horizon.left_ns or 0) < 0:
            with contextlib.suppress(SourceUnreachable, SourceRefused):
                await require_log(self._way.ends.source, session.offset_ns)

    async def _save_status(self, state: str) -> None:
        session, counters = self._session, self.watcher.counters
        await self._status.save(
            Status(
                state=state,
                updated_ns=time.time_ns(),
                holder=self._holder,
                lag_ns=self.lag_ns(),
                queued=session.queued if session else 0,
                files=counters.written + counters.moved,
                bytes=counters.bytes,
                error=self.watcher.error,
                log_horizon_ns=self._horizon.left_ns,
            )
        )


def sole(raised: FilerBackupError | BaseExceptionGroup[BaseException]) -> FilerBackupError:
    """What a group of failures comes down to: the gravest of them. Raises what nobody foresaw."""
    leaves: list[BaseException] = [raised]
    while groups := [leaf for leaf in leaves if isinstance(leaf, BaseExceptionGroup)]:
        leaves = [leaf for leaf in leaves if leaf not in groups]
        leaves += [leaf for group in groups for leaf in group.exceptions]
    known = [leaf for leaf in leaves if isinstance(leaf, FilerBackupError)]
    if len(known) < len(leaves):
        raise raised
    return min(known, key=lambda error: not isinstance(error, UsageError | LeaseLost))


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
