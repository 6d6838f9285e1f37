"""Files whose bytes are only in a remote storage that is mounted into the filer."""

from __future__ import annotations

import logging

from filerbackup.errors import Unreadable
from filerbackup.events import Entry
from filerbackup.filer.client import FilerClient
from filerbackup.source.decode import entry_from_pb

_log = logging.getLogger(__name__)


class RemoteEntries:
    """`fetch`: have the filer copy the bytes into its cluster; else such files are left out.

    `left_out` counts how often one was.
    """

    def __init__(self, client: FilerClient, *, fetch: bool) -> None:
        self._client = client
        self._fetches = fetch
        self.left_out = 0

    def keeps(self, entry: Entry) -> bool:
        """Whether an entry can be copied."""
        if self._fetches or not entry.is_remote_only:
            return True
        self.left_out += 1
        if self.left_out == 1:
            _log.warning(
                "files whose content is only in remote storage are left out (remote_entries = skip)",
                extra={"path": entry.path},
            )
        return False

    async def fetch(self, entry: Entry) -> Entry | None:
        """The entry with its bytes in the cluster; None: it is left out. Raises ChunkGone, Unreadable.

        The filer goes on when nobody waits any more, and a later call finds what it has done.
        """
        if not self.keeps(entry):
            return None
        directory, _, name = entry.path.rpartition("/")
        found = await self._client.cache_remote(directory or "/", name)
        fetched = entry_from_pb(directory or "/", found)
        if fetched.is_remote_only:
            raise Unreadable("its content is only in remote storage, and the filer did not fetch it")
        return fetched
