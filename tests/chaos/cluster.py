"""The servers of a chaos run: a source whose parts can stop one by one, and one server for the sinks."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.line import Line, LoopThread, Ports
from tests.support.ready import http_status, wait_until_ready
from tests.support.split_weed import SplitWeed
from tests.support.weed import weed_binary

VOLUME_HOST = "127.0.0.2"
"""Where the volume server says that it is: a line of ours listens there, on the port of the real one."""


_PATIENCE_S = 25.0
"""As a service manager has it before it kills."""


class Source(SplitWeed):
    """Master, filer, volume server and S3 gateway, each a process.

    Whoever reads from the volume server goes through a line that can be disturbed for the daemons alone.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._s3: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        super().spawn()
        self._s3 = self._run("s3", f"-port={self.s3_port}", f"-filer={self.filer}")

    def start_volume(self) -> None:
        # Of two flags of the same name the last one counts.
        self.volume = self._run(
            "volume",
            f"-ip={VOLUME_HOST}",
            f"-port={self.volume_port}",
            f"-dir={self.directory}/volume",
            "-max=200",
            "-preStopSeconds=1",
            f"-mserver=127.0.0.1:{self.master_port}",
        )

    def stop_volume(self, how: signal.Signals) -> None:
        """End the volume server, softly or not."""
        assert self.volume is not None
        self.volume.send_signal(how)
        try:
            self.volume.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill_volume()

    def stop(self) -> None:
        """SIGTERM to the filer, which waits for its streams: over a line that is dead, for minutes."""
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self) -> None:
        if self._s3 is not None:
            self._s3.kill()
            self._s3.wait()
        super().end()

    def wait_volume(self) -> None:
        """Until the volume server answers again."""
        assert self.volume is not None
        wait_until_ready(
            self.volume,
            lambda: http_status(self.volume_port, "/status") == 200,
            log=self.directory / "volume.log",
        )

    def _run(self, kind: str, *args: str) -> subprocess.Popen[bytes]:
        if kind == "master":
            # Small volumes, so that there are several of them and none needs much room.
            args = (*args, "-volumeSizeLimitMB=256")
        if kind == "s3":
            args = (*args, "-port.iceberg=0", "-port.lance=0")
            command = [weed_binary(), kind, "-ip.bind=127.0.0.1", *args]
        else:
            command = [weed_binary(), kind, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *args]
        with (self.directory / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)

    def _s3_answers(self) -> bool:
        return http_status(self.s3_port) < 500


@contextlib.contextmanager
def running_source(
    directory: Path, lines: LoopThread, disturbs: Callable[[Ports], bool]
) -> Iterator[tuple[Source, Line, Line]]:
    """A source that is ready, the line to its filer's gRPC and the line to its volume server."""
    source = Source(directory)
    volume = Line("volume", source.volume_port, host=VOLUME_HOST, port=source.volume_port, concerns=disturbs)
    lines.add(volume)
    grpc_port = source.volume_port + 10_000
    lines.add(Line("volume-grpc", grpc_port, host=VOLUME_HOST, port=grpc_port))
    filer = lines.add(Line("filer", source.filer_port + 10_000))
    try:
        source.start()
        yield source, filer, volume
    finally:
        source.end()
