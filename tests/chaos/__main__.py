"""`make chaos`, or `python -m tests.chaos [--seconds N] [--seed S] [--sinks local,s3,filer]`."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
from pathlib import Path

from tests.chaos.run import Outcome, Plan, run
from tests.support.weed import scratch_directory

SINKS = ("local", "s3", "filer")


def main() -> int:
    """Returns 0 when no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of load and faults (default: 600)")
    parser.add_argument("--seed", type=int, help="of an earlier run")
    parser.add_argument("--sinks", default="local,s3,filer", help="(default: local,s3,filer)")
    parser.add_argument("--report", type=Path, help="append the result to this file, as one line of JSON")
    parser.add_argument("--directory", type=Path, help="for servers, copies and logs; kept")
    options = parser.parse_args()
    sinks = tuple(options.sinks.split(","))
    if not sinks or set(sinks) - set(SINKS):
        parser.error(f"--sinks: some of {','.join(SINKS)}")
    seed = random.randrange(10**6) if options.seed is None else options.seed
    again = f"--seconds {options.seconds:g} --seed {seed} --sinks {options.sinks}"
    print(f"seed {seed}: python -m tests.chaos {again}", flush=True)
    directory = options.directory or scratch_directory("chaos")
    # Servers and mounts are cleared away whichever way it ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcome = run(Plan(seed, options.seconds, sinks), directory)
    print(table(outcome))
    if options.report:
        with options.report.open("a") as report:
            report.write(outcome.line() + "\n")
    if outcome.broken:
        print(f"seed {seed}; logs and events.jsonl are in {directory}")
        return 1
    if options.directory is None:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def table(outcome: Outcome) -> str:
    """For a person."""
    rows: list[tuple[str, object]] = [("operations of the load", sum(outcome.operations.values()))]
    rows += [("  " + name, count) for name, count in outcome.operations.items()]
    rows.append(("operations of unknown end", sum(outcome.unsure.values())))
    rows.append(("faults survived" if not outcome.broken else "faults", sum(outcome.faults.values())))
    rows += [("  " + name, count) for name, count in outcome.faults.items()]
    rows += [("looks at " + name, count) for name, count in outcome.looks.items()]
    rows += sorted(outcome.rest.items())
    rows.append(("entries at the end", outcome.files))
    rows.append(("bytes at the end", f"{outcome.bytes:,}"))
    rows.append(("most memory of a daemon", f"{outcome.peak_mib} MiB"))
    rows.append(("equal after", f"{outcome.equal_within_s} s (at most {outcome.allowed_s:.0f} s)"))
    rows.append(("promises broken", len(outcome.broken)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    lines += ["", *outcome.broken] if outcome.broken else []
    return "\n".join(
        [*lines, "result: " + ("BROKEN" if outcome.broken else "no difference, no broken promise")]
    )


if __name__ == "__main__":
    sys.exit(main())
