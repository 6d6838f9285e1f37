"""File ids: which needle of which volume a chunk is."""

from __future__ import annotations

import re

_FILE_ID = re.compile(r"(\d{1,10}),([0-9a-fA-F]{1,16})([0-9a-fA-F]{8})", re.ASCII)
_MOST_KEYS = 1 << 64


def file_id_of(volume_id: int, file_key: int, cookie: int) -> str:
    """`<volume>,<hex>`: the key as bytes without leading zero bytes, then the cookie as four."""
    key = f"{file_key:x}" if file_key else ""
    return f"{volume_id},{'0' if len(key) % 2 else ''}{key}{cookie:08x}"


def parsed(file_id: str) -> tuple[int, int, int]:
    """Volume, key and cookie. Raises ValueError."""
    found = _FILE_ID.fullmatch(file_id)
    if found is None:
        raise ValueError(f"{file_id[:60]!r} is no file id")
    return int(found[1]), int(found[2], 16), int(found[3], 16)


def following(file_id: str, number: int) -> str:
    """The `number`-th file id after the first of several that were assigned together.

    A volume server takes `<file id>_<number>` for it too, a filer's entry does not. Raises ValueError.
    """
    volume, key, cookie = parsed(file_id)
    if key + number >= _MOST_KEYS:
        raise ValueError(f"no file id comes {number} after {file_id}")
    return file_id_of(volume, key + number, cookie)
