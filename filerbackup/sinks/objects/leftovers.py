"""Aborting the uploads that a killed process never ended: once, before anything is written.

Not when the sink is opened: only later is it known that the place is ours, and another process may be
at work in it.
"""

from __future__ import annotations

import asyncio
import logging

from filerbackup.errors import SinkError
from filerbackup.sinks.objects.journal import Journal
from filerbackup.sinks.objects.store import Store

_log = logging.getLogger(__name__)


class Leftovers:
    """What an earlier process has left of uploads in parts."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store, self._journal = store, journal
        self._lock = asyncio.Lock()
        self._is_done = False

    async def sweep(self) -> None:
        """The first call does it, others wait for that. What cannot be removed is logged and left."""
        if not self._is_done:
            async with self._lock:
                await self._sweep_once()

    async def _sweep_once(self) -> None:
        if self._is_done:
            return
        try:
            await self._sweep()
        except SinkError as error:
            _log.warning("unfinished uploads of a killed process may stay behind: %s", error)
        self._is_done = True

    async def _sweep(self) -> None:
        await self._store.sweep()
        for name in await self._journal.load():
            for upload_id in await self._store.open_uploads(name):
                await self._store.abort_upload(name, upload_id)
        await self._journal.clear()
