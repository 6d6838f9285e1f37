"""Small objects, whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.keys import shown
from filerbackup.sinks.objects.store import Store

MOST_SMALL_BYTES = 16 << 20


async def read_all(store: Store, name: str) -> bytes | None:
    """A small object, None when it is absent. Raises SinkUnavailable when it is far too long."""
    return await gather(store.get(name), f"{store.label}: GET {shown(name)}")


async def gather(stream: AsyncGenerator[bytes, None], what: str) -> bytes | None:
    """The same from the blocks of an object; `what` names the call."""
    data = bytearray()
    try:
        async with aclosing(stream) as blocks:
            async for block in blocks:
                data += block
                if len(data) > MOST_SMALL_BYTES:
                    raise SinkUnavailable(f"{what}: far too long for what it should be")
    except FileNotFoundError:
        return None
    return bytes(data)
