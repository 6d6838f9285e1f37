"""Two daemons with one configuration: one works, the other stands by; who ends is started again."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.book import Book, Trouble
from tests.support.daemon import Daemon
from tests.support.line import Ports, owner_of

_NO_FILER = 3
"""Exit code of a start without a filer; a service manager starts it again, and so do we."""
STOPS_WITHIN_S = 40.0
_CONNECTS_WITHIN_S = 25.0
"""`connect_timeout` of the daemons, and a start: so long after a fault one may end that began in it."""
THAWS_WITHIN_S = 15.0
"""So long after its thaw a daemon may tell of what it missed: lines that timed out, a lease that is gone."""
_WORTH_NOTING_KIB = 8 << 10


class Team:
    """`names` are those of the daemons; any thread may call."""

    names = ("one", "two")

    def __init__(self, directory: Path, config: str, book: Book) -> None:
        self._daemons = {name: Daemon(directory / name, config) for name in self.names}
        self._book = book
        self._locks = {name: threading.RLock() for name in self.names}
        self._wanted = dict.fromkeys(self.names, False)
        self._frozen: dict[str, Trouble] = {}
        self._owners: dict[int, str] = {}
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self.stopped_at: dict[str, list[float]] = {name: [] for name in self.names}
        self.thawed_at: dict[str, list[float]] = {name: [] for name in self.names}
        self.peak_kib = dict.fromkeys(self.names, 0)
        self._noted_kib: dict[int, int] = {}

    @contextmanager
    def running(self) -> Iterator[Team]:
        """Both, until the end of the block; then they are killed."""
        for name in self.names:
            self.start(name)
        self._watching.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._watching.join(10)
            for name in self.names:
                self.thaw(name)
                self._daemons[name].kill()

    def daemon(self, name: str) -> Daemon:
        """One of them."""
        return self._daemons[name]

    def pids(self) -> dict[int, str]:
        """The processes that there are now."""
        found = {}
        for name, daemon in self._daemons.items():
            if daemon.process is not None and daemon.process.poll() is None:
                found[daemon.process.pid] = name
        return found

    def owner(self, ports: Ports) -> str | None:
        """Which of them, as `name:pid`, has the client's end of a TCP connection."""
        pids = self.pids()
        pid = owner_of(ports, pids)
        return None if pid is None else f"{pids[pid]}:{pid}"

    def is_ours(self, ports: Ports) -> bool:
        """Whether a connection is one of theirs."""
        return self.owner(ports) is not None

    # -- what is done to them -----------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start one that does not run."""
        with self._locks[name]:
            self._daemons[name].start("--log-format", "json")
            self._wanted[name] = True

    def kill(self, name: str) -> None:
        """SIGKILL."""
        with self._locks[name]:
            self._wanted[name] = False
            self._daemons[name].kill()

    def stop(self, name: str) -> None:
        """SIGTERM; it has to end with 0."""
        with self._locks[name]:
            process = self._daemons[name].process
            if process is None or process.poll() is not None:
                return
            self._wanted[name] = False
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                code = None
            took_s = time.monotonic() - began
            self.stopped_at[name].append(time.time())
            self._book.note("stopped", daemon=name, code=code, took_s=round(took_s, 1))
            if code is None:
                self._book.breaks(
                    "clean stop", f"{name} did not end within {STOPS_WITHIN_S:.0f} s of SIGTERM"
                )
                self._daemons[name].kill()
            elif self._had_no_filer(name, code):
                self._book.count("starts without a filer")
            elif code != 0:
                self._book.breaks("clean stop", f"{name} ended with {code} after SIGTERM")

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        with self._locks[name]:
            if name not in self._frozen:
                self._frozen[name] = self._book.mark("frozen", frozenset({f"frozen:{name}"}))
                self._book.note("frozen", daemon=name)
            self._daemons[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        with self._locks[name]:
            frozen = self._frozen.pop(name, None)
            if frozen is not None:
                frozen.ended = time.time()
                self.thawed_at[name].append(frozen.ended)
                self._daemons[name].signal(signal.SIGCONT)

    def pick(self, rng: random.Random) -> str:
        """One of them."""
        return rng.choice(self.names)

    # -- what happens by itself ---------------------------------------------------------------------

    def _watch(self) -> None:
        with self._book.guarding("the look at the daemons"):
            self._watch_on()

    def _watch_on(self) -> None:
        while not self._stopping.wait(0.3):
            for name in self.names:
                if self._locks[name].acquire(blocking=False):
                    try:
                        self._look_at(name)
                    finally:
                        self._locks[name].release()

    def _look_at(self, name: str) -> None:
        process = self._daemons[name].process
        if process is None or not self._wanted[name]:
            return
        code = process.poll()
        if code is None:
            self._measure(name, process.pid)
            return
        if self._had_no_filer(name, code):
            self._book.count("starts without a filer")
        else:
            self._book.breaks("keeps running", f"{name} ended by itself with {code}")
        self._wanted[name] = False
        self.start(name)

    def _had_no_filer(self, name: str, code: int) -> bool:
        """Whether it ended just now because it had not seen the filer yet, and a fault was why."""
        now, explains = time.time(), self._book.explains
        return code == _NO_FILER and (
            explains("filer", now, after_s=_CONNECTS_WITHIN_S)
            or explains(f"frozen:{name}", now, after_s=THAWS_WITHIN_S)
        )

    def _measure(self, name: str, pid: int) -> None:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        for line in text.splitlines():
            if line.startswith("VmRSS:"):
                kib = int(line.split()[1])
                self.peak_kib[name] = max(self.peak_kib[name], kib)
                if kib - self._noted_kib.get(pid, 0) > _WORTH_NOTING_KIB:
                    self._noted_kib[pid] = kib
                    self._book.note("memory", of=name, pid=pid, mib=kib >> 10)
