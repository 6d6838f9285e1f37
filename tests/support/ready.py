"""Waiting until a server that was just started answers."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

READY_WITHIN_S = 60.0


def wait_until_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], *, log: Path | None = None
) -> None:
    """Ask again and again; fail, with the last of its log, when it ends or takes too long."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if is_ready():
                return
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:] if log is not None and log.exists() else ""
            how = f"ended with {process.returncode}" if ended else f"was not ready within {READY_WITHIN_S} s"
            raise RuntimeError(f"{process.args!r} {how}: {said}")
        time.sleep(0.05)


def http_status(port: int, path: str = "/") -> int:
    """What a server on this machine answers to a GET. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
