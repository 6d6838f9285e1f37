"""Writing to a real filer: many files fast, a random load that goes on, and odd names."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from tests.support.weed import WeedServer

ODD_NAMES = (
    "caf\u00e9-nfc", "cafe\u0301-nfd", "\N{GRINNING FACE}\N{FAMILY}", " space in front", "space behind ",
    " both ", "hash#", "question?", "percent%", "literal%20", "amp&", "plus+", "tilde~", "semi;", "equals=",
    "brackets[ ]", "braces{ }", 'quote"', ".hidden", "..two-dots", "...", "new\nline", "a" * 250,
    "\u65e5\u672c\u8a9e", "tab\there", "star*", "dollar$", "at@", "colon:", "comma,", "paren()", "apos'",
)  # fmt: skip
"""Names that have broken other programs; each is at most 255 bytes of UTF-8."""


def put_many(weed: WeedServer, files: Iterable[tuple[str, bytes]], *, threads: int = 8) -> None:
    """Write many files over a few kept connections; every one must go through."""
    local = threading.local()
    connections: list[http.client.HTTPConnection] = []

    def put(item: tuple[str, bytes]) -> None:
        path, data = item
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", weed.filer_port, timeout=60)
            connections.append(local.connection)
        headers = {"Content-Type": "application/octet-stream"}
        local.connection.request("PUT", quote(path), body=data, headers=headers)
        response = local.connection.getresponse()
        response.read()
        assert response.status in (200, 201), (path, response.status)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, files))
    for connection in connections:
        connection.close()


class RandomLoad(threading.Thread):
    """Creates, overwrites, renames and deletes below a folder until told to stop. The seed is printed."""

    def __init__(self, weed: WeedServer, folder: str, *, seed: int, pause_s: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.weed, self.folder, self.pause_s = weed, folder, pause_s
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.done = 0
        self.files: set[str] = set()
        print(f"random load with seed {seed}")

    def run(self) -> None:
        while not self.stopping.wait(self.pause_s):
            try:
                self.step()
                self.done += 1
            except (OSError, http.client.HTTPException):
                # The server is being restarted: what it did not confirm may or may not exist.
                continue

    def step(self) -> None:
        """One random change."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.55 or not self.files:
            path = f"{self.folder}/d{rng.randrange(6)}/s{rng.randrange(3)}/f{rng.randrange(60)}"
            size = rng.choice((0, 1, 100, 4096, 20_000, 20_000, 300_000))
            self.weed.put(path, rng.randbytes(size))
            self.files.add(path)
        elif choice < 0.7:
            path = rng.choice(sorted(self.files))
            self.weed.delete(path)
            self.files.discard(path)
        elif choice < 0.8:
            old = rng.choice(sorted(self.files))
            new = f"{self.folder}/d{rng.randrange(6)}/moved{rng.randrange(40)}"
            self.weed.rename(old, new)
            self.files.discard(old)
            self.files.add(new)
        elif choice < 0.9:
            old = f"{self.folder}/d{rng.randrange(6)}/s{rng.randrange(3)}"
            new = f"{self.folder}/tree{rng.randrange(8)}/{rng.randrange(10_000)}"
            self.weed.rename(old, new)
            self.files = {new + p[len(old) :] if p.startswith(old + "/") else p for p in self.files}
        elif choice < 0.95:
            gone = f"{self.folder}/tree{rng.randrange(8)}"
            self.weed.delete(gone, recursive=True)
            self.files = {p for p in self.files if not p.startswith(gone + "/")}
        else:
            path = f"{self.folder}/big{rng.randrange(3)}"
            self.weed.put(path, rng.randbytes(9_000_000), query="maxMB=2")
            self.files.add(path)

    def stop(self) -> None:
        """No more changes after this returns."""
        self.stopping.set()
        self.join(60)
