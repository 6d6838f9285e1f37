"""A moto server on this machine: a second, different implementation of S3. It checks no signatures."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port
from tests.support.ready import http_status, wait_until_ready


@dataclass(frozen=True, slots=True)
class MotoServer:
    """A running server; it forgets everything at its end."""

    port: int

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running_moto(directory: Path) -> Iterator[MotoServer]:
    """A server that answers, killed at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    server = MotoServer(free_port())
    log_path = directory / "moto.log"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server"]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*command, "-H", "127.0.0.1", "-p", str(server.port)],
            stdout=log,
            stderr=log,
            cwd=directory,
            # What an upload is spooled to goes to the disk that the tests use.
            env={**os.environ, "TMPDIR": str(directory)},
        )
    try:
        wait_until_ready(
            process, lambda: http_status(server.port, "/moto-api/data.json") == 200, log=log_path
        )
        yield server
    finally:
        process.kill()
        process.wait(30)
