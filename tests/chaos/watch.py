"""What is looked at all the time during a run: stored checkpoints, leases, and contents in the sinks."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from filerbackup.state.pair import Pair
from tests.chaos.book import Book
from tests.chaos.load import digest_of
from tests.chaos.logs import LOST_LOG_S
from tests.support.weed import WeedServer

_CALL_S = 5.0
_PAGE = b"<!DOCTYPE html>"
"""What weed answers where a directory has taken the file's place meanwhile."""
_STEPS_BACK_WITHIN_S = 45.0
"""A dead connection is noticed within 20 s; then come a new one, and the next stored checkpoint."""


class _NoLookError(Exception):
    """It did not happen: what was to be read could not be, or changed meanwhile."""


@dataclass(slots=True)
class _Seen:
    raw: bytes = b""
    term: int = 0
    offset_ns: int = 0
    phase: str = ""


class Checkpoints(threading.Thread):
    """Reads every stored checkpoint again and again, past all lines, as docs/format.md says they lie.

    The offset never goes back, but after a fault of the filer or its line (a stream may step back
    then). Not when another daemon takes over: it begins at the newest checkpoint of the one before.
    Terms only grow; within a term the holder is one and the same; a snapshot that was done is
    not done again.
    """

    def __init__(self, source: WeedServer, book: Book, *, every_s: float = 0.7) -> None:
        super().__init__(daemon=True)
        self._book, self._every_s = book, every_s
        self._channel = grpc.insecure_channel(source.filer_grpc)
        self._stub = SeaweedFilerStub(self._channel)
        self._seen: dict[str, _Seen] = {}
        self._begun: set[tuple[str, int]] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        with self._book.guarding("the look at checkpoints"):
            while not self._stopping.wait(self._every_s):
                self._look()

    def _look(self) -> None:
        try:
            for pair in self._pairs():
                self._look_at(pair)
        except (_NoLookError, grpc.RpcError):
            self._book.count("no look at checkpoints")

    def stop(self) -> None:
        """No more looks after this returns."""
        self._stopping.set()
        self.join(30)
        self._channel.close()

    def _pairs(self) -> list[Pair]:
        listing = self._stub.ListEntries(
            pb.ListEntriesRequest(directory="/etc/filerbackup", limit=100), timeout=_CALL_S
        )
        found = []
        for name in [answer.entry.name for answer in listing if answer.entry.is_directory]:
            entry = _lookup(self._stub, f"/etc/filerbackup/{name}", "pair.json")
            if entry is None:
                continue
            try:
                found.append(Pair(**json.loads(entry.content)))
            except json.JSONDecodeError:
                # It has just been created.
                raise _NoLookError from None
        return found

    def _value(self, key: bytes) -> bytes:
        answer = self._stub.KvGet(pb.KvGetRequest(key=key), timeout=_CALL_S)
        # An absent key is an empty value without an error.
        if answer.error:
            raise _NoLookError(answer.error)
        return bytes(answer.value)

    def _look_at(self, pair: Pair) -> None:
        head = self._value(pair.checkpoint_key)
        if not head:
            return
        record = json.loads(head)
        slot = str(record.get("slot", ""))
        raw = (self._value(pair.checkpoint_key + b"/" + slot.encode()) if slot else b"") or head
        if slot and self._value(pair.checkpoint_key) != head:
            raise _NoLookError("another one took over between the two reads")
        seen = self._seen.setdefault(pair.pair_id, _Seen())
        self._book.count("looks at checkpoints")
        if raw == seen.raw:
            return
        record = json.loads(raw)
        self._book.note("checkpoint", kind=pair.kind, **_part(record))
        self._check_term(pair, seen, record, str(json.loads(head).get("taken_by", "")))
        if record.get("offset_ns") is not None:
            self._check_order(pair, seen, record)
            seen.offset_ns, seen.phase = int(record["offset_ns"]), str(record.get("phase"))
        seen.raw = raw

    def _check_term(self, pair: Pair, seen: _Seen, record: dict[str, object], taken_by: str) -> None:
        term, holder = int(str(record.get("term", 0))), str(record.get("holder") or "")
        if term < seen.term:
            self._book.breaks("terms only grow", f"{pair.kind}: {term} after {seen.term}")
        seen.term = max(seen.term, term)
        # What a head holds, and what a slot begins with, was stored by the holder before.
        if record.get("slot") or not holder:
            return
        if holder == taken_by:
            self._begun.add((pair.pair_id, term))
        elif (pair.pair_id, term) in self._begun:
            self._book.breaks("one writer", f"{pair.kind}: {holder} stored in term {term} of {taken_by}")

    def _check_order(self, pair: Pair, seen: _Seen, record: dict[str, object]) -> None:
        offset_ns = int(str(record["offset_ns"]))
        if offset_ns < seen.offset_ns:
            self._book.count("checkpoint stepped back")
            self._book.note("stepped back", kind=pair.kind, record=record)
            if not self._book.explains("filer", time.time(), after_s=_STEPS_BACK_WITHIN_S):
                back = f"{pair.kind}: by {(seen.offset_ns - offset_ns) / 1e9:.3f} s"
                self._book.breaks("a checkpoint never goes back", back)
        if seen.phase == "follow" and record.get("phase") == "snapshot":
            self._book.count("second snapshots")
            if not self._book.explains("log", time.time(), after_s=LOST_LOG_S):
                self._book.breaks("no second snapshot", pair.kind)


def _part(record: dict[str, object]) -> dict[str, object]:
    return {name: record.get(name) for name in ("term", "offset_ns", "phase", "holder", "updated_ns")}


class Contents(threading.Thread):
    """Looks at objects in the sinks under their final names: each is some version that there ever was."""

    def __init__(
        self, readers: dict[str, Callable[[], tuple[str, bytes] | None]], versions: set[str], book: Book
    ) -> None:
        super().__init__(daemon=True)
        self._readers, self._versions, self._book = readers, versions, book
        self._stopping = threading.Event()

    def run(self) -> None:
        with self._book.guarding("the look at contents"):
            while not self._stopping.wait(0.1):
                for name, read in self._readers.items():
                    self._look(name, read)

    def _look(self, name: str, read: Callable[[], tuple[str, bytes] | None]) -> None:
        try:
            found = read()
        except (OSError, http.client.HTTPException, grpc.RpcError):
            return
        if found is None:
            return
        path, data = found
        self._book.count("looks at contents")
        if digest_of(data) not in self._versions:
            self._keep(name, path, data)

    def _keep(self, name: str, path: str, data: bytes) -> None:
        kept = self._book.directory / f"strange-{name}-{digest_of(data)}"
        kept.write_bytes(data)
        self._book.breaks(
            "whole or absent", f"{name} {path!r}: {len(data)} bytes that no version had, kept as {kept}"
        )

    def stop(self) -> None:
        """No more looks after this returns."""
        self._stopping.set()
        self.join(60)


def local_reader(root: Path, rng: random.Random) -> Callable[[], tuple[str, bytes] | None]:
    """A file of a directory: now the one that changed last, now any."""

    def read() -> tuple[str, bytes] | None:
        found = []
        for above, names, files in os.walk(root):
            if ".filerbackup" in names:
                names.remove(".filerbackup")
            found += [path for name in files if not (path := Path(above) / name).is_symlink()]
        if not found:
            return None
        path = rng.choice(found)
        if rng.random() < 0.7:
            path = max(rng.sample(found, min(len(found), 30)), key=lambda path: path.stat().st_ctime_ns)
        return str(path.relative_to(root)), path.read_bytes()

    return read


def filer_reader(weed: WeedServer, folder: str, rng: random.Random) -> Callable[[], tuple[str, bytes] | None]:
    """A file below a folder of a sink's own filer, past its gateway."""
    channel = grpc.insecure_channel(weed.filer_grpc)
    stub = SeaweedFilerStub(channel)

    def read() -> tuple[str, bytes] | None:
        above = folder
        for _ in range(5):
            request = pb.ListEntriesRequest(directory=above, limit=1000)
            entries = [answer.entry for answer in stub.ListEntries(request, timeout=_CALL_S)]
            entries = [entry for entry in entries if entry.name not in (".filerbackup", ".uploads")]
            if not entries:
                return None
            entry = rng.choice(entries)
            above = f"{above}/{entry.name}"
            if not entry.is_directory:
                if entry.attributes.symlink_target:
                    return None
                data = weed.get(above)
                if data.startswith(_PAGE):
                    now = _lookup(stub, *above.rsplit("/", 1))
                    if now is None or now.is_directory:
                        return None
                return above, data
        return None

    return read


def _lookup(stub: SeaweedFilerStub, directory: str, name: str) -> pb.Entry | None:
    """The entry, or None when there is none. Raises RpcError when the filer does not answer."""
    request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
    try:
        return stub.LookupDirectoryEntry(request, timeout=_CALL_S).entry
    except grpc.RpcError as error:
        if "no entry is found" in str(error):
            return None
        raise
