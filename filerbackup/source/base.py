"""The source protocol: what the pipeline needs to know of a filer, so that a test can stand in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from filerbackup.content import Content
from filerbackup.events import Entry, Event


class Source(Protocol):
    """A watched folder of a filer."""

    async def now_ns(self) -> int:
        """The filer's clock. Raises SourceUnreachable."""
        ...

    async def oldest_log_ns(self) -> int | None:
        """When the oldest kept change log began, or None when there is no persisted log yet."""
        ...

    def subscribe(self, since_ns: int, until_ns: int | None = None) -> AsyncGenerator[Sequence[Event], None]:
        """Events after `since_ns`, in log order, in batches; for ever, or up to `until_ns`.

        Ends by itself only when `until_ns` was reached. Raises SourceUnreachable when the stream
        breaks or stalls: the caller decides where to go on.
        """
        ...

    @property
    def may_lag(self) -> bool:
        """Whether a look-up may be answered with less than the log has told: by another filer of several."""
        ...

    async def lookup(self, path: str) -> Entry | None:
        """The live entry, or None when there is none."""
        ...

    def walk(self, after: str = "") -> AsyncGenerator[Entry, None]:
        """The live tree below the watched folder, each entry once, without the folder itself.

        In the order of the relative paths' UTF-8 bytes, where a directory counts as its path plus
        "/": the order in which sinks list. `after` is a relative path in that form ("a/b.txt",
        "a/dir/") to go on behind. It ends only when the listing is complete.
        """
        ...

    def content(self, entry: Entry) -> Content:
        """The bytes of a file entry."""
        ...

    async def fetch(self, entry: Entry) -> Entry | None:
        """What to copy for an entry that is only in remote storage: the entry with its bytes at hand.

        None: such entries are left out. Raises ChunkGone, Unreadable, SourceUnreachable, SourceRefused.
        """
        ...
