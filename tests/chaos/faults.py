"""What goes wrong: each kind of fault, and the lanes in which they come one after the other."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.book import Book
from tests.chaos.cluster import Source
from tests.chaos.daemons import Team
from tests.chaos.s3_way import S3Way
from tests.support.line import Line, LoopThread, State
from tests.support.weed import WeedServer

NOTHING_LEFT = 1 << 20
_CUT_IN_UPLOAD_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class World:
    """All that can be disturbed. `disk`: the small file system of the local sink, None: not a small one."""

    source: Source
    sinks: WeedServer
    filer_line: Line
    volume_line: Line
    s3: S3Way
    lines: LoopThread
    team: Team
    disk: Path | None
    book: Book


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` and `heal` are called with a while between them, of `hold_s` seconds."""

    kind: str
    concerns: frozenset[str]
    hold_s: tuple[float, float]
    begin: Callable[[], object]
    heal: Callable[[], object]


def server_faults(world: World) -> list[Fault]:
    """Of the servers and of the lines to them."""
    source, sinks = world.source, world.sinks
    filer, volume = frozenset({"filer"}), frozenset({"volume"})
    # A filer that is asked to end is killed when it does not, so it may lose its log as well.
    restarted = filer | {"log"}
    s3, both = frozenset({"sink:s3"}), frozenset({"sink:s3", "sink:filer"})

    def filer_again() -> None:
        source.start_filer()
        source.wait_ready()

    def volume_again() -> None:
        source.start_volume()
        source.wait_volume()
        source.wait_ready()

    def stop_volume(how: signal.Signals) -> Callable[[], None]:
        return lambda: source.stop_volume(how)

    def stop_sinks() -> None:
        try:
            sinks.stop()
        except subprocess.TimeoutExpired:
            sinks.kill()

    found = [
        Fault("filer SIGTERM", restarted, (0, 4), source.stop, filer_again),
        Fault("filer kill -9", restarted, (0, 4), source.kill, filer_again),
        Fault("volume server SIGTERM", volume, (1, 6), stop_volume(signal.SIGTERM), volume_again),
        Fault("volume server kill -9", volume, (1, 6), stop_volume(signal.SIGKILL), volume_again),
        Fault("sink server kill -9", both, (1, 8), sinks.kill, sinks.start),
        Fault("sink server SIGTERM", both, (0, 4), stop_sinks, sinks.start),
        Fault("sink throttles", s3, (3, 8), *_switch(world, lambda on: _throttle(world.s3, on))),
        Fault("sink line cut in an upload", s3, (3, 8), *_switch(world, lambda on: _cut_after(world.s3, on))),
    ]
    for line, concerns in ((world.filer_line, filer), (world.volume_line, volume), (world.s3, s3)):
        name = "sink" if isinstance(line, S3Way) else line.name
        for state, hold_s in (
            (State.CUT, (0.2, 5.0)), (State.SLOW, (4.0, 8.0)), (State.HALF_OPEN, (3.0, 20.0)),
        ):  # fmt: skip
            switch = _switch(world, _becomes(line, state))
            found.append(Fault(f"{name} line {state.value}", concerns, hold_s, *switch))
    if world.disk is not None:
        ballast = _Ballast(world.disk)
        found.append(Fault("local disk full", frozenset({"sink:local"}), (3, 8), ballast.fill, ballast.free))
    return found


def daemon_faults(world: World, rng: random.Random) -> list[Fault]:
    """Of the daemons themselves."""
    team, hit = world.team, [""]
    daemon = frozenset({"daemon"})

    def to_one(do: Callable[[str], None]) -> Callable[[], None]:
        def done() -> None:
            hit[0] = team.pick(rng)
            do(hit[0])

        return done

    def again() -> None:
        team.start(hit[0])

    return [
        Fault("daemon kill -9", daemon, (0, 3), to_one(team.kill), again),
        Fault("daemon SIGTERM", daemon, (0, 3), to_one(team.stop), again),
        Fault("daemon frozen", daemon, (18, 28), to_one(team.freeze), lambda: team.thaw(hit[0])),
    ]


class Lane(threading.Thread):
    """Draws faults like cards, all of them before any comes again; heals the last one before it ends."""

    def __init__(
        self, faults: Sequence[Fault], book: Book, rng: random.Random, *, pause_s: tuple[float, float]
    ) -> None:
        super().__init__(daemon=True)
        self._faults, self._book, self._rng, self._pause_s = list(faults), book, rng, pause_s
        self._stopping = threading.Event()

    def run(self) -> None:
        with self._book.guarding("the faults"):
            self._deal()

    def _deal(self) -> None:
        deck: list[Fault] = []
        while not self._stopping.wait(self._rng.uniform(*self._pause_s)):
            if not deck:
                deck = self._rng.sample(self._faults, len(self._faults))
            fault = deck.pop()
            trouble = self._book.begin(fault.kind, fault.concerns)
            try:
                fault.begin()
                self._stopping.wait(self._rng.uniform(*fault.hold_s))
                fault.heal()
            except Exception as error:
                error.add_note(f"in {fault.kind}")
                raise
            finally:
                self._book.end(trouble)

    def finish(self) -> None:
        """No more faults; the one that lasts is healed soon."""
        self._stopping.set()


def _switch(world: World, turn: Callable[[bool], None]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Begin and heal of what is turned on and off in the loop of the lines."""
    return lambda: world.lines.call(lambda: turn(True)), lambda: world.lines.call(lambda: turn(False))


def _becomes(line: Line | S3Way, state: State) -> Callable[[bool], None]:
    return lambda on: line.become(state if on else State.WHOLE)


def _throttle(s3: S3Way, on: bool) -> None:
    s3.throttles = on


def _cut_after(s3: S3Way, on: bool) -> None:
    s3.cut_after = _CUT_IN_UPLOAD_BYTES if on else None


class _Ballast:
    """A file that takes all the room that a file system has left."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "ballast"

    def fill(self) -> None:
        with self._path.open("wb") as file:
            step = 256 << 20
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), step)
                    file.seek(step, os.SEEK_CUR)
                except OSError:
                    step //= 2

    def free(self) -> None:
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system of this size, or None where none can be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
