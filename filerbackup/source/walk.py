"""The live tree below the watched folder, as entries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from filerbackup.events import Entry
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.walk import PAGE, Walk
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.versioned_listing import VersionedListing
from filerbackup.source.versions import Versions

__all__ = ["PAGE", "TreeWalk"]


class TreeWalk(Walk[Entry]):
    """One walk; `holds` says which entries belong to it (a directory outside is not entered).

    With `versions` the buckets that have them show what is current.
    """

    def __init__(
        self,
        client: FilerClient,
        root: str,
        holds: Callable[[Entry], bool],
        versions: Versions | None = None,
    ) -> None:
        def take(directory: str, message: pb.Entry) -> Entry | None:
            entry = entry_from_pb(directory, message)
            return entry if holds(entry) else None

        super().__init__(client, root, take)
        self._holds = holds
        self._versions = versions

    async def _by_name(
        self, directory: str, name_prefix: str
    ) -> AsyncGenerator[tuple[bytes, bool, Entry], None]:
        if self._versions is None or not await self._versions.lists(directory):
            async with aclosing(super()._by_name(directory, name_prefix)) as entries:
                async for step in entries:
                    yield step
            return
        listing = VersionedListing(self._versions, partial(self._look_up, directory))
        async with aclosing(listing.entries(self._entry_pages(directory))) as seen:
            async for entry in seen:
                if self._holds(entry):
                    yield entry.name.encode(), entry.is_directory, entry

    async def _entry_pages(self, directory: str) -> AsyncGenerator[tuple[Sequence[Entry], bool], None]:
        async with aclosing(self._pages(directory, "")) as pages:
            async for page, is_last in pages:
                yield [entry_from_pb(directory, message) for message in page], is_last

    async def _look_up(self, directory: str, name: str) -> Entry | None:
        found = await self._client.lookup(directory, name)
        return None if found is None else entry_from_pb(directory, found)
