"""Objects in one request, and whether the service has what was sent."""

from __future__ import annotations

import hashlib

from filerbackup.errors import ObjectRejected, SinkUnavailable, Unreadable
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.checks import md5_of, remove_wrong
from filerbackup.sinks.s3.answers import is_md5, is_md5_of_parts
from filerbackup.sinks.s3.bucket import Bucket

_READ_BACK_BYTES = 64 << 10
"""So small an object is read back where no ETag was right before: is it the bytes or the ETag?"""


class Uploads:
    """Puts objects and checks the answers.

    The request is signed with the SHA-256 of the body, so that a service that checks signatures
    refuses what was changed on the way. The ETag then tells what it stored. Where an ETag is not an
    MD5 (encryption with KMS or a customer's key, some services), the stored size has to do.
    """

    def __init__(self, bucket: Bucket, *, opaque: bool = False) -> None:
        self._bucket = bucket
        self.etag_is_md5 = not opaque
        self._was_md5 = False

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes = b"") -> None:
        """Write `data`; `md5` is its digest where that is known already."""
        digest = md5 or await md5_of(data)
        etag = await self._bucket.put(name, data, metadata)
        if self.etag_is_md5 and etag == digest.hex():
            self._was_md5 = True
            return
        if md5 and await md5_of(data) != md5:
            await remove_wrong(self._bucket.delete(name))
            raise Unreadable(f"the content of {name!r} does not have the MD5 that the source gives")
        in_doubt = not self._was_md5 and len(data) <= _READ_BACK_BYTES
        await self._check(name, len(data), digest.hex(), data if in_doubt else b"")

    async def put_with_slash(self, name: str, data: bytes, metadata: ObjectMetadata) -> None:
        """Write an object whose name ends in a slash; raises ObjectRejected where its bytes are not kept.

        (The gateway of SeaweedFS 4.48 answers with the right ETag and gives back no bytes.)
        """
        await self.put(name, data, metadata)
        head = await self._bucket.head(name)
        if head is None or head.size != len(data):
            await remove_wrong(self._bucket.delete(name))
            raise ObjectRejected(f"the service keeps no content under {name!r}, a name that ends in a slash")

    async def check_parts(self, name: str, etag: str, md5s: list[bytes], size: int) -> None:
        """Check an object that was put together from parts with these digests."""
        digest = hashlib.md5(b"".join(md5s), usedforsecurity=False).hexdigest()
        wanted = f"{digest}-{len(md5s)}"
        if not (self.etag_is_md5 and etag == wanted):
            await self._check(name, size, wanted)

    async def _check(self, name: str, size: int, wanted: str, data: bytes = b"") -> None:
        """The answer said something else: ask for what is stored.

        Raises SinkUnavailable when that is wrong, so that it is tried again.
        """
        head = await self._bucket.head(name)
        if head is not None:
            if head.opaque_etag:
                self.etag_is_md5 = False
            comparable = self.etag_is_md5 and (is_md5(head.etag) or is_md5_of_parts(head.etag))
            if head.size == size and (head.etag == wanted or not comparable):
                return
            if data and head.size == size and await self._bucket.get_all(name) == data:
                # What looks like an MD5 is none.
                self.etag_is_md5 = False
                return
        await remove_wrong(self._bucket.delete(name))
        stored = "nothing" if head is None else f"{head.size} bytes with another checksum"
        raise SinkUnavailable(f"the service has stored {stored} for the {size} bytes of {name!r}")
