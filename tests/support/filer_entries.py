"""Entries as a filer keeps them, made and read by gRPC; a mount; weed's shell."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.weed import WeedServer, weed_binary


def make_entry(
    weed: WeedServer, path: str, data: bytes = b"", *, age_s: float = 0, ttl_s: int = 0, **more: object
) -> None:
    """Create or replace a file with its content in the entry, unless `more` gives chunks."""
    written_s = int(time.time() - age_s)
    attributes = pb.FuseAttributes(
        file_size=len(data), mtime=written_s, crtime=written_s, file_mode=0o644, ttl_sec=ttl_s
    )
    directory, _, name = path.rpartition("/")
    entry = pb.Entry(name=name, content=data, attributes=attributes, **more)  # type: ignore[arg-type]
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        answer = SeaweedFilerStub(channel).CreateEntry(
            pb.CreateEntryRequest(directory=directory, entry=entry)
        )
    assert not answer.error


def look_up(weed: WeedServer, path: str) -> pb.Entry:
    """The live entry."""
    directory, _, name = path.rpartition("/")
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        request = pb.LookupDirectoryEntryRequest(directory=directory, name=name)
        return SeaweedFilerStub(channel).LookupDirectoryEntry(request).entry


def update_entry(weed: WeedServer, directory: str, entry: pb.Entry) -> None:
    """Replace a live entry, as a change of attributes does."""
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        SeaweedFilerStub(channel).UpdateEntry(pb.UpdateEntryRequest(directory=directory, entry=entry))


def weed_shell(weed: WeedServer, *commands: str) -> str:
    """What `weed shell` says to some commands."""
    done = subprocess.run(
        [weed_binary(), "shell", f"-master=127.0.0.1:{weed.master_port}", f"-filer={weed.filer}"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@contextlib.contextmanager
def mounted(weed: WeedServer, place: Path, folder: str) -> Iterator[Path | None]:
    """The folder as a file system; None where this machine cannot mount."""
    place.mkdir(parents=True)
    log_path = place.with_name(place.name + ".log")
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [weed_binary(), "mount", f"-filer={weed.filer}", f"-dir={place}", f"-filer.path={folder}"],
            stdout=log,
            stderr=log,
            cwd=place.parent,
        )
    try:
        deadline = time.monotonic() + 20
        while not place.is_mount() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield place if place.is_mount() else None
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        process.kill()
        process.wait(20)
