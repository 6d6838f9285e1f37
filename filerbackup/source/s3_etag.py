"""What the S3 gateway's ETags say of an object's clear bytes.

Seen with weed 4.48: the ETag of a simple object is the MD5 of its clear bytes, whatever it is stored
as. That of a multipart object is made of its parts' MD5s, and `X-Seaweedfs-Multipart-Part-Boundaries`
lists the parts, with the places where they begin and end. Copies inside the gateway carry both on.
Neither is touched by later writes through a mount: they can prove a content, never disprove a plain one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from filerbackup.errors import Unreadable
from filerbackup.events import Entry
from filerbackup.source.chunks import Interval

_ETAG = "seaweed-x-amz-etag"
_PARTS = "x-seaweedfs-multipart-part-boundaries"
_MOST_PARTS = 10_000
_WORTH_A_THREAD_BYTES = 256 << 10
_is_md5 = re.compile(r"[0-9a-f]{32}").fullmatch


class Part(NamedTuple):
    """Where a part ends, counted from the beginning of the object, and the MD5 of its clear bytes."""

    end: int
    md5: bytes


def parts_of(entry: Entry) -> Sequence[Part]:
    """The parts of an S3 object, which cover it from end to end; none when its ETag says nothing."""
    extended = {name.lower(): value for name, value in entry.extended.items()}
    etag = _text(extended.get(_ETAG, b""))
    if _is_md5(etag):
        return (Part(entry.size, bytes.fromhex(etag)),)
    found = _listed(extended, entry.size)
    combined = hashlib.md5(b"".join(part.md5 for part in found), usedforsecurity=False).hexdigest()
    return found if found and etag == f"{combined}-{len(found)}" else ()


def _listed(extended: Mapping[str, bytes], size: int) -> list[Part]:
    try:
        listed = json.loads(extended.get(_PARTS, b"[]"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(listed, list) or len(listed) > _MOST_PARTS:
        return []
    parts: list[Part] = []
    position = 0
    for one in listed:
        if not isinstance(one, dict):
            return []
        begin, end, etag = one.get("startOffset", 0), one.get("endOffset", 0), one.get("etag", "")
        if begin != position or type(end) is not int or not begin <= end <= size or not isinstance(etag, str):
            return []
        if not _is_md5(_text(etag.encode())):
            return []
        parts.append(Part(end, bytes.fromhex(_text(etag.encode()))))
        position = end
    return parts if position == size else []


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip('"')


class PartVerifier:
    """Hashes an object's blocks in order, large ones in a thread, and compares each part."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(reversed(parts))
        self._position = 0
        self._hash = hashlib.md5(usedforsecurity=False)

    async def feed(self, _: Interval, block: bytes) -> None:
        """The next block. Raises Unreadable when a part that ends in it has another MD5."""
        view = memoryview(block)
        while view and self._parts:
            part = self._parts[-1]
            piece = view[: part.end - self._position]
            if len(piece) < _WORTH_A_THREAD_BYTES:
                self._hash.update(piece)
            else:
                await asyncio.to_thread(self._hash.update, piece)
            self._position += len(piece)
            view = view[len(piece) :]
            self._end_parts()

    async def digest(self) -> bytes:
        """Empty: the parts have been compared. Raises Unreadable when one has not ended well."""
        self._end_parts()
        if self._parts:
            raise Unreadable("the object ends before its last part")
        return b""

    async def close(self) -> None:
        """Nothing is left running."""

    def _end_parts(self) -> None:
        while self._parts and self._parts[-1].end == self._position:
            part = self._parts.pop()
            if self._hash.digest() != part.md5:
                raise Unreadable("the clear bytes do not have the MD5 that the object's ETag gives")
            self._hash = hashlib.md5(usedforsecurity=False)
