"""From what the target's filer and volume servers say to the error tree.

Texts are those of weed 4.48, which has no codes for most of them.
"""

from __future__ import annotations

import grpc

from filerbackup.errors import (
    ObjectRejected,
    SinkError,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.filer.https import WANTS_TLS, WANTS_TLS_HINT

_NO_ROOM = ("no free volumes left", "no free volume", "no more free space", "no space left on device")
_NO_SUCH_DISK = "no volume server carries"
_NO_REPLICATION = ("unexpected replication type", "invalid replication", "not enough for")
_NO_SERVERS = "no volume server capacity"
_NO_TIME = "context deadline exceeded"
_READ_ONLY_PATH = "read only"
_GROWING = "no writable volumes"
_ROOM_HINT = (
    "add volume servers, or let them have more volumes (-max of `weed volume`); "
    "volume.list of `weed shell` shows them"
)
_REPLICATION_HINT = (
    "set `replication` of [sink.filer] to what the data centers, racks and servers of the target can hold, "
    "or leave it out"
)
_WRITABLE_HINT = "raise the bucket's quota on the target, or make the path writable in its filer.conf"
_SIGNING_HINT = "make jwt.signing.key the same on the target's master and volume servers"
_TLS_HINT = "check grpc.ca and grpc.client in security.toml: the target must trust the same authority"


def call_problem(address: str, error: grpc.aio.AioRpcError) -> SinkError:
    """The error of the tree for a gRPC call that failed."""
    text = _line(error.details() or "")
    what = f"the target filer {address}: {error.code().name}: {text}"
    if "http1.x" in text:
        return SinkRefused(
            f"{address} speaks HTTP/1, not gRPC",
            hint="grpcAddress of [sink.filer] wants the filer's gRPC port: usually its HTTP port + 10000",
        )
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return SinkRefused(
                f"{address} is no filer: {text}",
                hint="grpcAddress of [sink.filer] wants a filer's gRPC port, not that of a master",
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return SinkRefused(what, hint=_TLS_HINT)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return SinkThrottled(what)
        case grpc.StatusCode.UNAVAILABLE if _is_tls(text):
            return SinkRefused(what, hint=_TLS_HINT)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return SinkUnavailable(what, hint="is the target's filer running, and is grpcAddress right?")
    if f"{_READ_ONLY_PATH}: /" in text:
        return SinkRefused(what, hint=_WRITABLE_HINT)
    return SinkUnavailable(what)


def assign_problem(address: str, text: str, *, replication: str) -> SinkError:
    """The error of the tree when no volume can be had for a path."""
    text = _line(text)
    folded = text.lower()
    what = f"the target {address} gives no volume: {text}"
    if any(known in folded for known in _NO_REPLICATION):
        return SinkRefused(what, hint=_REPLICATION_HINT)
    if _NO_SUCH_DISK in folded:
        return SinkRefused(
            what, hint="set `disk` of [sink.filer] to a disk type that the volume servers have"
        )
    if any(known in folded for known in _NO_ROOM):
        too = f"; {_REPLICATION_HINT}" if replication else ""
        return SinkFull(what, hint=_ROOM_HINT + too)
    if _NO_SERVERS in folded:
        return SinkUnavailable(what, hint="are the target's volume servers running?")
    if _GROWING in folded:
        return SinkUnavailable(what, hint=_ROOM_HINT)
    if _READ_ONLY_PATH in folded:
        return SinkRefused(what, hint=_WRITABLE_HINT)
    if _NO_TIME in folded:
        kind = SinkRefused if replication else SinkUnavailable
        return kind(
            f"{what} (it found no servers for a new volume in time)",
            hint=_REPLICATION_HINT if replication else _ROOM_HINT,
        )
    return SinkUnavailable(what)


def upload_problem(server: str, status: int, text: str) -> SinkError:
    """The error of the tree for a volume server's answer to an upload."""
    text = _line(text)
    folded = text.lower()
    what = f"the target's volume server {server} answers {status}: {text}"
    if status in (401, 403):
        return SinkRefused(what, hint=_SIGNING_HINT)
    if WANTS_TLS in text:
        return SinkRefused(what, hint=WANTS_TLS_HINT)
    if status in (429, 503):
        return SinkThrottled(what)
    if "over the limited" in folded:
        return SinkRefused(
            what, hint="lower `part_size` of [sink.filer], or raise -fileSizeLimitMB of the volume servers"
        )
    if any(known in folded for known in _NO_ROOM):
        return SinkFull(what, hint=_ROOM_HINT)
    return SinkUnavailable(what)


def entry_problem(key: str, text: str, *, too_long: bool) -> SinkError:
    """The error of the tree for an entry that the filer does not take."""
    text = _line(text)
    folded = text.lower()
    if too_long:
        return ObjectRejected(f"a name in {key} is longer than the target's filer allows: {text}")
    if "invalid bucket name" in folded:
        return ObjectRejected(f"{key}: {text}")
    if _READ_ONLY_PATH in folded or "worm" in folded:
        return SinkRefused(
            f"the target's filer does not take {key}: {text}",
            hint=_WRITABLE_HINT,
        )
    return SinkUnavailable(f"the target's filer does not take {key}: {text}")


def _is_tls(text: str) -> bool:
    folded = text.lower()
    return any(word in folded for word in ("ssl", "tls", "handshake", "certificate"))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
