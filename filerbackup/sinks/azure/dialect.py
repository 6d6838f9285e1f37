"""How metadata is kept on Azure: the names and forms that rclone's azureblob writes and reads.

Seen on rclone 1.75.2: metadata `mtime` (RFC 3339, nine digits), `mode`, `uid`, `gid`; a directory is an
empty blob whose name ends in a slash, with the metadata `hdi_isfolder`. Names of metadata are C#
identifiers for the service, so "-" and its like become "_"; it has no header Expires.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import quote

from filerbackup.sinks.azure.answers import FOLDER, md5_of_header
from filerbackup.sinks.metadata import Dialect, ObjectMetadata, header_value
from filerbackup.sinks.objects.times import parse_rfc3339, rfc3339

MD5 = "md5chksum"
"""How the MD5 of a whole comes to `block_headers`: the service then has it as a property, not as metadata."""
_MTIME = "mtime"
_MOST_TAGS = 10
_MOST_NAME = 512
_FIRST_NS, _LAST_NS = -62_135_596_800 * 10**9, 253_402_300_799 * 10**9
_unusual = re.compile(r"[^a-z0-9_]")
_is_tag_text = re.compile(r"[A-Za-z0-9 +\-./:=_]*").fullmatch
_TIERS = {
    "hot": "Hot", "cool": "Cool", "cold": "Cold", "archive": "Archive",
    # What clients of S3 ask for, where the source's class is to be kept.
    "standard_ia": "Cool", "onezone_ia": "Cool", "intelligent_tiering": "",
    "glacier_ir": "Cold", "glacier": "Archive", "deep_archive": "Archive", "standard": "",
    "reduced_redundancy": "", "": "",
}  # fmt: skip


def _time(time_ns: int) -> dict[str, str]:
    # The form has no words for a time outside of the years 1 to 9999.
    return {_MTIME: rfc3339(time_ns, digits=9)} if _FIRST_NS <= time_ns <= _LAST_NS else {}


def _parse_time(user: Mapping[str, str]) -> int | None:
    return parse_rfc3339(user.get(_MTIME, ""))


def _name_of(given: str) -> str | None:
    name = _unusual.sub("_", given.lower())
    if name[:1].isdigit():
        name = f"_{name}"
    # It would make an empty file a directory, for rclone and others.
    return name if 0 < len(name) <= _MOST_NAME and name != FOLDER else None


def _value_of(raw: bytes) -> str | None:
    # The service has no metadata without a value.
    return header_value(raw) or None


DIALECT = Dialect(
    time=_time,
    parse_time=_parse_time,
    name_of=_name_of,
    value_of=_value_of,
    md5=MD5,
    version="filerbackup_version",
    prefix="source_",
    room_bytes=8192,
    # With what else an answer has, below the 128 headers that aiohttp takes.
    most_names=96,
    most_tags=_MOST_TAGS,
)


def tier_of(storage_class: str) -> str | None:
    """The access tier for a storage class, empty for the account's own; None for one that is none."""
    return _TIERS.get(storage_class.lower())


def user_metadata(metadata: ObjectMetadata) -> dict[str, str]:
    """What is kept as the blob's metadata: all but the MD5, which has a place of its own."""
    return {name: value for name, value in metadata.user.items() if name != MD5}


def good_tags(metadata: ObjectMetadata) -> dict[str, str]:
    """The tags that Azure takes: fewer characters than S3's."""
    return {
        name: value
        for name, value in metadata.tags.items()
        if name and _is_tag_text(name) and _is_tag_text(value)
    }


def blob_headers(metadata: ObjectMetadata, *, folder: bool, tags: bool) -> dict[str, str]:
    """Headers of Put Blob and Put Block List, names in lower case."""
    headers = {"x-ms-blob-content-type": metadata.content_type}
    for name, value in (
        ("x-ms-blob-cache-control", metadata.cache_control),
        ("x-ms-blob-content-disposition", metadata.content_disposition),
        ("x-ms-blob-content-encoding", metadata.content_encoding),
        ("x-ms-blob-content-language", metadata.content_language),
        ("x-ms-access-tier", tier_of(metadata.storage_class) or ""),
    ):
        if value:
            headers[name] = value
    for name, value in metadata.user.items():
        if name != MD5:
            headers[f"x-ms-meta-{name}"] = value
    if folder:
        headers[f"x-ms-meta-{FOLDER}"] = "true"
    if tags and metadata.tags:
        # "&" and "=" of a query; a space is "%20" for every service that reads it.
        pairs = good_tags(metadata).items()
        headers["x-ms-tags"] = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs
        )
    return {name: value for name, value in headers.items() if value}


def whole_md5(metadata: ObjectMetadata) -> str:
    """The base64 MD5 of the whole, where the source knows it."""
    return metadata.user.get(MD5, "")


def as_header(digest: bytes) -> str:
    """A digest as a header has it."""
    return base64.b64encode(digest).decode()


def md5_bytes(metadata: ObjectMetadata) -> bytes:
    """`whole_md5` as 16 bytes, or empty."""
    return md5_of_header(whole_md5(metadata))
