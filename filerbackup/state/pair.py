"""One (source folder, sink): its identity, and the keys under which its state lies on the filer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from filerbackup.state.base import STATE_DIRECTORY


@dataclass(frozen=True, slots=True)
class Pair:
    """`path` is the watched folder; the rest is the sink's whole identity, with no secret in it.

    Two buckets with the same directory, or one bucket at two endpoints, are different pairs.
    """

    path: str
    kind: str
    endpoint: str
    container: str
    directory: str

    @property
    def pair_id(self) -> str:
        """Short and stable; a zero byte between the parts keeps different parts from running together."""
        parts = (self.path, self.kind, self.endpoint, self.container, self.directory)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]

    @property
    def checkpoint_key(self) -> bytes:
        """In the filer's key-value pairs."""
        return f"filerbackup/v1/checkpoint/{self.pair_id}".encode()

    @property
    def status_key(self) -> bytes:
        """In the filer's key-value pairs."""
        return f"filerbackup/v1/status/{self.pair_id}".encode()

    @property
    def lock_name(self) -> str:
        """Of the filer's distributed lock."""
        return f"filerbackup/v1/{self.pair_id}"

    @property
    def entry_directory(self) -> str:
        """Where entries of this pair lie in the filer's tree."""
        return f"{STATE_DIRECTORY}/{self.pair_id}"

    def describe(self) -> str:
        """For a person."""
        where = "/".join(part.strip("/") for part in (self.container, self.directory) if part.strip("/"))
        place = self.directory if self.kind == "local" else where
        return f"{self.path} -> {self.kind}:{place}" + (f" at {self.endpoint}" if self.endpoint else "")


def weed_checkpoint_keys(path: str, identity: tuple[str, ...]) -> tuple[bytes, ...]:
    """Where `weed filer.backup` keeps its offset for a folder and a sink, newest form first.

    `identity` is the sink's kind, what tells its place, and its directory, exactly as its file has them:

        local                   directory
        s3                      endpoint, bucket, directory
        google_cloud_storage    bucket, directory
        azure                   account, endpoint, container, directory
        backblaze               bucket, directory
        filer                   grpcAddress, directory

    weed 4.45 and later hash the folder and that, divided by zero bytes; before, only kind and directory,
    run together. The key is `backup.` and the second four bytes of the MD5. weed takes the folder as it
    was given, with or without a slash at its end.
    """
    folders = dict.fromkeys((path, path.rstrip("/") + "/"))
    return (
        *(_weed_key("\0".join((folder, *identity))) for folder in folders),
        _weed_key(identity[0] + identity[-1]),
    )


def _weed_key(text: str) -> bytes:
    return b"backup." + hashlib.md5(text.encode(), usedforsecurity=False).digest()[4:8]
