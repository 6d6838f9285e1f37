"""`python -m tests.bench.memory`: the most memory that filerbackup takes in hard cases, against its promise.

The promise: `memory` as configured and 120 MB for everything else. Times mean nothing here.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filerbackup.filer.stubs import filer_pb2 as pb
from tests.bench.memory_places import Disk, Gateway, Place, small_disk
from tests.support.configs import general
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.many_entries import chunked_entry, inline_entry, make_many, needle
from tests.support.weed import WeedServer, running_weed, scratch_directory

BESIDE_BYTES = 120_000_000
"""What the process may take on top of `memory`."""
_MIB = 1 << 20
_ENDS_WITHIN_S = 900.0
_SETTLES_S = 8.0
_DRAINS_S = 15.0
_LARGE_FILES = 64


class Peak:
    """The highest resident set of a process so far, as the kernel keeps it."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.look()

    def look(self) -> int:
        """Look now; what was seen last when the process has ended."""
        with contextlib.suppress(OSError):
            for line in self._status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.bytes = max(self.bytes, int(line.split()[1]) * 1024)
        return self.bytes

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@dataclass(frozen=True)
class Scale:
    """How much there is of everything."""

    changes: int
    files: int
    chunks: int
    large: int


@dataclass(frozen=True)
class Run:
    """One case on one place: source, place, configured memory, scale, and room for files."""

    origin: WeedServer
    place: Place
    memory: int
    scale: Scale
    scratch: Path

    def config(self, folder: str) -> str:
        memory = f"{self.memory // _MIB}MiB"
        return general(self.origin, folder, memory=memory, claim=True) + self.place.section

    def origin_has(self, path: str) -> bool:
        """Whether the source was filled already."""
        with contextlib.suppress(FileNotFoundError):
            return bool(self.origin.get(path))
        return False

    def to_the_end(self, folder: str, *arguments: str) -> int:
        """The peak of one `catchup`."""
        with daemon(self.scratch, self.config(folder)) as process:
            process.start(*arguments, command="catchup")
            assert process.process is not None
            peak = Peak(process.process.pid)
            code = process.process.wait(_ENDS_WITHIN_S)
            peak.close()
            if code:
                raise RuntimeError(f"catchup ended with {code}:\n{process.log[-3000:]}")
            _say(f"    {process.log.strip().splitlines()[-1]}")
            return peak.bytes

    def with_a_stopped_sink(self, folder: str, change: Callable[[], None]) -> int:
        """The peak of `run` when the sink stops, changes come, and it begins to work again."""
        make_many(self.origin, [(folder, inline_entry("first", b"first"))])
        with daemon(self.scratch, self.config(folder)) as process:
            process.start("--start", "snapshot")
            assert process.process is not None
            wait_until(lambda: self.place.holds("first"), what=lambda: f"a first copy:\n{process.log}")
            wait_until(lambda: "snapshot done" in process.log, what=lambda: process.log)
            peak = Peak(process.process.pid)
            self.place.stop()
            change()
            self._settle(peak)
            stopped = peak.bytes
            self.place.go_on()
            time.sleep(_DRAINS_S)
            process.signal(signal.SIGTERM)
            process.process.wait(60)
            peak.close()
            _say(f"    {stopped / 1e6:.0f} MB while it was stopped; {_last(process)}")
            return peak.bytes

    @staticmethod
    def _settle(peak: Peak) -> None:
        before, since = peak.look(), time.monotonic()
        while time.monotonic() - since < _SETTLES_S:
            time.sleep(0.5)
            if peak.look() > before + _MIB:
                before, since = peak.bytes, time.monotonic()


def _last(process: Daemon) -> str:
    return process.log.strip().splitlines()[-1][:300]


# -- the cases ----------------------------------------------------------------------------------------


def backlog(run: Run) -> int:
    """Files made while the sink is stopped, each of 600 bytes."""
    folder = f"/backlog-{run.place.name}"

    def change() -> None:
        files = ((f"{folder}/d{n % 97}", _file(n, 600)) for n in range(run.scale.changes))
        make_many(run.origin, files)

    return run.with_a_stopped_sink(folder, change)


def overwrites(run: Run) -> int:
    """The same thousand files overwritten again and again while the sink is stopped."""
    folder = f"/overwrites-{run.place.name}"

    def change() -> None:
        many = range(run.scale.changes)
        make_many(run.origin, ((folder, inline_entry(f"f{n % 1000:07}", _text(n, 600))) for n in many))

    return run.with_a_stopped_sink(folder, change)


def many_chunks_wait(run: Run) -> int:
    """Files of 2,000 chunks each, made while the sink is stopped."""
    folder = f"/wait-{run.place.name}"
    chunk = needle(run.origin, 1024)

    def change() -> None:
        count = max(1, run.scale.changes // 500)
        make_many(run.origin, ((folder, chunked_entry(f"f{n:05}", chunk, 2000)) for n in range(count)))

    return run.with_a_stopped_sink(folder, change)


def one_directory(run: Run) -> int:
    """One directory of many files: copied, then compared and swept."""
    folder = "/directory"
    files = [(f"f{number:07}", _text(number, 40)) for number in range(run.scale.files)]
    if not run.origin_has(f"{folder}/one/{files[0][0]}"):
        make_many(run.origin, ((f"{folder}/one", inline_entry(name, data)) for name, data in files))
    run.place.prefill("one", files)
    first = run.to_the_end(folder, "--start", "snapshot")
    return max(first, run.to_the_end(folder, "--start", "snapshot"))


def one_file(run: Run) -> int:
    """One file of very many chunks; and one of more than a manifest holds."""
    folder = f"/chunks-{run.place.name}"
    chunk = needle(run.origin, 32 << 10)
    counts = (run.scale.chunks, run.scale.chunks * 5 // 2)
    make_many(run.origin, [(folder, chunked_entry(f"of{count}", chunk, count)) for count in counts])
    return run.to_the_end(folder, "--start", "log")


def large_files(run: Run) -> int:
    """Large files, all at once."""
    folder = "/large"
    chunk = needle(run.origin, 4 * _MIB)
    if not run.origin_has(f"{folder}/f0"):
        files = (chunked_entry(f"f{number}", chunk, run.scale.large) for number in range(_LARGE_FILES))
        make_many(run.origin, ((folder, file) for file in files))
    return run.to_the_end(folder, "--start", "snapshot")


CASES: dict[str, Callable[[Run], int]] = {
    "backlog": backlog,
    "overwrites": overwrites,
    "chunks-wait": many_chunks_wait,
    "directory": one_directory,
    "chunks": one_file,
    "large": large_files,
}


STOPPING = ("backlog", "overwrites", "chunks-wait")


def _text(number: int, size: int) -> bytes:
    return (b"%d " % number * (size // 2))[:size]


def _file(number: int, size: int) -> pb.Entry:
    return inline_entry(f"f{number:07}", _text(number, size))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _place(case: str, sink: str, target: WeedServer, scratch: Path) -> Iterator[Place | None]:
    if sink == "s3":
        yield Gateway(target)
    elif case in STOPPING:
        with small_disk(scratch / f"disk-{case}") as disk:
            yield None if disk is None else Disk(disk / "copy")
    else:
        yield Disk(scratch / f"copy-{case}")


def _measure(options: argparse.Namespace, scratch: Path) -> list[tuple[str, str, int, int]]:
    """Case, sink, configured memory and peak, of all that could be measured here."""
    scale = Scale(options.changes, options.files, options.chunks, options.large)
    found = []
    with (
        running_weed(scratch / "source", volume_max=300) as origin,
        running_weed(scratch / "target", volume_max=300) as target,
    ):
        for name in options.only or CASES:
            for sink in options.sink or ("local", "s3"):
                with _place(name, sink, target, scratch) as place:
                    if place is None:
                        _say(f"  {name} to {sink}: left out, no file system can be mounted here")
                        continue
                    run = Run(origin, place, options.memory * _MIB, scale, scratch / f"{name}-{sink}")
                    peak = CASES[name](run)
                _say(f"  {name} to {sink}: {peak / 1e6:.0f} MB")
                found.append((name, sink, options.memory * _MIB, peak))
    return found


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument("--only", action="append", choices=tuple(CASES), help="one case; repeatable")
    parser.add_argument("--sink", action="append", choices=("local", "s3"), help="one sink; repeatable")
    parser.add_argument("--memory", type=int, default=96, metavar="MIB", help="as configured, default 96")
    parser.add_argument("--changes", type=int, default=200_000, help="that wait, default 200,000")
    parser.add_argument("--files", type=int, default=300_000, help="in one directory, default 300,000")
    parser.add_argument("--chunks", type=int, default=10_000, help="of one file, default 10,000")
    parser.add_argument("--large", type=int, default=12, help="MiB / 4 of each large file, default 12")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """0 when every peak is within the promise, else 1."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = scratch_directory("memory")
    try:
        found = _measure(options, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("| case | sink | memory MiB | peak MB | allowed MB | |\n| --- | --- | ---: | ---: | ---: | --- |")
    broken = False
    for name, sink, memory, peak in found:
        allowed = memory + BESIDE_BYTES
        broken = broken or peak > allowed
        verdict = "BROKEN" if peak > allowed else "kept"
        print(f"| {name} | {sink} | {memory // _MIB} | {peak / 1e6:.0f} | {allowed / 1e6:.0f} | {verdict} |")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
