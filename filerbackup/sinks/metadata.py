"""What travels with an object beside its bytes, the way rclone keeps it: shared by the object sinks.

Which names and formats a service has for it is its `Dialect`; modified time, mode, owner and group
are those that rclone writes with `--metadata` (seen on rclone 1.75.2). The rest comes from the
extended attributes in which the filer keeps what S3 clients sent: `X-Amz-Meta-*`, `X-Amz-Tagging-*`,
`Cache-Control` and the like.

Everything here is safe to put into an HTTP header: names are tokens, values are what the dialect
allows. What cannot be sent is left out and named in `dropped`, so that one odd value never costs the
file.
"""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from filerbackup.events import Entry, EntryKind

DEFAULT_CONTENT_TYPE = "application/octet-stream"
SOURCE_STORAGE_CLASS = "source"
"""The setting that makes the source's storage class the copy's."""

_META = "x-amz-meta-"
_TAGGING = "x-amz-tagging-"
_STORAGE_CLASS = "x-amz-storage-class"
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
_is_plain = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch
_is_tag_text = re.compile(r"[\w +\-=.:/@]*").fullmatch
_is_class = re.compile(r"[A-Z][A-Z0-9_]{0,62}").fullmatch

_WORD_BYTES = 45
"""So much UTF-8 fits into one encoded word, which RFC 2047 limits to 75 characters."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one service keeps metadata.

    `time` gives the names and values for a modified time in nanoseconds, `parse_time` reads them
    back from all user metadata. `posix` are the names for mode (octal with the type), uid and gid,
    an empty one is not kept. `md5` is the name for the base64 MD5 of the whole where the service's
    own tag is none, `version` that for `content_version`. `prefix` goes in front of a user's own
    names where they are one of these. `name_of` and `value_of` turn the source's user metadata into
    what the service takes, None where they cannot. Limits: all names and values together in bytes,
    names in all, tags (0: the service keeps none).
    """

    time: Callable[[int], dict[str, str]]
    parse_time: Callable[[Mapping[str, str]], int | None]
    name_of: Callable[[str], str | None]
    value_of: Callable[[bytes], str | None]
    posix: tuple[str, str, str] = ("mode", "uid", "gid")
    md5: str = "md5chksum"
    version: str = "filerbackup-version"
    prefix: str = "source-"
    room_bytes: int = 2048
    most_names: int = 1000
    most_tags: int = 10

    @property
    def own_names(self) -> frozenset[str]:
        """Names that a user's metadata cannot have."""
        return frozenset({*self.time(0), *self.posix, self.md5, self.version})


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """Headers, user metadata (in a service's dialect) and tags of one object; empty strings are not sent."""

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


def object_metadata(entry: Entry, dialect: Dialect, *, storage_class: str = "") -> ObjectMetadata:
    """What goes with the entry's bytes. `storage_class` as in the settings.

    A user's own metadata that has one of our names is kept as `source-<name>`.
    """
    mode = entry.mode if stat.S_IFMT(entry.mode) else entry.mode | _TYPE_BITS.get(entry.kind, 0)
    user = dialect.time(entry.mtime_ns)
    for name, value in zip(dialect.posix, (f"{mode:o}", str(entry.uid), str(entry.gid)), strict=True):
        if name:
            user[name] = value
    content_type = entry.mime if _is_plain(entry.mime) else DEFAULT_CONTENT_TYPE
    fixed = "" if storage_class == SOURCE_STORAGE_CLASS else storage_class
    if not entry.extended:
        return ObjectMetadata(content_type=content_type, storage_class=fixed, user=user)
    metadata = _Extended(dialect, user).read(entry.extended, content_type)
    if storage_class == SOURCE_STORAGE_CLASS:
        fixed = _storage_class_of(entry)
    return replace(metadata, storage_class=fixed) if fixed else metadata


def with_proof(
    metadata: ObjectMetadata, entry: Entry, dialect: Dialect, *, tag_is_md5: bool
) -> ObjectMetadata:
    """With what a later comparison can tell the content by, where the object's own tag cannot.

    Size and modified time do not suffice: the S3 gateway of SeaweedFS keeps whole seconds, and two
    uploads of the same size within one second look the same.
    """
    if entry.md5:
        proof = {} if tag_is_md5 or not dialect.md5 else {dialect.md5: base64.b64encode(entry.md5).decode()}
    else:
        version = content_version(entry)
        proof = {dialect.version: version} if version else {}
    return replace(metadata, user={**metadata.user, **proof}) if proof else metadata


def has_content(user: Mapping[str, str], md5: bytes, entry: Entry, dialect: Dialect) -> bool | None:
    """Whether an object of the entry's size has its content; None when nothing tells.

    `md5`: the service's own, of the object's bytes, where there is one.
    """
    kept, version, wanted = user.get(dialect.md5), user.get(dialect.version), content_version(entry)
    if entry.md5 and md5:
        return md5 == entry.md5
    if entry.md5 and kept:
        return kept == base64.b64encode(entry.md5).decode()
    if version and wanted:
        return version == wanted
    return True if entry.size == 0 else None


def is_same(user: Mapping[str, str], md5: bytes, entry: Entry, dialect: Dialect) -> bool:
    """Whether an object of the entry's size, with this user metadata, surely has its content and time."""
    if dialect.parse_time(user) != entry.mtime_ns:
        return False
    proven = has_content(user, md5, entry, dialect)
    return entry.mtime_ns % 1_000_000_000 != 0 if proven is None else proven


def has_attributes(user: Mapping[str, str], entry: Entry, dialect: Dialect) -> bool:
    """Whether user metadata holds mode, owner, modified time and all that the source has of its own."""
    wanted = object_metadata(entry, dialect).user
    return all(user.get(name.lower()) == value for name, value in wanted.items())


def content_version(entry: Entry) -> str:
    """A short name for the content, from what the filer keeps it under; empty when that is not known."""
    if not (entry.chunks or entry.content):
        return ""
    return content_digest(entry).hex()


def content_digest(entry: Entry, known: bytes = b"") -> bytes:
    """16 bytes that stand for what the filer keeps the content under, and for what else is known of it.

    Copies carry them: another way to make them would be another content.
    """
    digest = hashlib.blake2b(b"%b%d|" % (known, len(entry.content)), digest_size=16)
    digest.update(entry.content)
    for chunk in entry.chunks:
        known_by = f"{chunk.file_id} {chunk.offset} {chunk.size} {chunk.modified_ts_ns}\n"
        digest.update(known_by.encode("utf-8", "surrogatepass"))
    return digest.digest()


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


class _Extended:
    """Reads the filer's extended attributes of one entry."""

    def __init__(self, dialect: Dialect, user: dict[str, str]) -> None:
        self._dialect = dialect
        self._own_names = dialect.own_names
        self._user = user
        self._headers: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._dropped: list[str] = []
        proof_bytes = len(dialect.version) + 32
        taken = sum(len(name) + len(value) for name, value in user.items())
        self._room = dialect.room_bytes - proof_bytes - taken

    def read(self, extended: Mapping[str, bytes], content_type: str) -> ObjectMetadata:
        for name in sorted(extended):
            folded, raw = name.lower(), extended[name]
            if folded.startswith(_META):
                self._add_user(folded.removeprefix(_META), raw)
            elif folded.startswith(_TAGGING):
                self._add_tag(name[len(_TAGGING) :], raw)
            elif folded in _HEADERS and raw:
                self._add_header(folded, raw)
        return ObjectMetadata(
            content_type=content_type,
            user=self._user,
            tags=self._tags,
            dropped=tuple(self._dropped),
            **self._headers,
        )

    def _add_user(self, given: str, raw: bytes) -> None:
        name, value = self._dialect.name_of(given), self._dialect.value_of(raw)
        if name in self._own_names:
            name = f"{self._dialect.prefix}{name}"
        if name is None or value is None or name in self._user:
            self._dropped.append(_META + given)
            return
        taken = len(name.encode()) + len(value.encode())
        # One name is left for what `with_proof` adds.
        if taken > self._room or len(self._user) + 1 >= self._dialect.most_names:
            self._dropped.append(_META + given)
            return
        self._user[name] = value
        self._room -= taken

    def _add_tag(self, name: str, raw: bytes) -> None:
        value = raw.decode(errors="replace")
        fits = 1 <= len(name) <= 128 and len(value) <= 256 and not name.lower().startswith("aws:")
        room = len(self._tags) < self._dialect.most_tags
        if fits and room and _is_tag_text(name) and _is_tag_text(value):
            self._tags[name] = value
        else:
            self._dropped.append(_TAGGING + name)

    def _add_header(self, name: str, raw: bytes) -> None:
        value = header_value(raw)
        # A file name in another script is worth keeping in encoded words; elsewhere they mean nothing.
        if value.encode() == raw or name == "content-disposition":
            self._headers[_HEADERS[name]] = value
        else:
            self._dropped.append(name)


def _storage_class_of(entry: Entry) -> str:
    for name, raw in entry.extended.items():
        if name.lower() == _STORAGE_CLASS:
            text = raw.decode(errors="replace")
            return text if _is_class(text) else ""
    return ""
