"""Empty directories that a gateway to a file system keeps after the last object below them is gone.

SeaweedFS's gateway (4.48) keeps them for minutes. It puts an object over one in a single request, but
answers 500 when an upload in parts is to be completed there, for as long as the directory stands.
"""

from __future__ import annotations

from filerbackup.sinks.s3.bucket import Bucket


async def clear_directories(bucket: Bucket, name: str) -> bool:
    """Remove the empty directory of an object's own name, with the empty ones below it.

    False when there is none, or when any object is below it: then nothing was removed there. Raises
    what the bucket raises.
    """
    prefix = name + "/"
    head = await bucket.head(prefix)
    if head is None or head.size:
        return False
    page = await bucket.page(prefix, delimiter="/")
    if page.truncated or any(found.name != prefix for found in page.objects):
        return False
    for below in page.prefixes:
        if not await clear_directories(bucket, below.removesuffix("/")):
            return False
    await bucket.delete(prefix)
    return True
