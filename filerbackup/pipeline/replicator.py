"""One (source folder, sink), for as long as the process lives: lease, sink, start point, session, again.

Read this first, then `session`, then the stages in the order of the data: `filters`, `layout`,
`planner`, `scheduler`, `apply`, `watermark`, `checkpointer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from filerbackup.errors import (
    FilerBackupError,
    LeaseLost,
    SinkError,
    SinkRefused,
    SourceRefused,
    SourceUnreachable,
    StateError,
    UsageError,
)
from filerbackup.pipeline.mark import Ownership, claim_sink
from filerbackup.pipeline.session import Session, Way
from filerbackup.pipeline.start import CheckpointsWithWeed, choose_start, describe_start
from filerbackup.pipeline.watcher import Watcher
from filerbackup.retry import backoff_s
from filerbackup.state.base import Lease, Status, StatusStore

ASK_AGAIN_S = 2.0
"""How often a standby asks for the lease."""
LONGEST_PAUSE_S = 5.0
"""Between sessions, while the filer or the sink is away."""
STATUS_EVERY_S = 5.0
STATUS_CHECK_S = 0.5
HORIZON_EVERY_S = 60.0
RENEW_EVERY_S = 4.0


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
        self._horizon_ns: int | None = None

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
        failures = 0
        while not stop.is_set():
            try:
                if await self._take_lease(stop):
                    await self._leased(stop)
                return
            except (FilerBackupError, BaseExceptionGroup) as raised:
                self._ended_by(sole(raised))
            finally:
                self._offset_ns = self.offset_ns
                self._session = None
                await self._lease.release()
            failures += 1
            with contextlib.suppress(StateError):
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
                return True
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

    async def _keep_lease(self) -> None:
        """Renew; when that fails for too long, end the session before the lease runs out."""
        restarts = self._lease.restarts
        pause_s = RENEW_EVERY_S
        while not self._wishes.dry_run:
            await asyncio.sleep(max(0.05, min(pause_s, self._lease.left_s)))
            try:
                async with asyncio.timeout(max(0.05, self._lease.left_s)):
                    await self._lease.renew()
                pause_s = RENEW_EVERY_S
            except (StateError, TimeoutError):
                pause_s = 0.5
            if self._lease.left_s <= 0:
                raise LeaseLost("the lease could not be renewed in time")
            if self._lease.restarts != restarts and self._session is not None:
                restarts = self._lease.restarts
                self.watcher.logger.warning(
                    "the filer was restarted; what its log may have lost is looked for"
                )
                self._session.want_comparison()

    # -- one session --------------------------------------------------------------------------------

    async def _leased(self, stop: asyncio.Event) -> None:
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
        # A lock that starts to count anew belongs to a filer that was restarted.
        restarted = 0 < self._lease.generation <= start.checkpoint.generation
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
            self._finished = await self._session.run(stop, (self._keep_lease, self._publish_status))
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
        said, said_at, looked_at = "", 0.0, 0.0
        while True:
            now = time.monotonic()
            if not looked_at or now - looked_at >= HORIZON_EVERY_S:
                looked_at = now
                await self._look_at_horizon()
            if self.watcher.state != said or now - said_at >= STATUS_EVERY_S:
                said, said_at = self.watcher.state, now
                with contextlib.suppress(StateError):
                    await self._save_status(said)
            await asyncio.sleep(STATUS_CHECK_S)

    async def _look_at_horizon(self) -> None:
        """How much of the log there is before our offset: what is left until a gap would open."""
        with contextlib.suppress(SourceUnreachable):
            oldest_ns = await self._way.ends.source.oldest_log_ns()
            self._horizon_ns = None if oldest_ns is None else self.offset_ns - oldest_ns

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
                log_horizon_ns=self._horizon_ns,
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
