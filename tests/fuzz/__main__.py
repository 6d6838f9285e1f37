"""`python -m tests.fuzz TARGET [--seconds N]`: fuzz a target, guided by coverage; `all` takes each in turn.

Needs atheris (`pip install atheris`); without it nothing is fuzzed, and the exit code is 0. The input of a
finding is written to --findings, and `--replay FILE` runs a target on it.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("events", "chunks", "settings", "answers", "state")
LONGEST_BYTES = 32 << 10
SLOWEST_S = 10
MOST_MEMORY_MB = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-findings")
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    if options.replay:
        return replay(options.target, options.replay)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is missing (pip install atheris): nothing is fuzzed")
        return 0
    if options.target == "all":
        return run_all(options.seconds, options.findings)
    with atheris.instrument_imports(include=["filerbackup"]):
        from tests.fuzz.catalogue import TARGETS
    target = TARGETS[options.target]
    options.findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as corpus:
        for number, seed in enumerate(target.corpus()):
            (Path(corpus) / f"seed-{number:03}").write_bytes(seed)
        atheris.Setup(
            [
                sys.argv[0],
                corpus,
                f"-max_total_time={options.seconds}",
                f"-max_len={LONGEST_BYTES}",
                f"-timeout={SLOWEST_S}",
                f"-rss_limit_mb={MOST_MEMORY_MB}",
                f"-artifact_prefix={options.findings}/{options.target}-",
                "-print_final_stats=1",
            ],
            target.run,
        )
        atheris.Fuzz()
    return 0


def run_all(seconds: int, findings: Path) -> int:
    """Each in a process of its own, since libFuzzer ends the one that it runs in."""
    failed = []
    for name in NAMES:
        command = [sys.executable, "-m", "tests.fuzz", name, f"--seconds={seconds}", f"--findings={findings}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed")]
        print(f"{name}: {'no finding' if not done.returncode else 'FINDING'} {' '.join(said)}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
    return 1 if failed else 0


def replay(name: str, file: Path) -> int:
    """Run a target on one input, without atheris."""
    from tests.fuzz.catalogue import TARGETS

    TARGETS[name].run(file.read_bytes())
    print(f"{file}: no finding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
