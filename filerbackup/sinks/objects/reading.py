"""Small objects, whole."""

from __future__ import annotations

from contextlib import aclosing

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.keys import shown
from filerbackup.sinks.objects.store import Store

MOST_SMALL_BYTES = 16 << 20


async def read_all(store: Store, name: str) -> bytes | None:
    """A small object, None when it is absent. Raises SinkUnavailable when it is far too long."""
    data = bytearray()
    try:
        async with aclosing(store.get(name)) as blocks:
            async for block in blocks:
                data += block
                if len(data) > MOST_SMALL_BYTES:
                    raise SinkUnavailable(f"{shown(name)} in {store.label} is far too long")
    except FileNotFoundError:
        return None
    return bytes(data)
