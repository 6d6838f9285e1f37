"""What travels with an object beside its bytes, the way rclone keeps it: shared by the object sinks.

User metadata `mtime` holds decimal Unix seconds with up to nine fraction digits, `mode` the octal
POSIX mode with its type bits (100644), `uid` and `gid` decimal numbers. (Seen on rclone 1.75.2 with
`--metadata`.) The rest comes from the extended attributes in which the filer keeps what S3 clients
sent: `X-Amz-Meta-*`, `X-Amz-Tagging-*`, `Cache-Control` and the like.

Everything here is safe to put into an HTTP header: names are tokens, values are printable ASCII.
What cannot be sent is left out and named in `dropped`, so that one odd value never costs the file.
"""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from filerbackup.events import Entry, EntryKind

DEFAULT_CONTENT_TYPE = "application/octet-stream"
USER_METADATA_BYTES = 2048
"""Amazon's limit for all names and values of user metadata together."""
MOST_TAGS = 10

_META = "x-amz-meta-"
_TAGGING = "x-amz-tagging-"
MD5_NAME = "md5chksum"
"""rclone's place for the base64 MD5 of the whole where the service's own tag is none."""
VERSION_NAME = "filerbackup-version"
"""Ours: which content it is, where nobody knows an MD5."""
_OWN_NAMES = frozenset({"mtime", "mode", "uid", "gid", MD5_NAME, VERSION_NAME})
_HEADERS = {
    "cache-control": "cache_control",
    "content-disposition": "content_disposition",
    "content-encoding": "content_encoding",
    "content-language": "content_language",
    "expires": "expires",
}
_TYPE_BITS = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
}
_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_plain = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch
_is_tag_text = re.compile(r"[\w +\-=.:/@]*").fullmatch
_unix_seconds = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?").fullmatch

_PROOF_BYTES = len(VERSION_NAME) + 32
"""What `with_proof` may add."""
_WORD_BYTES = 45
"""So much UTF-8 fits into one encoded word, which RFC 2047 limits to 75 characters."""


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """Headers, user metadata and tags of one object; empty strings are not sent.

    The storage class is the sink's to choose: the source's never becomes the copy's.
    """

    content_type: str = DEFAULT_CONTENT_TYPE
    storage_class: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    expires: str = ""
    user: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def object_metadata(entry: Entry) -> ObjectMetadata:
    """What goes with the entry's bytes.

    A user's own metadata that has one of rclone's names is kept as `source-<name>`.
    """
    mode = entry.mode if stat.S_IFMT(entry.mode) else entry.mode | _TYPE_BITS.get(entry.kind, 0)
    user = {
        "mtime": unix_seconds(entry.mtime_ns),
        "mode": f"{mode:o}",
        "uid": str(entry.uid),
        "gid": str(entry.gid),
    }
    content_type = entry.mime if _is_plain(entry.mime) else DEFAULT_CONTENT_TYPE
    if not entry.extended:
        return ObjectMetadata(content_type=content_type, user=user)
    return _with_extended(entry.extended, content_type, user)


def with_proof(metadata: ObjectMetadata, entry: Entry, *, tag_is_md5: bool) -> ObjectMetadata:
    """With what a later comparison can tell the content by, where the object's own tag cannot.

    Size and modified time do not suffice: the S3 gateway of SeaweedFS keeps whole seconds, and two
    uploads of the same size within one second look the same.
    """
    if entry.md5:
        proof = {} if tag_is_md5 else {MD5_NAME: base64.b64encode(entry.md5).decode()}
    else:
        version = content_version(entry)
        proof = {VERSION_NAME: version} if version else {}
    return replace(metadata, user={**metadata.user, **proof}) if proof else metadata


def is_proven(user: Mapping[str, str], entry: Entry) -> bool:
    """Whether an object of the entry's size, with this user metadata, surely has its content and time."""
    if parse_unix_seconds(user.get("mtime", "")) != entry.mtime_ns:
        return False
    md5, version, wanted = user.get(MD5_NAME), user.get(VERSION_NAME), content_version(entry)
    if md5 and entry.md5:
        return md5 == base64.b64encode(entry.md5).decode()
    if version and wanted:
        return version == wanted
    return entry.size == 0 or entry.mtime_ns % 1_000_000_000 != 0


def content_version(entry: Entry) -> str:
    """A short name for the content, from what the filer keeps it under; empty when that is not known."""
    if not (entry.chunks or entry.content):
        return ""
    digest = hashlib.blake2b(b"%d|" % len(entry.content), digest_size=16)
    digest.update(entry.content)
    for chunk in entry.chunks:
        known_by = f"{chunk.file_id} {chunk.offset} {chunk.size} {chunk.modified_ts_ns}\n"
        digest.update(known_by.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def unix_seconds(time_ns: int) -> str:
    """`mtime` as rclone writes it: 1712345678.1234 for 1712345678123400000."""
    seconds, nanos = divmod(abs(time_ns), 1_000_000_000)
    text = f"{seconds}.{nanos:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if time_ns < 0 else text


def parse_unix_seconds(text: str) -> int | None:
    """The nanoseconds that `unix_seconds` wrote, None for anything else."""
    found = _unix_seconds(text)
    if found is None:
        return None
    sign, seconds, fraction = found.groups()
    time_ns = int(seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
    return -time_ns if sign else time_ns


def header_value(raw: bytes) -> str:
    """The value as printable ASCII: as it is, or in the encoded words of RFC 2047.

    That is how Amazon S3 itself returns user metadata that is not ASCII, and raw bytes would break
    both the signature there and clients that read the header.
    """
    try:
        text, charset = raw.decode(), "UTF-8"
    except UnicodeDecodeError:
        text, charset = raw.decode("latin-1"), "ISO-8859-1"
    if not text or _is_plain(text):
        return text
    return " ".join(
        f"=?{charset}?B?{base64.b64encode(word.encode(charset)).decode()}?=" for word in _words(text, charset)
    )


def _words(text: str, charset: str) -> list[str]:
    """Cut between characters, so that each piece can be decoded alone."""
    words: list[str] = []
    room = 0
    for character in text:
        size = len(character.encode(charset))
        if size > room:
            words.append("")
            room = _WORD_BYTES
        words[-1] += character
        room -= size
    return words


def _with_extended(extended: Mapping[str, bytes], content_type: str, user: dict[str, str]) -> ObjectMetadata:
    headers: dict[str, str] = {}
    tags: dict[str, str] = {}
    dropped: list[str] = []
    room = USER_METADATA_BYTES - _PROOF_BYTES - sum(len(name) + len(value) for name, value in user.items())
    for name in sorted(extended):
        folded, raw = name.lower(), extended[name]
        if folded.startswith(_META):
            room -= _add_user(folded.removeprefix(_META), raw, user, room, dropped)
        elif folded.startswith(_TAGGING):
            _add_tag(name[len(_TAGGING) :], raw, tags, dropped)
        elif folded in _HEADERS and raw:
            _add_header(folded, raw, headers, dropped)
    return ObjectMetadata(content_type=content_type, user=user, tags=tags, dropped=tuple(dropped), **headers)


def _add_user(name: str, raw: bytes, user: dict[str, str], room: int, dropped: list[str]) -> int:
    """Returns how many bytes of the limit were taken."""
    if name in _OWN_NAMES:
        name = f"source-{name}"
    value = header_value(raw)
    taken = len(name) + len(value)
    if not _is_token(name) or name in user or taken > room:
        dropped.append(_META + name)
        return 0
    user[name] = value
    return taken


def _add_tag(name: str, raw: bytes, tags: dict[str, str], dropped: list[str]) -> None:
    value = raw.decode(errors="replace")
    fits = 1 <= len(name) <= 128 and len(value) <= 256 and not name.lower().startswith("aws:")
    if fits and _is_tag_text(name) and _is_tag_text(value) and len(tags) < MOST_TAGS:
        tags[name] = value
    else:
        dropped.append(_TAGGING + name)


def _add_header(name: str, raw: bytes, headers: dict[str, str], dropped: list[str]) -> None:
    value = header_value(raw)
    # A file name in another script is worth keeping in encoded words; elsewhere they mean nothing.
    if value.encode() == raw or name == "content-disposition":
        headers[_HEADERS[name]] = value
    else:
        dropped.append(name)
