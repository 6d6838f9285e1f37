"""The whole pipeline against a simple model: random histories, random failures, crashes at any step.

Checked at the end: the sink holds what the source holds. Checked at every stored checkpoint: what is
durable covers all changes up to it (the promises durable-first and replay-safe). With a delete guard
in the way what is held must be recorded by then, and at the end all of it is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import stat
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filerbackup import retry
from filerbackup.content import Content
from filerbackup.errors import SinkThrottled, SinkUnavailable
from filerbackup.events import Delete, Entry, EntryKind, Rename, Upsert
from filerbackup.pipeline import checkpointer
from filerbackup.pipeline.apply import Applier, Ends
from filerbackup.pipeline.budget import ByteBudget
from filerbackup.pipeline.fence import Fence
from filerbackup.pipeline.filters import Scope
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.layout import Dated, Layout, Mirror
from filerbackup.pipeline.limiter import Limiter
from filerbackup.pipeline.planner import Planner
from filerbackup.pipeline.session import Session
from filerbackup.pipeline.start import choose_start
from filerbackup.pipeline.watcher import Watcher
from filerbackup.pipeline.way import Way
from filerbackup.settings.model import DeleteGuard
from filerbackup.sinks.base import Capabilities
from filerbackup.sinks.memory import MemorySink
from filerbackup.state.base import Checkpoint, Decision, DeleteWish, Phase
from filerbackup.state.dry_run import DryRunBoot
from tests.support.model_filer import ROOT, ModelFiler
from tests.support.model_state import ModelCheckpoints, ModelHeld, ModelLetters
from tests.support.virtual_loop import run_virtually

LONGEST_S = 3600.0
NEVER_CUT = 1 << 30
CHANGES_A_STEP = 0.1

NAMES = ["a", "b", "a-b", "c.d", "é"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda parts: "/".join([ROOT, *parts]))
action = st.one_of(
    st.tuples(st.just("write"), paths, st.binary(max_size=20)),
    st.tuples(st.just("write"), paths, st.binary(max_size=20)),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("delete"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("replace"), paths, paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o644, 0o755])),
    st.tuples(st.just("touch"), paths),
    st.tuples(st.just("symlink"), paths, st.sampled_from(["x", "y"])),
    st.tuples(st.just("vacuum")),
)
histories = st.lists(st.lists(action, max_size=14), min_size=1, max_size=4)

TREES = Capabilities(
    directories=True, symlinks=True, move=True, move_tree=True, write_buffer_bytes=0, update=True
)
OBJECTS = Capabilities(
    directories=False, symlinks=True, move=True, move_tree=False, write_buffer_bytes=0, update=True
)
NO_LINKS = Capabilities(directories=False, symlinks=False, move=False, move_tree=False, write_buffer_bytes=0)


class Gateway(MemorySink):
    """A bucket over a file system: it has no room for an object where others lie below its name."""

    async def write(self, key: str, entry: Entry, content: Content) -> None:
        self._need_room(key)
        await super().write(key, entry, content)

    async def move(self, old_key: str, new_key: str, entry: Entry) -> bool:
        self._need_room(new_key)
        return await super().move(old_key, new_key, entry)

    def _need_room(self, key: str) -> None:
        if any(other.startswith(key + "/") for other in self.objects):
            raise SinkUnavailable(f"{key} is a directory here, and not empty")


class World:
    """A model filer, a sink in memory, and the state between the lives of a process."""

    def __init__(
        self,
        rng: random.Random,
        capabilities: Capabilities,
        *,
        dated: bool,
        kind: type[MemorySink] = MemorySink,
    ) -> None:
        self.rng = rng
        self.filer = ModelFiler(rng)
        self.sink = kind(capabilities=capabilities)
        self.letters = ModelLetters()
        self.held = ModelHeld()
        self.limits = DeleteGuard()
        self.checkpoints = ModelCheckpoints(self.check_durable)
        self.scope = Scope(ROOT)
        self.layout: Layout = Dated(self.scope.relative) if dated else Mirror(self.scope.relative)

    def do(self, steps: Sequence[tuple[object, ...]]) -> None:
        """Change the source."""
        for name, *arguments in steps:
            getattr(self.filer, str(name))(*arguments)

    def break_sink(self) -> None:
        """Some of the next calls fail, or are done and only the answer is lost."""
        for _ in range(self.rng.randrange(4)):
            error = self.rng.choice([SinkUnavailable("down"), SinkThrottled("slow down")])
            operation = self.rng.choice(["write", "write", "delete", "delete_tree", "move", "update", "stat"])
            self.sink.fail(operation, error, times=self.rng.randint(1, 3), after=self.rng.random() < 0.5)

    async def live(
        self,
        steps: int | None,
        *,
        wish: str = "auto",
        compare: bool = False,
        meanwhile: Sequence[tuple[object, ...]] = (),
    ) -> None:
        """One life of the process: to the end, or for so many steps of the loop, then a crash.

        What is to happen `meanwhile` happens at steps of its own; what is left of it, after the crash.
        """
        await self.sink.open()
        ends = Ends(self.filer, self.sink, self.letters)
        clock = asyncio.get_running_loop().time
        watcher = Watcher(_quiet())
        budget = ByteBudget(64)

        def guard() -> Guard:
            directories = self.sink.capabilities.directories
            return Guard(self.limits, self.held, watcher, directories=directories)

        def applier(limiter: Limiter, guard: Guard) -> Applier:
            return Applier(
                ends, self.layout, budget=budget, limiter=limiter, watcher=watcher, guard=guard, clock=clock
            )

        way = Way(
            ends=ends,
            checkpoints=self.checkpoints,
            scope=self.scope,
            layout=self.layout,
            planner=Planner(self.layout, self.sink.capabilities),
            watcher=watcher,
            limiter=lambda: Limiter(self.rng.randint(1, 6), clock),
            guard=guard,
            applier=applier,
            fence=Fence(lambda: 1.0),
            require_cluster=_no_other,
            generation=lambda: 1,
            boot=DryRunBoot(),
            holder="test",
        )
        start = await choose_start(
            self.filer, self.checkpoints, wish=wish, adopt_weed=False, first_session=True, sink_is_new=False
        )
        session = Session(
            way,
            start,
            one_shot=True,
            may_sweep=True,
            was_empty=not self.sink.objects,
            compare_soon=compare,
            reconcile_every_s=0,
            grace_s=0.1,
            filer_in_use=lambda: "model",
        )
        task = asyncio.create_task(session.run(asyncio.Event(), ()))
        if steps is None:
            async with asyncio.timeout(LONGEST_S):
                await task
            return
        ahead = list(meanwhile)
        for _ in range(steps):
            await asyncio.sleep(0)
            if ahead and self.rng.random() < CHANGES_A_STEP:
                self.do([ahead.pop(0)])
            if steps == NEVER_CUT and not ahead:
                # Not step by step: made-up time only leaps ahead when nothing else is to be done.
                await asyncio.wait({task})
            if task.done():
                break
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.sink.crash(self.rng)
        self.do(ahead)

    # -- what must hold -----------------------------------------------------------------------------

    def check_durable(self, checkpoint: Checkpoint) -> None:
        """Whatever no later change touches must be durable as the source has it."""
        if checkpoint.phase is Phase.SNAPSHOT or self.layout.name == "dated":
            return
        later = set()
        for event in self.filer.log:
            if event.ts_ns > checkpoint.offset_ns:
                later |= touched(event)
        for path in {path for event in self.filer.log for path in touched(event)} - later:
            key = self.scope.relative(path)
            if any(letter.key == key for letter in self.letters.letters.values()):
                continue
            if any(held == key or held.startswith(key + "/") for held in self.held.keys):
                continue
            entry, stored = self.filer.tree.get(path), self.sink.durable.get(key)
            if entry is None or self.left_out(entry):
                assert stored is None, f"{key} is gone in the source, stored as durable {checkpoint}"
            elif not entry.is_directory:
                assert stored is not None, f"{key} is not durable at {checkpoint}"
                assert stored.is_copy_of(entry), f"{key} is durable with other attributes"
                assert stored.data == self.filer.bytes_of(entry), f"{key} is durable with other bytes"

    def left_out(self, entry: Entry) -> bool:
        """Whether the sink keeps no such entries."""
        return entry.kind is EntryKind.SYMLINK and not self.sink.capabilities.symlinks

    def check_equal(self) -> None:
        """At the end the sink holds what the layout asks for."""
        assert self.letters.letters == {}
        stored = {
            key: (found.data, found.mode, found.target, found.mtime_ns)
            for key, found in self.sink.objects.items()
            if found.kind is not EntryKind.DIRECTORY
        }
        if self.layout.name == "dated":
            assert stored == stored | self.expected_dated()
            return
        files = {
            self.scope.relative(path): self.expected(entry)
            for path, entry in self.filer.tree.items()
            if not entry.is_directory and not self.left_out(entry)
        }
        assert stored == files
        if self.sink.capabilities.directories:
            directories = {
                self.scope.relative(p) for p, entry in self.filer.tree.items() if entry.is_directory
            }
            assert {
                key for key, found in self.sink.objects.items() if found.kind.value == "directory"
            } == directories

    def expected(self, entry: Entry) -> tuple[bytes, int, str, int]:
        """What a copy is compared by."""
        return (
            self.filer.bytes_of(entry),
            stat.S_IMODE(entry.mode),
            entry.symlink_target,
            entry.mtime_ns,
        )

    def expected_dated(self) -> dict[str, tuple[bytes, int, str, int]]:
        """What surely was there to be copied: the live files, under their day."""
        return {
            str(self.layout.key(entry)): self.expected(entry)
            for entry in self.filer.tree.values()
            if not entry.is_directory
        }


async def _no_other() -> None:
    """There is but one filer."""


def _quiet() -> logging.Logger:
    """Failures are what is tested here; what is said of them is not."""
    logger = logging.getLogger("filerbackup.test.quiet")
    logger.disabled = True
    return logger


def touched(event: object) -> set[str]:
    """The paths that an event is about."""
    match event:
        case Upsert(entry=Entry(path=path)) | Delete(entry=Entry(path=path)):
            return {path}
        case Rename(old=Entry(path=old), new=Entry(path=new)):
            return {old, new}
        case _:
            return set()


async def run(
    history: list[list[tuple[object, ...]]],
    rng: random.Random,
    capabilities: Capabilities,
    *,
    dated: bool,
    wish: str,
    kind: type[MemorySink] = MemorySink,
) -> None:
    world = World(rng, capabilities, dated=dated, kind=kind)
    # Else every change would be so old that no filer can be behind it.
    world.filer.clock_starts_ns = time.time_ns()
    world.filer.breaks = world.filer.steps_back = rng.choice([0.0, 0.1])
    for steps in history:
        before = rng.randint(0, len(steps))
        world.do(steps[:before])
        if kind is MemorySink:
            world.break_sink()
        await world.live(rng.randrange(400), wish=wish, meanwhile=steps[before:])
    await world.live(None, wish="auto")
    assert world.letters.puts == 0 or kind is MemorySink, "no failure was random: nothing is to be given up"
    world.check_equal()


def simulate(main: Coroutine[Any, Any, None], rng: random.Random) -> None:
    """Run it in made-up time, on a machine that is fast or slow."""
    random.seed(rng.randrange(2**32))
    with (
        patch.object(retry, "FIRST_DELAY_S", 1e-5),
        patch.object(retry, "LONGEST_DELAY_S", 1e-4),
        patch.object(checkpointer, "EVERY_S", 1e-4),
    ):
        run_virtually(main, rng, pace_s=10 ** rng.uniform(-7, -3))


slow_machine = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(
    history: list[list[tuple[object, ...]]],
    rng: random.Random,
    capabilities: Capabilities,
    dated: bool,
    wish: str,
) -> None:
    simulate(run(history, rng, capabilities, dated=dated, wish=wish), rng)


@slow_machine
@given(histories, st.integers(0, 2**32), st.sampled_from(["auto", "log", "snapshot"]))
def test_a_mirror_in_a_tree(history: list[list[tuple[object, ...]]], seed: int, wish: str) -> None:
    check(history, random.Random(seed), TREES, False, wish)


@slow_machine
@given(histories, st.integers(0, 2**32), st.sampled_from(["auto", "log", "snapshot"]))
def test_a_mirror_in_a_bucket(history: list[list[tuple[object, ...]]], seed: int, wish: str) -> None:
    check(history, random.Random(seed), OBJECTS, False, wish)


def taking_places(rng: random.Random) -> list[list[tuple[object, ...]]]:
    """A history of files that take the place of directories, and the other way round."""

    def step() -> tuple[object, ...]:
        one, other = (f"{ROOT}/{rng.choice(['a', 'a/b', 'b', 'b/a', 'c'])}" for _ in range(2))
        return rng.choice(
            [("write", one, b"1"), ("write", one, b"22"), ("delete", one), ("rename", one, other)]
        )

    return [[step() for _ in range(rng.randrange(15))] for _ in range(rng.randint(1, 4))]


@slow_machine
@given(st.integers(0, 2**64), st.sampled_from(["auto", "log", "snapshot"]))
def test_a_mirror_behind_a_gateway(seed: int, wish: str) -> None:
    """By chance alone: hypothesis prefers histories that are too short to get there."""
    rng = random.Random(seed)
    simulate(run(taking_places(rng), rng, OBJECTS, dated=False, wish=wish, kind=Gateway), rng)


@slow_machine
@given(histories, st.integers(0, 2**32), st.sampled_from(["auto", "log", "snapshot"]))
def test_a_mirror_without_symlinks(history: list[list[tuple[object, ...]]], seed: int, wish: str) -> None:
    check(history, random.Random(seed), NO_LINKS, False, wish)


@slow_machine
@given(histories, st.integers(0, 2**32))
def test_dated_copies(history: list[list[tuple[object, ...]]], seed: int) -> None:
    check(history, random.Random(seed), OBJECTS, True, "auto")


def ask_for(world: World, decision: Decision, *, kept: bool = False) -> None:
    """What a person does with `filerbackup deletes`."""
    world.held.wished = DeleteWish(decision, world.rng.randrange(1, 2**60), kept)


async def run_guarded(
    history: list[list[tuple[object, ...]]], rng: random.Random, capabilities: Capabilities, limit: int
) -> None:
    world = World(rng, capabilities, dated=False)
    world.filer.breaks = world.filer.steps_back = rng.choice([0.0, 0.1])
    world.limits = DeleteGuard(limit=limit, window_s=1e9)
    for steps in history:
        before = rng.randint(0, len(steps))
        world.do(steps[:before])
        world.break_sink()
        if (choice := rng.randrange(4)) < 2:
            ask_for(world, (Decision.ALLOW, Decision.DISCARD)[choice])
        await world.live(
            rng.choice([rng.randrange(400), NEVER_CUT]),
            wish=rng.choice(["auto", "snapshot"]),
            meanwhile=steps[before:],
        )
    world.limits = DeleteGuard()
    ask_for(world, Decision.ALLOW, kept=True)
    await world.live(None)
    assert not world.held.stored
    assert (world.held.record.held, world.held.record.tripped_ns, world.held.wished) == (0, 0, None)
    for letter_id, letter in world.letters.letters.items():
        world.letters.letters[letter_id] = replace(letter, retry_requested=True)
    await world.live(None)
    await world.live(None, wish="snapshot")
    world.check_equal()


@slow_machine
@given(histories, st.integers(0, 2**32), st.sampled_from([TREES, OBJECTS]), st.integers(1, 4))
def test_a_mirror_behind_a_delete_guard(
    history: list[list[tuple[object, ...]]], seed: int, capabilities: Capabilities, limit: int
) -> None:
    rng = random.Random(seed)
    simulate(run_guarded(history, rng, capabilities, limit), rng)
