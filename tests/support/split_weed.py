"""A SeaweedFS of three processes, so that one can stop while the others go on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.weed import WeedServer, weed_binary


class SplitWeed(WeedServer):
    """Master, filer and volume server apart; no S3 gateway."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.volume: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        for name in ("master", "volume", "filer"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._master = self._run("master", f"-port={self.master_port}", f"-mdir={self.directory}/master")
        self.start_filer()
        self.start_volume()

    def start_filer(self) -> None:
        self.process = self._run(
            "filer",
            f"-port={self.filer_port}",
            f"-master=127.0.0.1:{self.master_port}",
            f"-defaultStoreDir={self.directory}/filer",
        )

    def start_volume(self) -> None:
        self.volume = self._run(
            "volume",
            f"-port={self.volume_port}",
            f"-dir={self.directory}/volume",
            "-max=50",
            f"-mserver=127.0.0.1:{self.master_port}",
        )

    def kill_volume(self) -> None:
        assert self.volume is not None
        self.volume.kill()
        self.volume.wait()

    def end(self) -> None:
        for process in (self._master, self.process, self.volume):
            if process is not None:
                process.kill()
                process.wait()

    def _s3_answers(self) -> bool:
        return True

    def _run(self, kind: str, *args: str) -> subprocess.Popen[bytes]:
        command = [weed_binary(), kind, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *args]
        with (self.directory / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)


@contextlib.contextmanager
def running_split_weed(directory: Path) -> Iterator[SplitWeed]:
    """One that is ready, killed at the end."""
    server = SplitWeed(directory)
    try:
        server.start()
        yield server
    finally:
        server.end()
