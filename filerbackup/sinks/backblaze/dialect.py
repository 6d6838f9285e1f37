"""How B2 keeps metadata: up to ten names with a file, its "file info".

`src_last_modified_millis` is what Backblaze's tools and rclone read; it holds milliseconds, and rclone
(1.75.2, also with `--metadata`) reads and writes nothing else on B2. With only ten names, what nobody
else reads shares one: `filerbackup` is `name=value` pairs with a space between, of `mtime` (Unix
seconds, where the milliseconds are not exact), `mode` (octal with the type), `uid`, `gid`, `md5chksum`
(base64) or `version`. The names `b2-cache-control` and the like become headers of a download.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from filerbackup.sinks.metadata import Dialect, ObjectMetadata
from filerbackup.sinks.objects.times import parse_unix_seconds, unix_seconds

MILLIS = "src_last_modified_millis"
EXACT_TIME = "filerbackup-mtime"
WHOLE_SHA1 = "large_file_sha1"
OWN = "filerbackup"
MOST_NAMES = 10
ROOM_BYTES = 7000
"""A file's name and its info together, as they are sent."""
ROOM_ENCRYPTED_BYTES = 2048
"""The same in a bucket that encrypts by default, or with Object Lock."""
_MOST_NAME_CHARACTERS = 50
_MS_NS = 1_000_000

_is_token = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_is_reserved = re.compile(r"b2-|filerbackup(?:-|$)|large_file_sha1$|src_last_modified_millis$").match
_is_millis = re.compile(r"-?[0-9]{1,16}").fullmatch
_has_control = re.compile(r"[\x00-\x1f\x7f]").search


def _time(time_ns: int) -> dict[str, str]:
    named = {MILLIS: str(time_ns // _MS_NS)}
    if time_ns % _MS_NS:
        named[EXACT_TIME] = unix_seconds(time_ns)
    return named


def _parse_time(info: Mapping[str, str]) -> int | None:
    millis = info.get(MILLIS, "")
    if not _is_millis(millis):
        return None
    exact = parse_unix_seconds(info.get(EXACT_TIME, ""))
    # Other programs change the milliseconds alone.
    if exact is not None and exact // _MS_NS == int(millis):
        return exact
    return int(millis) * _MS_NS


def _name_of(given: str) -> str | None:
    name = f"source-{given}" if _is_reserved(given) else given
    return name if len(name) <= _MOST_NAME_CHARACTERS and _is_token(name) else None


def _value_of(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return None if _has_control(text) else text


DIALECT = Dialect(
    time=_time,
    parse_time=_parse_time,
    name_of=_name_of,
    value_of=_value_of,
    room_bytes=ROOM_BYTES,
    # Ours in one dictionary with the others are up to six, and go into two.
    most_names=MOST_NAMES + 4,
    most_tags=0,
)
_PACKED = {
    name: name.removeprefix(f"{OWN}-") for name in (EXACT_TIME, *DIALECT.posix, DIALECT.md5, DIALECT.version)
}
_UNPACKED = {short: name for name, short in _PACKED.items()}
_OURS = _PACKED.keys() | {MILLIS, WHOLE_SHA1}


def own_info(metadata: ObjectMetadata) -> dict[str, str]:
    """What is filerbackup's own: without it a comparison would not know the file again."""
    user = metadata.user
    info = {name: user[name] for name in (MILLIS, WHOLE_SHA1) if name in user}
    packed = " ".join(f"{short}={user[name]}" for name, short in _PACKED.items() if name in user)
    return {**info, OWN: packed} if packed else info


def file_info(name: str, metadata: ObjectMetadata, room_bytes: int) -> tuple[dict[str, str], list[str]]:
    """The info to send with a file, and the names that found no room.

    Filerbackup's own comes first, then what becomes headers, then what users have set. Values are
    plain: as JSON has them, percent-encoded only in headers.
    """
    info = own_info(metadata)
    left_out: list[str] = []
    others = {
        "b2-cache-control": metadata.cache_control,
        "b2-content-disposition": metadata.content_disposition,
        "b2-content-encoding": metadata.content_encoding,
        "b2-content-language": metadata.content_language,
        "b2-expires": metadata.expires,
    }
    others = {each: value for each, value in others.items() if value}
    others.update((each, value) for each, value in metadata.user.items() if each not in _OURS)
    if not others:
        return info, left_out
    room = room_bytes - len(quote(name)) - sum(map(_bytes, info.items()))
    for item in others.items():
        if len(info) < MOST_NAMES and _bytes(item) <= room:
            info[item[0]] = item[1]
            room -= _bytes(item)
        else:
            left_out.append(item[0])
    return info, left_out


def user_metadata(info: Mapping[str, str]) -> dict[str, str]:
    """The reverse: a file's info with filerbackup's own under the names of the dialect."""
    user = {name: value for name, value in info.items() if name != OWN}
    for pair in info.get(OWN, "").split(" "):
        short, _, value = pair.partition("=")
        if value and short in _UNPACKED:
            user[_UNPACKED[short]] = value
    return user


def _bytes(item: tuple[str, str]) -> int:
    return len(item[0]) + len(quote(item[1]))
