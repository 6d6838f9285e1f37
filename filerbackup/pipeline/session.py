"""One leased run: from a start point, along the way of the data, to a stop or an error.

    snapshot (if there is one to take) ─► follow ─► scheduler ─► watermark ─► checkpoint

Beside that way run the keepers: the checkpointer, the status, decisions and retries, and the reconciler
that compares the sink with the live tree, periodically and after the filer has been restarted. The
lease is kept around all that, by the replicator.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from filerbackup.errors import SinkError, SourceUnreachable, StateError
from filerbackup.events import Change, Event, Heartbeat, Marker, Rename, Upsert
from filerbackup.pipeline.checkpointer import Checkpointer
from filerbackup.pipeline.clocks import PEERS_DIFFER_NS
from filerbackup.pipeline.counting import tell_guard, tell_listener
from filerbackup.pipeline.decisions import Decisions
from filerbackup.pipeline.hearing import Clock, Hearing
from filerbackup.pipeline.parents import Parents
from filerbackup.pipeline.planner import Move, Operation, Write
from filerbackup.pipeline.retries import Retries
from filerbackup.pipeline.scheduler import Scheduler
from filerbackup.pipeline.snapshot import Snapshot
from filerbackup.pipeline.start import Start, require_log
from filerbackup.pipeline.watermark import Watermark
from filerbackup.pipeline.way import Way
from filerbackup.retry import backoff_s
from filerbackup.state.base import COMPARISON_WANTED, Checkpoint, Phase

QUIET_NS = 3_600_000_000_000
"""Where nothing happens, the offset follows the filer's clock at this distance; peers may lag behind."""
COMPARE_AGAIN_S = 30.0
"""After a comparison that broke off."""
CATCH_UP_S = 600.0
"""So long a comparison waits for what the log has to tell up to now."""
MOST_NOT_RECORDED = 20_000
"""Held deletes in memory before the stream waits for them to be recorded."""


class Session:
    """`one_shot`: end when everything up to the time of the start is done. `may_sweep`: see the mark.

    `compare_soon`: the filer may have lost some of its log. `filer_in_use` names the filer of the
    stream. Times are nanoseconds of the filer's clock.
    """

    def __init__(
        self,
        way: Way,
        start: Start,
        *,
        one_shot: bool,
        may_sweep: bool,
        was_empty: bool,
        compare_soon: bool,
        reconcile_every_s: float,
        grace_s: float,
        filer_in_use: Callable[[], str],
    ) -> None:
        self._way = way
        self._start = start
        self._one_shot = one_shot
        self._may_sweep = may_sweep
        self._was_empty = was_empty
        self._reconcile_every_s = reconcile_every_s
        self._grace_s = grace_s
        self._filer_in_use = filer_in_use
        self._compare_wanted = asyncio.Event()
        limiter = way.limiter()
        self._guard = way.guard()
        wanted = way.ends.sink.capabilities.directories and not way.layout.keeps_dates
        self._parents = Parents(way.ends.source, way.scope, wanted=wanted)
        self._applier = way.applier(limiter, self._guard)
        self._applier.ahead_to_ns = start.checkpoint.ahead_to_ns
        self._applier.may_sweep = may_sweep
        self._applier.repeats_to_ns = start.checkpoint.offset_ns
        self._scheduler: Scheduler[Operation] = Scheduler(self._applier.attempt, limiter)
        self._decisions = Decisions(
            self._guard, way.planner, self._scheduler, way.watcher, lambda: self.offset_ns
        )
        self._retries = Retries(
            way.ends.letters, way.planner, self._scheduler, way.watcher, lambda: self.offset_ns
        )
        self._watermark = Watermark(start.checkpoint.offset_ns)
        self._phase = start.checkpoint.phase
        self._snapshot = self._new_snapshot(start.checkpoint.offset_ns)
        self._repeats_until_ns = start.checkpoint.offset_ns + 1
        self._hearing = Hearing(start.checkpoint.offset_ns)
        self._compared_ns = start.checkpoint.compared_ns
        if compare_soon or self._compared_ns == COMPARISON_WANTED:
            self.want_comparison()
        self._checkpointer = Checkpointer(
            way.checkpoints,
            way.ends.sink,
            self._applier,
            self._guard,
            self._position,
            way.watcher,
            way.fence,
        )
        self._applier.before_tree_move = self._checkpointer.expect_tree_move

    # -- what others may ask ----------------------------------------------------------------------

    @property
    def offset_ns(self) -> int:
        """The low watermark."""
        return self._watermark.value_ns

    @property
    def behind_since_ns(self) -> int | None:
        """When the oldest change was made that is not done, or may have been made unseen; else None."""
        if self._phase is Phase.SNAPSHOT:
            return self._start.checkpoint.offset_ns
        oldest_ns = self._watermark.oldest_unfinished_ns
        return self._hearing.silent_since_ns if oldest_ns is None else oldest_ns

    @property
    def follows(self) -> bool:
        """Whether the log is being followed, and no snapshot is taken."""
        return self._phase is Phase.FOLLOW

    @property
    def queued(self) -> int:
        """Operations that are not done."""
        return self._scheduler.queued

    def want_comparison(self) -> None:
        """The filer may have lost some of its log: compare the sink with the live tree soon."""
        self._compared_ns = COMPARISON_WANTED
        self._compare_wanted.set()

    # -- the run ----------------------------------------------------------------------------------

    async def run(
        self, stop: asyncio.Event, keepers: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    ) -> bool:
        """Work until `stop`, or until everything is done in a one-shot run; then drain and save.

        True when everything was done. Raises an exception group with what ended it otherwise.
        """
        letters = await self._way.ends.letters.all()
        self._applier.letters.know(letters)
        self._way.watcher.lettered.update(letter.key for letter in letters)
        await self._guard.load()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keeper()) for keeper in (*keepers, *self._keepers())]
            async with self._scheduler:
                work = group.create_task(self._work(), name="work")
                stopper = group.create_task(stop.wait(), name="stop")
                await asyncio.wait({work, stopper}, return_when=asyncio.FIRST_COMPLETED)
                stopper.cancel()
                finished = work.done()
                if not finished:
                    work.cancel()
                    await self._wind_down()
            for task in tasks:
                task.cancel()
        await self._checkpointer.save(last=True)
        return finished

    def _keepers(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        keepers: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._checkpointer.run,
            self._retries.run,
            self._decisions.run,
        ]
        if not self._one_shot:
            keepers.append(self._reconcile_now_and_then)
        return keepers

    async def _wind_down(self) -> None:
        """Let what runs finish within the grace time; what is queued is done after the next start."""
        self._scheduler.stop()
        try:
            async with asyncio.timeout(self._grace_s):
                await self._scheduler.settle()
        except TimeoutError:
            self._way.watcher.logger.warning(
                "%d operations did not end within the grace time; they will be repeated",
                self._scheduler.running,
            )

    async def _work(self) -> None:
        # Before anything is written: what repeats the past may break off, and must be repeated then.
        await self._checkpointer.save(force=True)
        await self._decisions.look()
        await self._retries.look()
        if self._phase is Phase.SNAPSHOT:
            await self._take_snapshot()
        await self._know_tree()
        self._way.watcher.recovered()
        await self._follow()
        await self._scheduler.drain()
        if self._compare_wanted.is_set():
            await self._reconcile()
            await self._scheduler.drain()

    def _position(self) -> Checkpoint:
        """The checkpoint as of now."""
        if self._phase is Phase.SNAPSHOT:
            cursor = self._snapshot.cursor or self._start.checkpoint.cursor
            return self._signed(replace(self._start.checkpoint, cursor=cursor))
        value_ns = self._watermark.value_ns
        # Two events can carry the same time: one nanosecond less replays a tie rather than lose it.
        offset_ns = value_ns if value_ns == self._start.checkpoint.offset_ns else value_ns - 1
        ahead_to_ns = max(self._applier.ahead_to_ns, self._checkpointer.tree_moves_to_ns)
        ahead_to_ns = ahead_to_ns if value_ns < ahead_to_ns else 0
        return self._signed(Checkpoint(offset_ns, compared_ns=self._compared_ns, ahead_to_ns=ahead_to_ns))

    def _signed(self, checkpoint: Checkpoint) -> Checkpoint:
        way = self._way
        return replace(checkpoint, generation=way.generation(), boot=way.boot.name, holder=way.holder)

    # -- the snapshot -----------------------------------------------------------------------------

    async def _take_snapshot(self) -> None:
        checkpoint, watcher = self._start.checkpoint, self._way.watcher
        watcher.recovered("snapshot")
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(tell_listener(watcher, self._way.ends.source, checkpoint.cursor))
            await self._snapshot.copy(after=checkpoint.cursor, compare=not self._was_empty)
            counting.cancel()
        if checkpoint.sweep and not self._was_empty and not self._way.layout.keeps_deleted:
            if self._may_sweep:
                await self._know_tree()
                await self._snapshot.sweep()
                await self._scheduler.drain()
            else:
                watcher.logger.warning("nothing is swept: the sink is not marked as ours")
        self._phase = Phase.FOLLOW
        self._applier.ahead_to_ns = self._repeats_until_ns = await self._way.ends.source.now_ns()
        self._compared_ns = time.time_ns()
        await self._checkpointer.save(force=True)
        watcher.logger.info(
            "snapshot done: %d files written, %d swept", watcher.counters.written, watcher.counters.swept
        )

    async def _know_tree(self) -> None:
        if not self._way.layout.keeps_deleted:
            await tell_guard(self._guard, self._way.ends.source)

    def _new_snapshot(self, offset_ns: int) -> Snapshot:
        way = self._way
        return Snapshot(
            way.ends,
            way.scope,
            way.layout,
            way.planner,
            self._scheduler,
            way.watcher,
            self._guard,
            offset_ns=offset_ns,
        )

    # -- following --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Take changes from the stream, and open it again whenever it breaks."""
        source, watcher = self._way.ends.source, self._way.watcher
        until_ns = await source.now_ns() if self._one_shot else None
        since_ns, failures = self._watermark.value_ns, 0
        # Where following the log was chosen, it was just looked at.
        is_known = self._start.checkpoint.phase is Phase.FOLLOW
        while True:
            filer = self._filer_in_use()
            try:
                if not is_known:
                    await self._way.require_cluster()
                    await require_log(source, since_ns)
                is_known = False
                # Whatever came up to now may have been told before, and be in the sink.
                self._applier.repeats_to_ns = await source.now_ns()
                async with aclosing(source.subscribe(since_ns, until_ns)) as stream:
                    async for batch in stream:
                        if failures:
                            failures = 0
                            watcher.recovered()
                        await self._take(batch)
                return
            except SourceUnreachable as error:
                failures += 1
                watcher.trouble("source-error", error)
            await asyncio.sleep(backoff_s(failures, random.random, longest_s=5.0))
            since_ns = self._position().offset_ns
            self._guard.read_again()
            if self._filer_in_use() != filer:
                since_ns -= PEERS_DIFFER_NS

    async def _take(self, batch: Sequence[Event]) -> None:
        for event in batch:
            repeated = self._hearing.hears(event)
            match event:
                case Heartbeat(ts_ns=now_ns):
                    self._caught_up(now_ns)
                case Marker(ts_ns=ts_ns):
                    self._watermark.pass_by(ts_ns)
                case _:
                    await self._take_change(event, repeated=repeated)

    def _caught_up(self, now_ns: int) -> None:
        """The filer has nothing more to tell, as of its clock."""
        match self._hearing.clock:
            case Clock.SET_BACK:
                self._way.watcher.clock_set_back()
            case Clock.CAUGHT_UP:
                self.want_comparison()
        # The offset of a quiet folder must not grow so old that the log no longer reaches back to it.
        if now_ns - self._watermark.value_ns > 2 * QUIET_NS and self._watermark.oldest_unfinished_ns is None:
            self._watermark.pass_by(now_ns - QUIET_NS)

    async def _take_change(self, change: Change, *, repeated: bool) -> None:
        clipped = self._way.scope.clip(change)
        if clipped is not None:
            self._guard.sees(clipped)
            await self._tell_of_parents(clipped)
        operation = None if clipped is None else self._way.planner.plan(clipped)
        if isinstance(operation, Write) and change.ts_ns <= self._repeats_until_ns:
            # The sink most likely holds this very version, if perhaps with other attributes.
            operation.look = not (isinstance(change, Upsert) and change.same_content)
        if isinstance(operation, Move):
            operation.repeated = repeated
        if operation is None or not self._guard.lets(operation, moved_out=isinstance(change, Rename)):
            self._watermark.pass_by(change.ts_ns)
            if self._guard.deletes.pending > MOST_NOT_RECORDED:
                await self._checkpointer.save()
            return
        ticket = self._watermark.add(change.ts_ns)
        if change.ts_ns <= self._checkpointer.saved_offset_ns:
            # The stream stepped back. A repeated old version may lie in the sink for a moment: a
            # crash in that moment must find a checkpoint that repeats the newer ones too.
            await self._checkpointer.save()
        await self._scheduler.submit(operation, partial(self._watermark.finish, ticket))

    async def _tell_of_parents(self, change: Change) -> None:
        async for directory in self._parents.untold(change):
            write = self._way.planner.write(change.ts_ns, directory)
            if write is not None:
                ticket = self._watermark.add(change.ts_ns)
                await self._scheduler.submit(write, partial(self._watermark.finish, ticket))

    # -- mending ----------------------------------------------------------------------------------

    async def _reconcile_now_and_then(self) -> None:
        """Compare the sink with the live tree when asked to, and a period after the last time."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_comparison_s()):
                    await self._compare_wanted.wait()
            pause_s = 1.0
            if self._phase is Phase.FOLLOW:
                try:
                    await self._catch_up_first()
                    await self._reconcile()
                except (SourceUnreachable, SinkError, StateError) as error:
                    self._way.watcher.complain("comparison broke off, will be begun again", error)
                    self._compare_wanted.set()
                    pause_s = COMPARE_AGAIN_S
            await asyncio.sleep(pause_s)

    def _until_comparison_s(self) -> float | None:
        if not self._reconcile_every_s:
            return None
        return max(0.0, self._reconcile_every_s - (time.time_ns() - self._compared_ns) / 1e9)

    async def _catch_up_first(self) -> None:
        """What the log still has to tell is no difference, and its deletes are no losses."""
        now_ns = await self._way.ends.source.now_ns()
        await self._hearing.until_done(now_ns, self._watermark, within_s=CATCH_UP_S)

    async def _reconcile(self) -> None:
        # What the log may have lost can be a change of attributes alone.
        thorough = self._compare_wanted.is_set()
        self._compare_wanted.clear()
        self._way.watcher.logger.info("compares the sink with the live tree")
        snapshot = self._new_snapshot(self._watermark.value_ns)
        sweep = self._may_sweep and not self._way.layout.keeps_deleted
        began_ns = time.time_ns()
        differed = await snapshot.reconcile(sweep=sweep, thorough=thorough)
        self._compared_ns = COMPARISON_WANTED if self._compare_wanted.is_set() else began_ns
        self._way.watcher.logger.info(
            "compared: %d differed and are mended%s",
            differed,
            ", but for deletes" if self._guard.holds else "",
        )
