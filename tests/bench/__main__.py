"""`python -m tests.bench`: filerbackup and `weed filer.backup` side by side on real servers."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import source
from tests.bench.cases import Case, Load, all_cases
from tests.bench.programs import Failed, FilerBackup, Rclone, Run, Summary, Weed
from tests.bench.proxy import far_away
from tests.bench.report import Result, goals, machine, markdown, notes, table
from tests.bench.targets import Bucket, Directory, Target, WrongCopy, check
from tests.support.weed import WeedServer, running_weed, scratch_directory

Program = Weed | FilerBackup | Rclone
_VOLUMES = 300
"""Of 64 MiB each: the target keeps what was deleted until it is vacuumed."""


class Bench:
    """A source weed, a target weed, and a scratch directory; makes a fresh target for each run."""

    def __init__(self, scratch: Path, origin: WeedServer, target: WeedServer) -> None:
        self._scratch = scratch
        self._source = origin
        self._target = target
        self._numbers = itertools.count(1)

    def measure(self, case: Case, programs: Sequence[Program], rounds: int) -> Result:
        """Every program once a round, in turn."""
        runs: dict[str, list[Run]] = {program.name: [] for program in programs}
        with self._targets(case) as new_target:
            for number in range(1, rounds + 1):
                for program in programs:
                    run = self._run(program, _load(case, program), new_target)
                    rate = case.rate(_load(case, program), run.seconds)
                    _say(f"  {case.name} round {number}: {program.name}: {rate:,.1f} {case.unit}")
                    runs[program.name].append(run)
        return Result(
            case, {program.name: Summary(_load(case, program), runs[program.name]) for program in programs}
        )

    def _run(self, program: Program, load: Load, new_target: Callable[[], Target]) -> Run:
        target = new_target()
        scratch = self._scratch / f"run{next(self._numbers)}"
        try:
            # What others left for the disk must not be paid for by the program that flushes.
            os.sync()
            run = program.run(self._source, load, target, scratch)
            check(target, load)
        except (Failed, WrongCopy) as error:
            raise type(error)(f"{program.name}: {error}") from None
        finally:
            target.remove()
        return run

    @contextlib.contextmanager
    def _targets(self, case: Case) -> Iterator[Callable[[], Target]]:
        with ExitStack() as stack:
            if case.sink == "local":
                yield lambda: Directory(self._scratch / f"target{next(self._numbers)}")
                return
            endpoint = self._target.s3_endpoint
            if case.one_way_ms:
                endpoint = stack.enter_context(far_away(self._target.s3_port, case.one_way_ms)).endpoint
            yield lambda: Bucket(self._target, f"target{next(self._numbers)}", endpoint)


def _load(case: Case, program: Program) -> Load:
    return case.peer_load if case.peer_load and isinstance(program, Weed) else case.load


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fill(origin: WeedServer, cases: Sequence[Case]) -> None:
    loads = {load for case in cases for load in (case.load, case.peer_load) if load}
    for load in sorted(loads, key=lambda load: load.folder):
        began = time.monotonic()
        source.write(origin, load)
        _say(f"source: {load.count:,} files of {load.size:,} bytes in {time.monotonic() - began:.1f} s")


def _bench(options: argparse.Namespace, cases: Sequence[Case], scratch: Path) -> list[Result]:
    programs: list[Program] = [FilerBackup(profiles=options.profile)]
    if not options.profile and not options.alone:
        programs.insert(0, Weed())
    programs += [FilerBackup(tree.absolute()) for tree in options.tree]
    if options.rclone:
        programs.append(Rclone())
    with (
        running_weed(scratch / "source", volume_max=_VOLUMES) as origin,
        running_weed(scratch / "target", volume_max=_VOLUMES) as target,
    ):
        _fill(origin, cases)
        bench = Bench(scratch, origin, target)
        return [bench.measure(case, programs, options.rounds) for case in cases]


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [case.name for case in all_cases(1)]
    parser.add_argument("--rounds", type=int, default=3, help="of each case, default 3")
    parser.add_argument("--only", action="append", choices=names, help="one case; repeatable")
    parser.add_argument("--files", type=int, default=5000, help="small files, default 5000")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--rclone", action="store_true", help="measure `rclone copy` as well")
    parser.add_argument(
        "--tree",
        type=Path,
        action="append",
        default=[],
        metavar="DIRECTORY",
        help="measure the filerbackup of another working tree as well; repeatable",
    )
    parser.add_argument("--alone", action="store_true", help="leave weed out")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="DIRECTORY",
        help="run filerbackup alone under py-spy and leave stacks there; the numbers then mean little",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """0 when everything could be measured, whatever came out; 1 when a copy was wrong or a run failed."""
    options = _options(arguments)
    if options.profile:
        options.profile = options.profile.absolute()
        options.profile.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cases = [case for case in all_cases(options.files) if not options.only or case.name in options.only]
    _say(machine())
    _say(f"load average before: {os.getloadavg()[0]:.2f}")
    scratch = scratch_directory("bench")
    try:
        results = _bench(options, cases, scratch)
    except (Failed, WrongCopy) as error:
        _say(f"FAILED: {error}")
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(table(results))
    print("\n".join(["", *notes(results), "", *goals(results)]))
    if options.markdown:
        options.markdown.write_text(markdown(results, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
