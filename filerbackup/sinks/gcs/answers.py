"""What the service answers, as values: parsed here, trusted nowhere."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_is_number = re.compile(r"[0-9]{1,20}").fullmatch
_boundary = re.compile(r"boundary=\"?([^\";\s]{1,200})").search
_item = re.compile(rb"^Content-ID:\s*<response-item-([0-9]{1,4})>\s*$", re.IGNORECASE | re.MULTILINE).search
_status = re.compile(rb"^HTTP/1\.[01] ([0-9]{3})\b", re.MULTILINE).search
_blank = re.compile(rb"\r?\n\r?\n")

OBJECT_FIELDS = "name,size,generation,metageneration,md5Hash,crc32c,metadata"


class NotGoogle(ValueError):
    """An answer that the JSON API would never give."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An object as the API describes it; hashes are raw, empty where the answer has none."""

    name: str
    size: int
    generation: str
    metageneration: str
    md5: bytes
    crc32c: bytes
    user: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """What a conditional request goes by: the content's generation and that of its metadata."""
        return f"{self.generation}.{self.metageneration}"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing."""

    objects: list[Resource]
    prefixes: list[str]
    token: str


def parse_json(body: bytes) -> dict[str, object]:
    """A JSON object. Raises NotGoogle."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise NotGoogle("no JSON") from None
    if not isinstance(value, dict):
        raise NotGoogle("no JSON object")
    return value


def parse_resource(value: object) -> Resource:
    """One object of the API. Raises NotGoogle.

    Numbers of 64 bits are texts in the API; fake-gcs-server gives some as numbers.
    """
    if not isinstance(value, dict):
        raise NotGoogle("no object where one was asked for")
    name = value.get("name")
    if not isinstance(name, str):
        raise NotGoogle("an object without a name")
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise NotGoogle("metadata of another kind")
    return Resource(
        name,
        int(_number(value.get("size"), "size")),
        _number(value.get("generation"), "generation"),
        _number(value.get("metageneration", "1"), "metageneration"),
        _raw(value.get("md5Hash"), 16),
        _raw(value.get("crc32c"), 4),
        {str(key).lower(): text for key, text in metadata.items() if isinstance(text, str)},
    )


def parse_listing(body: bytes) -> Listing:
    """A page of objects. Raises NotGoogle."""
    value = parse_json(body)
    items, prefixes = value.get("items") or [], value.get("prefixes") or []
    token = value.get("nextPageToken") or ""
    if not (isinstance(items, list) and isinstance(prefixes, list) and isinstance(token, str)):
        raise NotGoogle("no listing")
    if value.get("kind", "storage#objects") != "storage#objects":
        raise NotGoogle("no listing of objects")
    names = [name for name in prefixes if isinstance(name, str) and name.endswith("/")]
    return Listing([parse_resource(item) for item in items], sorted(names), token)


def parse_batch(content_type: str, body: bytes) -> dict[int, tuple[int, bytes]]:
    """Status and body of each item of a batch, by the item's number. Raises NotGoogle."""
    found = _boundary(content_type)
    if found is None or not content_type.lower().startswith("multipart/mixed"):
        raise NotGoogle("no answers to a batch")
    answers: dict[int, tuple[int, bytes]] = {}
    for piece in body.split(b"--" + found[1].encode("latin-1", "replace")):
        item = _item(piece)
        status = _status(piece, item.end()) if item is not None else None
        if item is None or status is None:
            continue
        parts = _blank.split(piece[status.end() :], 1)
        answers[int(item[1])] = (int(status[1]), parts[1].strip() if len(parts) == 2 else b"")
    return answers


def _number(value: object, what: str) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _is_number(text):
        raise NotGoogle(f"an object without a {what}")
    return text


def _raw(value: object, size: int) -> bytes:
    if not isinstance(value, str):
        return b""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if len(raw) == size else b""
