"""Checks across settings: sinks that would write into each other, or back into what is watched."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from itertools import combinations
from urllib.parse import urlsplit

from filerbackup.errors import UsageError
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    FilerSinkSettings,
    GcsSettings,
    LocalSettings,
    S3Settings,
    Settings,
    SinkSettings,
)
from filerbackup.settings.places import comparable_host, grpc_endpoint
from filerbackup.settings.values import printable

BUCKETS_DIRECTORY = "/buckets"
"""Where the S3 gateway of SeaweedFS keeps buckets unless the filer was told otherwise."""

_WILDCARDS = frozenset("*?")


def check_sinks(sinks: Sequence[SinkSettings]) -> None:
    """Raises UsageError when one sink is, or lies in, another.

    Both would write there, and the one would remove as foreign what the other wrote.
    """
    for one, other in combinations(sinks, 2):
        if _place(one)[:-1] != _place(other)[:-1]:
            continue
        a, b = _place(one)[-1], _place(other)[-1]
        if a == b:
            raise UsageError(f"sink.{one.name} and sink.{other.name} are the same place: {printable(a)}")
        if is_at_or_below(a, b) or is_at_or_below(b, a):
            raise UsageError(
                f"sink.{one.name} and sink.{other.name} would write into each other: "
                f"{printable(a)} and {printable(b)}",
                hint="Give each sink a directory of its own, not one inside the other.",
            )


def _place(sink: SinkSettings) -> tuple[str, ...]:
    match sink:
        case S3Settings():
            return ("s3", sink.endpoint or sink.region, sink.bucket, sink.directory)
        case LocalSettings():
            return ("local", os.path.realpath(sink.directory))
        case GcsSettings():
            return ("gcs", sink.endpoint, sink.bucket, sink.directory)
        case AzureSettings():
            service = sink.endpoint or f"https://{sink.account_name}.blob.core.windows.net"
            return ("azure", service, sink.container, sink.directory)
        case BackblazeSettings():
            return ("b2", sink.endpoint, sink.bucket, sink.directory)
        case FilerSinkSettings():
            host, _, port = sink.grpc_address.rpartition(":")
            return ("filer", comparable_host(host), port, sink.directory)
        case _:
            return (sink.name, sink.directory)


def is_at_or_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it; "/" holds everything."""
    return folder in ("/", path) or path.startswith(folder + "/")


def check_target_filer(settings: Settings) -> None:
    """Raises UsageError when a filer sink is the watched filer, in or above the watched folder.

    By the addresses alone: the sink compares the clusters themselves when it opens. Excluding the
    target's folder (`exclude_paths`) settles it, unless the watched folder lies in the target: a mirror
    would remove it.
    """
    filers = {grpc_endpoint(address) for address in settings.source.filers}
    watched = settings.source.path
    for sink in settings.sinks:
        if not isinstance(sink, FilerSinkSettings):
            continue
        host, _, port = sink.grpc_address.rpartition(":")
        if (comparable_host(host), int(port)) not in filers:
            continue
        if is_at_or_below(watched, sink.directory) or _overlaps(settings, sink.directory):
            raise UsageError(
                f"sink.{sink.name}: {printable(sink.directory)} is on the watched filer and overlaps the "
                f"watched folder {printable(watched)}: every copy would be copied again",
                hint="Copy into another cluster, or into a folder outside the watched one, or exclude that "
                "folder with exclude_paths.",
            )


def s3_writes_into_source(settings: Settings) -> str | None:
    """A warning when an S3 sink seems to be a bucket of the filer that is watched, in the watched folder.

    Known for sure it is not: another SeaweedFS may run on the same host, and a proxy may hide the
    host. Excluding the bucket's folder (`exclude_paths`) settles it.
    """
    filers = {comparable_host(address.rpartition(":")[0]) for address in settings.source.filers}
    for sink in settings.sinks:
        if not isinstance(sink, S3Settings) or not sink.endpoint:
            continue
        if comparable_host(urlsplit(sink.endpoint).hostname or "") not in filers:
            continue
        target = f"{BUCKETS_DIRECTORY}/{sink.bucket}" + ("" if sink.directory == "/" else sink.directory)
        if _overlaps(settings, target):
            return (
                f"sink.{sink.name}: {sink.endpoint} runs on the host of the filer, and {printable(target)} "
                f"overlaps the watched folder {printable(settings.source.path)}: if it is the same "
                "SeaweedFS, every copy would be copied again. Watch another folder, or exclude that "
                "one with exclude_paths."
            )
    return None


def local_writes_into_source(settings: Settings, mounts: str) -> str | None:
    """A warning when a local sink lies in a `weed mount` of the watched folder.

    `mounts` is what `/proc/self/mounts` holds; a mount of SeaweedFS shows there as `filer:folder`
    of type `fuse.seaweedfs`.
    """
    mounted: list[tuple[str, str, str]] = []
    for line in mounts.splitlines():
        fields = [_unescape(field) for field in line.split(" ")]
        if len(fields) >= 3:
            mounted.append((fields[1].rstrip("/") or "/", fields[2], fields[0]))
    for sink in settings.sinks:
        if not isinstance(sink, LocalSettings):
            continue
        directory = os.path.realpath(sink.directory)
        above = [mount for mount in mounted if is_at_or_below(directory, mount[0])]
        if not above:
            continue
        # The last of the longest is what one sees: mounts can lie on top of each other.
        where, kind, device = max(enumerate(above), key=lambda item: (len(item[1][0]), item[0]))[1]
        if kind != "fuse.seaweedfs":
            continue
        servers, _, folder = device.rpartition(":")
        below = directory[len(where) :] if where != "/" else directory
        target = (folder.rstrip("/") + below) or "/"
        if not _same_filer(settings, servers) or not _overlaps(settings, target):
            continue
        return (
            f"sink.{sink.name}: {printable(sink.directory)} lies in a mount of the filer "
            f"({printable(device)}), in the watched folder {printable(settings.source.path)}: every copy "
            "would be copied again. Use a directory outside the mount, or exclude that one with "
            "exclude_paths."
        )
    return None


def _overlaps(settings: Settings, target: str) -> bool:
    watched = settings.source.path
    if not (is_at_or_below(target, watched) or is_at_or_below(watched, target)):
        return False
    return not any(
        path.startswith("/")
        and not _WILDCARDS & set(path)
        and is_at_or_below(target, path.rstrip("/") or "/")
        for path in settings.source.exclude_paths
    )


def _same_filer(settings: Settings, servers: str) -> bool:
    # Several filers stand with plus signs in the name of a mount.
    mounted = {comparable_host(address.rpartition(":")[0] or address) for address in servers.split("+")}
    return bool(mounted & {comparable_host(address.rpartition(":")[0]) for address in settings.source.filers})


def _unescape(field: str) -> str:
    """The kernel writes a space, tab, newline and backslash of a mount's fields as octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
