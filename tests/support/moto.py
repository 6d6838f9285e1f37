"""A moto server on this machine: a second, different implementation of S3. It checks no signatures."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

READY_WITHIN_S = 60.0


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
        _wait_until_ready(server, process, log_path)
        yield server
    finally:
        process.kill()
        process.wait(30)


def _wait_until_ready(server: MotoServer, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"moto ended with {process.returncode}: {log_path.read_text()[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            try:
                connection.request("GET", "/moto-api/data.json")
                if connection.getresponse().status == 200:
                    return
            finally:
                connection.close()
        time.sleep(0.1)
    raise TimeoutError(f"moto was not ready within {READY_WITHIN_S} s: see {log_path}")
