"""How S3 keeps metadata: as rclone writes it there.

`mtime` is decimal Unix seconds with up to nine fraction digits. Values that are not printable ASCII
are in the encoded words of RFC 2047, as Amazon returns them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from filerbackup.sinks.metadata import Dialect, header_value
from filerbackup.sinks.objects.times import parse_unix_seconds, unix_seconds

_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def _time(time_ns: int) -> dict[str, str]:
    return {"mtime": unix_seconds(time_ns)}


def _parse_time(user: Mapping[str, str]) -> int | None:
    return parse_unix_seconds(user.get("mtime", ""))


def _name_of(name: str) -> str | None:
    return name if _is_token(name) else None


S3_DIALECT = Dialect(time=_time, parse_time=_parse_time, name_of=_name_of, value_of=header_value)
"""2,048 bytes of names and values in all, and ten tags, are Amazon's limits."""
