"""The watched folder of a filer, as the pipeline sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from filerbackup.content import Content, InlineContent
from filerbackup.events import Entry, EntryKind, Event
from filerbackup.filer.client import FilerClient
from filerbackup.source.content import FileContent
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.links import HardLinks
from filerbackup.source.remote import RemoteEntries
from filerbackup.source.sse import DataKeys
from filerbackup.source.subscribe import Subscription
from filerbackup.source.versions import SUFFIX, Versions
from filerbackup.source.volumes import Volumes
from filerbackup.source.walk import TreeWalk

_LOG_DIRECTORY = "/topics/.system/log"
_LOG_DAYS = 64
"""Days of which nothing is left but the directory."""


class FilerSource:
    """Satisfies `filerbackup.source.base.Source`.

    `all_versions`: show a bucket with versions as the filer keeps it, not the current ones alone.
    `fetch_remote`: have the filer fetch what is only in remote storage, else leave it out. `keys`: for
    what the S3 gateway has encrypted, which cannot be read without.
    """

    def __init__(
        self,
        client: FilerClient,
        volumes: Volumes,
        *,
        root: str,
        name: str,
        holds: Callable[[Entry], bool],
        buckets_directory: str = "/buckets",
        all_versions: bool = False,
        fetch_remote: bool = True,
        keys: DataKeys | None = None,
    ) -> None:
        self._client = client
        self._volumes = volumes
        self._keys = keys
        self._root = root
        self._holds = holds
        # Who watches a directory of versions wants to see them.
        all_versions = all_versions or f"{SUFFIX}/" in f"{root}/"
        self._versions = None if all_versions else Versions(client, buckets_directory)
        self._remote = RemoteEntries(client, fetch=fetch_remote)
        self._links = HardLinks(self.lookup)
        # A bare prefix would match the folder's namesakes too: /w also stands for /w2.
        self._subscription = Subscription(client, name, "/" if root == "/" else root + "/")

    async def now_ns(self) -> int:
        """The filer's clock."""
        return await self._client.now_ns()

    async def oldest_log_ns(self) -> int | None:
        """The minute in which the oldest kept log file begins."""
        return await oldest_log_ns(self._client)

    async def subscribe(
        self, since_ns: int, until_ns: int | None = None
    ) -> AsyncGenerator[Sequence[Event], None]:
        """The change log from there on."""
        objects = None if self._versions is None else self._versions.view()
        self._links.begin()
        async with aclosing(self._subscription.events(since_ns, until_ns)) as stream:
            async for batch in stream:
                translated = await objects.translate(batch) if objects else batch
                yield await self._links.spread(translated)

    @property
    def may_lag(self) -> bool:
        """See the protocol."""
        return len(self._client.addresses) > 1

    async def lookup(self, path: str) -> Entry | None:
        """The live entry."""
        if self._versions is not None and await self._versions.covers(path):
            return await self._versions.find(path)
        directory, _, name = path.rpartition("/")
        found = await self._client.lookup(directory or "/", name)
        return None if found is None else entry_from_pb(directory or "/", found)

    async def walk(self, after: str = "") -> AsyncGenerator[Entry, None]:
        """The live tree."""
        walk = TreeWalk(self._client, self._root, self._holds, self._versions)
        async with aclosing(walk.entries(after)) as entries:
            async for entry in entries:
                if self._remote.keeps(entry):
                    self._links.note(entry)
                    yield entry

    async def fetch(self, entry: Entry) -> Entry | None:
        """The entry with its bytes in the cluster."""
        return await self._remote.fetch(entry)

    def content(self, entry: Entry) -> Content:
        """The entry's bytes; nothing for a symlink or a bare directory."""
        if entry.kind is EntryKind.FILE or entry.has_body:
            return FileContent(entry, self._volumes, keys=self._keys)
        return InlineContent(b"")


async def oldest_log_ns(client: FilerClient) -> int | None:
    """The minute in which the oldest kept log file begins, from its name YYYY-MM-DD/HH-MM; else None."""
    days = await client.list_page(_LOG_DIRECTORY, "", _LOG_DAYS)
    for day in days:
        files = await client.list_page(f"{_LOG_DIRECTORY}/{day.name}", "", 1)
        for file in files:
            return _minute_ns(day.name, file.name)
    return None


def _minute_ns(day: str, file: str) -> int | None:
    try:
        begun = datetime.strptime(f"{day} {file[:5]}", "%Y-%m-%d %H-%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(begun.timestamp()) * 1_000_000_000
