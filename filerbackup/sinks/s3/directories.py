"""Empty directories that a gateway to a file system keeps after the last object below them is gone.

SeaweedFS's gateway (4.48) keeps them for minutes. It puts an object over one in a single request, but
answers 500 when an upload in parts is to be completed there, for as long as the directory stands.
"""

from __future__ import annotations

from filerbackup.sinks.s3.bucket import Bucket

_MOST = 1000
"""Directories to look into: what comes next is asked for by what the service answers."""


async def clear_directories(bucket: Bucket, name: str) -> bool:
    """Remove the empty directory of an object's own name, with the empty ones below it.

    False when there is none, when any object is below it, or too many directories: then nothing was
    removed. Raises what the bucket raises.
    """
    empty: list[str] = []
    waiting = [name + "/"]
    while waiting:
        prefix = waiting.pop()
        head = await bucket.head(prefix)
        if head is None or head.size:
            return False
        page = await bucket.page(prefix, delimiter="/")
        if page.truncated or any(found.name != prefix for found in page.objects):
            return False
        empty.append(prefix)
        waiting += page.prefixes
        if len(empty) + len(waiting) > _MOST or not all(below.startswith(prefix) for below in page.prefixes):
            return False
    for prefix in reversed(empty):
        await bucket.delete(prefix)
    return True
