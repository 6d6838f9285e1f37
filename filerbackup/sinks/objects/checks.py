"""Whether the service has what was sent: the digest of that, and what to do when it has not."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable

from filerbackup.errors import SinkError

_THREAD_FROM_BYTES = 256 << 10
"""Below this, hashing on the loop (0.4 ms) costs less than a thread."""
_log = logging.getLogger(__name__)


async def md5_of(data: bytes) -> bytes:
    """The MD5, in a thread when that pays."""
    if len(data) < _THREAD_FROM_BYTES:
        return _md5(data)
    return await asyncio.to_thread(_md5, data)


async def remove_wrong(removal: Awaitable[None]) -> None:
    """Wait for the removal of an object that turned out wrong; a failure is logged.

    The wrong one has already replaced the good one. What is missing is seen by any comparison and by
    a restore, while wrong bytes would be restored without a word.
    """
    try:
        await removal
    except SinkError as error:
        _log.warning("a wrong copy could not be removed and will be replaced: %s", error)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
