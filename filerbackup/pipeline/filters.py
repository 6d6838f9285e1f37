"""What counts: the watched folder, what a person excluded, and what is never content."""

from __future__ import annotations

import re
from collections.abc import Iterable

from filerbackup.events import Change, Delete, Entry, Rename, Upsert
from filerbackup.state.base import STATE_DIRECTORY

FILER_LOG_DIRECTORY = "/topics/.system/log"
"""Where the filer keeps its change log."""


def is_at_or_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it; "/" holds everything."""
    return folder in ("/", path) or path.startswith(folder + "/")


def wildcard(pattern: str) -> re.Pattern[str]:
    """Weed's wildcards: `*` is any run of characters, `?` is any one; all else is itself."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)


class Scope:
    """Decides about entries and changes; built once from the settings.

    `exclude_paths`: with a leading slash a folder (or file) and all below it, where each component
    may hold wildcards; without one a pattern that excludes whatever has a matching component below
    the watched folder. `exclude_names`: patterns for names of what is not a directory.
    `buckets_directory` is where the filer keeps buckets, whose `.uploads` hold parts of unfinished
    multipart uploads.
    """

    def __init__(
        self,
        root: str,
        *,
        exclude_paths: Iterable[str] = (),
        exclude_names: Iterable[str] = (),
        buckets_directory: str = "/buckets",
    ) -> None:
        self.root = root.rstrip("/") or "/"
        self._prefix = "/" if self.root == "/" else self.root + "/"
        paths = [path for path in exclude_paths if path]
        self._folders = tuple(
            re.compile(wildcard(path.rstrip("/")).pattern.replace(".*", "[^/]*") + "(/.*)?", re.DOTALL)
            for path in paths
            if path.startswith("/")
        )
        self._components = tuple(wildcard(path) for path in paths if not path.startswith("/"))
        self._names = tuple(wildcard(name) for name in exclude_names if name)
        self._uploads = re.compile(
            re.escape(buckets_directory.rstrip("/")) + r"/[^/]+/\.uploads(/.*)?", re.DOTALL
        )

    def relative(self, path: str) -> str:
        """A path in the watched folder, relative to it."""
        return path[len(self._prefix) :]

    def absolute(self, relative: str) -> str:
        """The reverse of `relative`."""
        return self._prefix + relative

    def holds(self, entry: Entry) -> bool:
        """Whether this entry is to be copied. The watched folder itself is not."""
        path = entry.path
        if not path.startswith(self._prefix) or path == self._prefix:
            return False
        if is_at_or_below(path, STATE_DIRECTORY) or is_at_or_below(path, FILER_LOG_DIRECTORY):
            return False
        if "/.uploads" in path and self._uploads.fullmatch(path):
            return False
        return not (self._folders or self._components or self._names) or not self._is_excluded(entry)

    def _is_excluded(self, entry: Entry) -> bool:
        if any(folder.fullmatch(entry.path) for folder in self._folders):
            return True
        if self._components:
            parts = self.relative(entry.path).split("/")
            if any(pattern.fullmatch(part) for pattern in self._components for part in parts):
                return True
        return not entry.is_directory and any(pattern.fullmatch(entry.name) for pattern in self._names)

    def clip(self, change: Change) -> Change | None:
        """The change as this scope sees it: a move into it is an upsert, out of it a delete."""
        match change:
            case Upsert(entry=entry) | Delete(entry=entry):
                return change if self.holds(entry) else None
            case Rename(ts_ns=ts_ns, old=old, new=new):
                match self.holds(old), self.holds(new):
                    case True, True:
                        return change
                    case True, False:
                        return Delete(ts_ns, old)
                    case False, True:
                        return Upsert(ts_ns, new, is_new=True)
                    case _:
                        return None
