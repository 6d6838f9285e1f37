"""The watched folder of a filer, as the pipeline sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime

from filerbackup.content import Content, InlineContent
from filerbackup.events import Entry, EntryKind, Event
from filerbackup.filer.client import FilerClient
from filerbackup.source.content import FileContent
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.subscribe import Subscription
from filerbackup.source.volumes import Volumes
from filerbackup.source.walk import TreeWalk

_LOG_DIRECTORY = "/topics/.system/log"


class FilerSource:
    """Satisfies `filerbackup.source.base.Source`."""

    def __init__(
        self,
        client: FilerClient,
        volumes: Volumes,
        *,
        root: str,
        name: str,
        holds: Callable[[Entry], bool],
    ) -> None:
        self._client = client
        self._volumes = volumes
        self._root = root
        self._holds = holds
        # A bare prefix would match the folder's namesakes too: /w also stands for /w2.
        self._subscription = Subscription(client, name, "/" if root == "/" else root + "/")

    async def now_ns(self) -> int:
        """The filer's clock."""
        return await self._client.now_ns()

    async def oldest_log_ns(self) -> int | None:
        """The minute after which the oldest kept log file begins, from its name YYYY-MM-DD/HH-MM."""
        days = await self._client.list_page(_LOG_DIRECTORY, "", 4)
        for day in days:
            files = await self._client.list_page(f"{_LOG_DIRECTORY}/{day.name}", "", 1)
            for file in files:
                return _minute_ns(day.name, file.name)
        return None

    def subscribe(self, since_ns: int, until_ns: int | None = None) -> AsyncGenerator[Sequence[Event], None]:
        """The change log from there on."""
        return self._subscription.events(since_ns, until_ns)

    async def lookup(self, path: str) -> Entry | None:
        """The live entry."""
        directory, _, name = path.rpartition("/")
        found = await self._client.lookup(directory or "/", name)
        return None if found is None else entry_from_pb(directory or "/", found)

    def walk(self, after: str = "") -> AsyncGenerator[Entry, None]:
        """The live tree."""
        return TreeWalk(self._client, self._root, self._holds).entries(after)

    def content(self, entry: Entry) -> Content:
        """The entry's bytes; nothing for a symlink or a bare directory."""
        if entry.kind is EntryKind.FILE or entry.has_body:
            return FileContent(entry, self._volumes)
        return InlineContent(b"")


def _minute_ns(day: str, file: str) -> int | None:
    try:
        begun = datetime.strptime(f"{day} {file[:5]}", "%Y-%m-%d %H-%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(begun.timestamp()) * 1_000_000_000
