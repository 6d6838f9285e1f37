"""One chaos run: servers, two daemons, load and faults for a while, then peace, and a comparison."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc

from tests.chaos.book import Book
from tests.chaos.cluster import running_source
from tests.chaos.daemons import Team
from tests.chaos.faults import Lane, World, daemon_faults, server_faults, small_disk
from tests.chaos.load import FIRST, Load
from tests.chaos.logs import Session, check_logs, check_writers
from tests.chaos.s3_way import S3Way
from tests.chaos.shapes import FilerSide, LocalSide, S3Side, without_directories
from tests.chaos.watch import Checkpoints, Contents, filer_reader, local_reader
from tests.support import configs
from tests.support.every_kind import Kept, Shape, differences
from tests.support.line import LoopThread, Ports
from tests.support.s3_tree import make_bucket
from tests.support.weed import WeedServer, running_weed

EQUAL_WITHIN_S = 60.0
MOST_MEMORY_KIB = (96 + 120) << 10
"""The default of `--memory`, and the process itself."""
_BUCKET = "chaos"
_USUAL_LOOP_S = 0.12
"""What `_slowness` measures on an idle core of an ordinary machine."""
_MOST_ROUNDS = 6
_QUIET_S = 6.0
"""A daemon says every 5 s how it is: for longer than that it has to say that nothing is left."""
_UNREADABLE = (OSError, http.client.HTTPException, grpc.RpcError, ExceptionGroup)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `seconds`: of load and faults. `per_s` steps of load, `bytes_per_s` written at most."""

    seed: int
    seconds: float
    sinks: tuple[str, ...] = ("local", "s3")
    per_s: float = 40.0
    bytes_per_s: float = 2_500_000.0


@dataclass(slots=True)
class Outcome:
    """What came of it; no line in `broken`: all promises were kept."""

    seed: int
    seconds: float
    sinks: tuple[str, ...]
    equal_within_s: float = 0.0
    allowed_s: float = EQUAL_WITHIN_S
    files: int = 0
    bytes: int = 0
    peak_mib: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def run(plan: Plan, directory: Path, *, quiet: bool = False) -> Outcome:
    """All of it; what it leaves behind is in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    book = Book(directory, quiet)
    try:
        return _Run(plan, directory, book).outcome()
    finally:
        book.close()


class _Run:
    def __init__(self, plan: Plan, directory: Path, book: Book) -> None:
        self._plan, self._directory, self._book = plan, directory, book
        self._secret = "S" + secrets.token_hex(20)
        self._outcome = Outcome(plan.seed, plan.seconds, plan.sinks)
        self._rng = random.Random(plan.seed)
        self._team: Team | None = None
        self._watchers: tuple[Checkpoints, Contents] | None = None
        self._source: FilerSide
        self._sides: Mapping[str, LocalSide | S3Side | FilerSide]

    def outcome(self) -> Outcome:
        with self._world() as (world, disk):
            load = self._through_faults(world, disk)
            self._to_peace(world, disk)
            self._check(world)
            del load
        return self._outcome

    @contextlib.contextmanager
    def _world(self) -> Iterator[tuple[World, Path]]:
        lines, directory = LoopThread(), self._directory
        megabytes = int(128 + 1.3 * self._plan.bytes_per_s * (self._plan.seconds + 20) / 2**20)
        with contextlib.ExitStack() as stack:
            stack.enter_context(lines.running())
            sinks = stack.enter_context(running_weed(directory / "sinks", volume_max=100))
            source, filer_line, volume_line = stack.enter_context(
                running_source(directory / "source", lines, self._is_daemon)
            )
            for weed in (source, sinks):
                make_bucket(weed, _BUCKET)
            disk = stack.enter_context(small_disk(directory / "disk", megabytes))
            if disk is None:
                self._book.count("skipped: no small disk can be mounted")
            s3 = S3Way(sinks.s3_endpoint, self._owner)
            lines.enter(s3.running())
            source.put(f"/buckets/{_BUCKET}/first", FIRST)
            config = self._config(source.filer_port, filer_line.port, s3.endpoint, sinks)
            self._team = stack.enter_context(Team(directory, config, self._book).running())
            yield (
                World(source, sinks, filer_line, volume_line, s3, lines, self._team, disk, self._book),
                directory / "disk",
            )

    def _is_daemon(self, ports: Ports) -> bool:
        return self._team is not None and self._team.is_ours(ports)

    def _owner(self, ports: Ports) -> str | None:
        return self._team.owner(ports) if self._team is not None else None

    def _config(self, filer_port: int, grpc_port: int, s3_endpoint: str, sinks: WeedServer) -> str:
        general = {
            "filer": f"127.0.0.1:{filer_port}.{grpc_port}",
            "path": f"/buckets/{_BUCKET}",
            "connect_timeout": "20s",
            "delete_guard": "off",
            "grace": "5s",
        }
        text = "[filerbackup]\n" + "".join(f'{name} = "{value}"\n' for name, value in general.items())
        if "local" in self._plan.sinks:
            text += configs.local_sink(self._directory / "disk" / "copy")
        if "s3" in self._plan.sinks:
            text += configs.s3_sink(
                sinks, _BUCKET, endpoint=s3_endpoint, part_size="5MiB", aws_secret_access_key=self._secret
            )
        if "filer" in self._plan.sinks:
            address = f"127.0.0.1:{sinks.filer_port + 10_000}"
            text += configs.sink("filer", grpcAddress=address, directory="/copy")
        return text

    # -- trouble ------------------------------------------------------------------------------------

    def _through_faults(self, world: World, disk: Path) -> Load:
        plan, book = self._plan, self._book
        # Separate, so that the load of a seed does not depend on how the faults fall.
        load = Load(
            world.source,
            _BUCKET,
            seed=self._rng.getrandbits(32),
            book=book,
            per_s=plan.per_s,
            bytes_per_s=plan.bytes_per_s,
        )
        looking = random.Random(self._rng.getrandbits(32))
        lane_rngs = [random.Random(self._rng.getrandbits(32)) for _ in range(2)]
        lanes = [
            Lane(server_faults(world), book, lane_rngs[0], pause_s=(0.5, 4.0)),
            Lane(daemon_faults(world, lane_rngs[1]), book, lane_rngs[1], pause_s=(4.0, 14.0)),
        ]
        readers = self._readers(world, disk, looking)
        self._watchers = watchers = (Checkpoints(world.source, book), Contents(readers, load.versions, book))
        book.began = time.time()
        book.say(f"load and faults for {plan.seconds:g} s")
        for thread in (*watchers, load, *lanes):
            thread.start()
        try:
            time.sleep(plan.seconds)
        finally:
            book.say("the load and the faults stop")
            for lane in lanes:
                lane.finish()
            load.stop()
            for lane in lanes:
                lane.join(120)
                if lane.is_alive():
                    book.breaks("the run itself", "a fault was not healed")
        return load

    def _readers(
        self, world: World, disk: Path, rng: random.Random
    ) -> dict[str, Callable[[], tuple[str, bytes] | None]]:
        known = {
            "local": local_reader(disk / "copy", rng),
            "s3": filer_reader(world.sinks, f"/buckets/{_BUCKET}", rng),
            "filer": filer_reader(world.sinks, "/copy", rng),
        }
        return {name: reader for name, reader in known.items() if name in self._plan.sinks}

    # -- peace --------------------------------------------------------------------------------------

    def _to_peace(self, world: World, disk: Path) -> None:
        book, outcome = self._book, self._outcome
        began = time.monotonic()
        slowness = _slowness()
        outcome.allowed_s = EQUAL_WITHIN_S * slowness
        book.say(f"both sides have {outcome.allowed_s:.0f} s to become equal")
        source = self._source = FilerSide(world.source, f"/buckets/{_BUCKET}")
        sides = self._sides = {
            "local": LocalSide(disk / "copy"),
            "s3": S3Side(world.sinks, _BUCKET),
            "filer": FilerSide(world.sinks, "/copy"),
        }
        unlike = dict.fromkeys(self._plan.sinks, "not looked at yet")
        while unlike and time.monotonic() - began < outcome.allowed_s + (30 if slowness == 1 else 0):
            with contextlib.suppress(*_UNREADABLE):
                wanted = source.shape()
                outcome.files, outcome.bytes = len(wanted), sum(item.size for item in wanted.values())
                for name in list(unlike):
                    unlike[name] = self._difference(wanted, sides[name].shape(), name, source.hard_linked)
                    book.note("compared", sink=name, unlike=unlike[name])
                    if not unlike[name]:
                        del unlike[name]
                        book.say(f"{name} is equal after {time.monotonic() - began:.1f} s")
            outcome.equal_within_s = round(time.monotonic() - began, 1)
            time.sleep(0.5)
        if outcome.equal_within_s > outcome.allowed_s:
            book.breaks("both sides become equal", f"it took {outcome.equal_within_s} s")
        for name, text in unlike.items():
            book.breaks("both sides become equal", f"{name}:\n{text}")
        book.say(f"equal after {outcome.equal_within_s} s" if not unlike else "not equal")
        if not unlike:
            self._look_again(world)
        for watcher in self._watchers or ():
            watcher.stop()

    def _look_again(self, world: World) -> None:
        """All must still be equal when nothing is left to do: a replay of old events may have ended wrong."""
        book = self._book
        for _ in range(_MOST_ROUNDS):
            try:
                before = self._source.shape()
                if not self._settles(world):
                    return
                found = {name: self._sides[name].shape() for name in self._plan.sinks}
                wanted = self._source.shape()
            except _UNREADABLE as error:
                book.count("second looks that could not be taken")
                book.note("second look", error=f"{type(error).__name__}: {error}")
                continue
            if before == wanted:
                break
            book.count("times that the source changed by itself")
        else:
            book.breaks("the run itself", f"no second look in {_MOST_ROUNDS} rounds")
            return
        for name, shape in found.items():
            unlike = self._difference(wanted, shape, name, self._source.hard_linked)
            if unlike:
                book.breaks("both sides stay equal", f"{name}:\n{unlike}")
        book.say("looked again")

    def _settles(self, world: World) -> bool:
        """Whether the daemons say in time, and keep saying, that they have nothing left to do."""
        ends = time.monotonic() + self._outcome.allowed_s
        quiet_from, said = None, ""
        while (now := time.monotonic()) < ends:
            is_quiet, said = self._is_quiet(world)
            if not is_quiet:
                quiet_from = None
            elif quiet_from is None:
                quiet_from = now
            elif now - quiet_from > _QUIET_S:
                return True
            time.sleep(1)
        self._book.breaks("both sides become equal", f"but the status says that work is left:\n{said}")
        return False

    def _is_quiet(self, world: World) -> tuple[bool, str]:
        """Whether every sink has no backlog, and what `status` said."""
        try:
            done = world.team.daemon("one").run("status", "--json", timeout=30)
        except subprocess.TimeoutExpired as error:
            return False, str(error)
        if done.returncode:
            return False, done.stderr[-2000:]
        wanted = {"state": "following", "phase": "follow", "lag_s": 0, "queued": 0}
        rows = [{name: row[name] for name in wanted} for row in json.loads(done.stdout)]
        self._book.note("status", rows=rows)
        return rows == [wanted] * len(self._plan.sinks), done.stdout[-4000:]

    def _difference(self, wanted: Shape, found: Shape, name: str, links: set[str]) -> str:
        """For a person. `links`: names that only have to be there, and to be of the right kind.

        The content and the attributes of the other names of a hard link that was written need a
        comparison: a known limit.
        """
        if name == "s3":
            wanted = without_directories(wanted)
        wanted, found = (
            {key: Kept(item.kind) if key in links else item for key, item in shape.items()}
            for shape in (wanted, found)
        )
        return differences(wanted, found)

    def _compare_links(self, world: World) -> None:
        """What is left to a comparison: the names of a hard link that was written through another one.

        Again when the source has changed meanwhile: weed removes folders two minutes after they became
        empty, and with them a file that has taken such a folder's name since (seen with 4.48).
        """
        if self._book.broken:
            return
        for _ in range(_MOST_ROUNDS):
            before = self._source.shape()
            done = world.team.daemon("one").run("catchup", "--start", "snapshot", timeout=300)
            if done.returncode:
                self._book.breaks("a comparison mends the rest", done.stderr[-2000:])
                return
            wanted = self._source.shape()
            if before == wanted:
                break
            self._book.count("times that the source changed by itself")
        else:
            self._book.breaks("the run itself", f"the source changed in each of {_MOST_ROUNDS} comparisons")
            return
        for name in self._plan.sinks:
            unlike = self._difference(wanted, self._sides[name].shape(), name, set())
            if unlike:
                self._book.breaks("a comparison mends the rest", f"{name}:\n{unlike}")

    def _check(self, world: World) -> None:
        book, outcome, team = self._book, self._outcome, world.team
        letters = team.daemon("one").run("dead-letters list", "--json")
        if letters.returncode or json.loads(letters.stdout):
            book.breaks("no dead letters", (letters.stdout + letters.stderr)[:3000])
        for name in team.names:
            team.stop(name)
        self._compare_links(world)
        sessions = check_logs({name: team.daemon(name).log_path for name in team.names}, book, [self._secret])
        check_writers(world.s3.writes, sessions, "s3", book, team.thawed_at)
        self._check_looks(world, sessions)
        peak_kib = max(team.peak_kib.values())
        outcome.peak_mib = peak_kib >> 10
        if peak_kib > MOST_MEMORY_KIB:
            book.breaks("bounded", f"a daemon had {peak_kib >> 10} MiB")
        outcome.operations, outcome.unsure = book.numbers("done"), book.numbers("unsure")
        outcome.faults, outcome.looks = book.numbers("fault"), book.numbers("looks at")
        outcome.rest = {
            name: count
            for name, count in book.counts.items()
            if name.partition(" ")[0] not in ("done", "unsure", "fault", "looks")
        }
        outcome.broken = list(book.broken)

    def _check_looks(self, world: World, sessions: list[Session]) -> None:
        """A run that has not looked has not found anything either."""
        looks = self._book.numbers("looks at")
        there = {f"looks at {name}": looks.get(name, 0) for name in ("checkpoints", "contents")}
        there["sessions"] = len(sessions)
        if "s3" in self._plan.sinks:
            there |= {"looks at writers": looks.get("writers", 0), "writes into S3": len(world.s3.writes)}
            self._book.count("uploads cut", world.s3.cuts)
            self._book.count("requests throttled", world.s3.throttled)
        for name, count in there.items():
            if not count:
                self._book.breaks("the run itself", f"no {name}")


def _slowness() -> float:
    """1 on a machine with a core to spare, up to 2 on a slower one.

    Not by the load average: that is mostly what the run itself has made.
    """
    best = 9.0
    block = os.urandom(1 << 20)
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(40):
            hashlib.sha256(block).digest()
        sum(range(1_500_000))
        best = min(best, time.perf_counter() - began)
    return round(min(2.0, max(1.0, best / _USUAL_LOOP_S)), 1)
