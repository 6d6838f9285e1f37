"""How objects of Google Cloud Storage carry what belongs to a file.

`mtime` and `goog-reserved-file-mtime` are what rclone 1.75 writes and reads on this service; its
backend reads no mode and no owner there. `goog-reserved-posix-{mode,uid,gid}` are what Google's own
tools (`gcloud storage`, gsutil with `-P`) write and restore: the mode as three octal digits.
`mode`, `uid` and `gid` are rclone's names for the same on other services, with all bits.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping

from filerbackup.errors import ObjectRejected
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import Dialect
from filerbackup.sinks.objects.times import parse_rfc3339, rfc3339

MOST_NAME_BYTES = 1024
_MTIME = "mtime"
_GOOGLE_MTIME = "goog-reserved-file-mtime"
_GOOGLE_POSIX = "goog-reserved-posix-"
_GOOGLE_SYMLINK = "goog-reserved-file-is-symlink"
_RESERVED = "goog-"
_LINK_SUFFIX = ".rclonelink"
_POSIX = ("mode", "uid", "gid")
_ALL_BYTES = 8192
"""Google's limit for all names and values of custom metadata together."""
_MOST_NAMES = 64
"""Google has no limit; each is a header of a download, and Python's own client takes no more than 100."""
_GOOGLE_BYTES = 160
"""What `with_google_names` adds at most: four names, the mode, two numbers and a word."""

_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_is_seconds = re.compile(r"-?[0-9]{1,12}").fullmatch
_is_octal = re.compile(r"[0-7]{1,7}").fullmatch
_is_forbidden = re.compile(r"[\r\n]").search


def _time(time_ns: int) -> dict[str, str]:
    return {_MTIME: rfc3339(time_ns), _GOOGLE_MTIME: str(time_ns // 1_000_000_000)}


def _parse_time(user: Mapping[str, str]) -> int | None:
    if _MTIME in user:
        return parse_rfc3339(user[_MTIME])
    seconds = user.get(_GOOGLE_MTIME, "")
    return int(seconds) * 1_000_000_000 if _is_seconds(seconds) else None


def _name_of(name: str) -> str | None:
    """Google returns each name as a header too, so it has to be a token of HTTP."""
    if not _is_token(name):
        return None
    return f"source-{name}" if name.startswith(_RESERVED) else name


def _value_of(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return None if _is_control(text) else text


DIALECT = Dialect(
    time=_time,
    parse_time=_parse_time,
    name_of=_name_of,
    value_of=_value_of,
    posix=_POSIX,
    room_bytes=_ALL_BYTES - _GOOGLE_BYTES,
    most_names=_MOST_NAMES,
    most_tags=0,
)


def with_google_names(name: str, user: Mapping[str, str]) -> dict[str, str]:
    """The metadata with mode, uid and gid under the names of Google's tools besides.

    They know permission bits only: a mode of more than three digits would be no mode to gsutil. A
    symlink under its own name is marked as they and gcsfuse do it.
    """
    result = dict(user)
    mode = user.get("mode", "")
    if _is_octal(mode):
        bits = int(mode, 8)
        result[f"{_GOOGLE_POSIX}mode"] = f"{bits & 0o777:03o}"
        if stat.S_ISLNK(bits) and not name.endswith(_LINK_SUFFIX):
            result[_GOOGLE_SYMLINK] = "true"
    for key in ("uid", "gid"):
        if key in user:
            result[_GOOGLE_POSIX + key] = user[key]
    return result


def check_name(name: str) -> None:
    """Raise ObjectRejected for a name that Cloud Storage does not take."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ObjectRejected(f"the name {shown(name)} is not valid Unicode") from None
    if not 1 <= size <= MOST_NAME_BYTES:
        raise ObjectRejected(f"the name {shown(name)} has {size} bytes where 1 to {MOST_NAME_BYTES} may be")
    if _is_forbidden(name):
        raise ObjectRejected(f"the name {shown(name)} has a line break, which the service does not take")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise ObjectRejected(f"the name {shown(name)} is one that the service does not take")
