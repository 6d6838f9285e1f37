"""How keys become object names in the bucket, and the reverse.

A file is the object `<directory>/<key>`. A symlink is `<directory>/<key>.rclonelink` with the
target as its bytes, which is rclone's convention. A directory that carries content of its own is
`<directory>/<key>/`; one that carries none is not kept, or, with directory markers, is the same
object without bytes.
"""

from __future__ import annotations

import re

from filerbackup.errors import ObjectRejected, UsageError
from filerbackup.events import EntryKind
from filerbackup.sinks.base import OWN_PREFIX, Listed
from filerbackup.sinks.keys import check_key, check_own_key, is_own, shown
from filerbackup.sinks.metadata import Dialect
from filerbackup.sinks.objects.store import Found

LINK_SUFFIX = ".rclonelink"

_altered = re.compile(r"[\x00-\x1f\x7f\\]").findall


class Names:
    """The names under one directory of a bucket ("" or "/": the whole bucket). Raises UsageError.

    `markers`: an object without bytes whose name ends in a slash is a directory.
    """

    def __init__(self, directory: str, dialect: Dialect, *, most_bytes: int, markers: bool) -> None:
        parts = [part for part in directory.split("/") if part]
        if any(part in (".", "..") for part in parts):
            raise UsageError(f"the sink's directory {directory!r} has a '.' or '..' component")
        self.prefix = "".join(f"{part}/" for part in parts)
        self._dialect = dialect
        self._most_bytes = most_bytes
        self._markers = markers

    def plain(self, key: str) -> str:
        """The object with the key's own name: a file's. Raises ObjectRejected."""
        return self._checked(key, "")

    def link(self, key: str) -> str:
        """The object of a symlink. Raises ObjectRejected."""
        return self._checked(key, LINK_SUFFIX)

    def body(self, key: str) -> str:
        """The object with a directory's own content; all below begins with it. Raises ObjectRejected."""
        return self._checked(key, "/")

    def own(self, key: str) -> str:
        """An object of filerbackup's own. Raises ObjectRejected."""
        check_own_key(key)
        return self.prefix + key

    def listed(self, found: Found, *, links: bool) -> Listed | None:
        """What an object is in the sink, None when it is none of the sink's. `links`: it may be a symlink.

        Without markers, zero bytes under a name that ends in a slash are some other program's:
        nothing that was ever written here.
        """
        key, kind = found.name.removeprefix(self.prefix), EntryKind.FILE
        if key.endswith("/"):
            key, kind = key[:-1], EntryKind.DIRECTORY
        elif links and key.endswith(LINK_SUFFIX):
            key, kind = key.removesuffix(LINK_SUFFIX), EntryKind.SYMLINK
        if is_own(key) or (kind is EntryKind.DIRECTORY and found.size == 0 and not self._markers):
            return None
        try:
            check_key(key)
        except ObjectRejected:
            return None
        if found.user is None:
            return Listed(key, kind, found.size, etag=found.etag, md5=found.md5)
        return Listed(
            key,
            kind,
            found.size,
            mtime_ns=self._dialect.parse_time(found.user),
            etag=found.etag,
            version=found.user.get(self._dialect.version, ""),
            md5=found.md5,
        )

    @property
    def own_prefix(self) -> str:
        """What all names of filerbackup's own begin with."""
        return f"{self.prefix}{OWN_PREFIX}/"

    def _checked(self, key: str, suffix: str) -> str:
        check_key(key)
        name = f"{self.prefix}{key}{suffix}"
        # A character is at most four bytes: most names need not be encoded to be sure.
        if len(name) * 4 > self._most_bytes and len(name.encode()) > self._most_bytes:
            raise ObjectRejected(
                f"the name {shown(key)} is longer than the {self._most_bytes} bytes it may have"
            )
        return name


def doubtful_characters(name: str) -> set[str]:
    """Characters that some services silently replace: control characters, and the backslash.

    (The gateway of SeaweedFS 4.48 turns a backslash into a slash.)
    """
    return set(_altered(name))
