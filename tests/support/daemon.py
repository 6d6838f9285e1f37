"""filerbackup as a process, as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


class Daemon:
    """One `filerbackup` process with a configuration file of its own; its log goes to a file."""

    def __init__(self, directory: Path, config: str, *, name: str = "daemon") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.config = directory / "replication.toml"
        self.config.write_text(config)
        self.config.chmod(0o600)
        self.log_path = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, command: str = "run", env: Mapping[str, str] | None = None) -> Daemon:
        """Start it and return at once."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(command, arguments), stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        return self

    def run(
        self, command: str, *arguments: str, timeout: float = 120.0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._command(command, arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
        )

    def status(self, *arguments: str) -> list[dict[str, object]]:
        """What `status --json` says."""
        done = self.run("status", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _command(self, command: str, arguments: tuple[str, ...]) -> list[str]:
        words = [*command.split(" "), "--config", str(self.config), *arguments]
        return [sys.executable, "-m", "filerbackup", *words]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, timeout: float = 60.0) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


@contextlib.contextmanager
def daemon(directory: Path, config: str, **options: str) -> Iterator[Daemon]:
    """A daemon that is killed at the end, whatever happens."""
    process = Daemon(directory, config, **options)
    try:
        yield process
    finally:
        process.kill()


def wait_until(
    condition: Callable[[], object],
    *,
    within_s: float = 60.0,
    what: str | Callable[[], str] = "the condition",
) -> None:
    """Poll until true; fail with what was waited for."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what() if callable(what) else what}")
        time.sleep(0.1)
