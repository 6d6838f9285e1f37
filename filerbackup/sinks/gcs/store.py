"""One bucket of Google Cloud Storage as a `Store`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from urllib.parse import urlsplit

from filerbackup.errors import SinkError, SinkUnavailable, Unreadable, UsageError
from filerbackup.settings.model import GcsSettings
from filerbackup.sinks.gcs.bucket import Bucket
from filerbackup.sinks.gcs.composing import Composing
from filerbackup.sinks.gcs.dialect import DIALECT, MOST_NAME_BYTES, check_name
from filerbackup.sinks.gcs.errors import classify
from filerbackup.sinks.gcs.http import Http, connect
from filerbackup.sinks.gcs.identity import Identity
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.checks import md5_of, remove_wrong
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.store import Found, Head, Page, Part, Traits

GOOGLE = "https://storage.googleapis.com"
MOST_DELETES = 100
"""Google's limit for one batch."""
_DEFAULT_CONCURRENCY = 64
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_TRAITS = Traits(
    kind="gcs",
    dialect=DIALECT,
    most_name_bytes=MOST_NAME_BYTES,
    smallest_part=1 << 20,
    bulk_names=MOST_DELETES,
    # They do stay; `open` finds them by their names. A note of them, as other services need it, would be
    # written more than once a second, which is all that Google allows for one object.
    keeps_unfinished=False,
)


class GcsStore:
    """A bucket, spoken to over the JSON API; satisfies `Store`. Raises UsageError for unusable settings."""

    def __init__(self, settings: GcsSettings) -> None:
        if not settings.bucket:
            raise UsageError(f"[sink.{settings.name}] has no `bucket`")
        self._settings = settings
        self._endpoint = _endpoint(settings)
        self._directory = "".join(f"{part}/" for part in settings.directory.split("/") if part)
        self._http: Http | None = None
        self._bucket: Bucket | None = None
        self._composing: Composing | None = None

    @property
    def traits(self) -> Traits:
        """What Google documents, and what is known here."""
        return _TRAITS

    @property
    def label(self) -> str:
        """Kind and bucket."""
        return f"gcs:{self._settings.bucket}"

    def tells_md5(self, *, in_parts: bool) -> bool:
        """An object that was put together has a CRC-32C only."""
        return not in_parts

    async def open(self) -> None:
        """See the protocol. Only what is needed for objects is asked for: no right to the bucket itself."""
        await self.close()
        identity = Identity(self._settings)
        try:
            await identity.open()
            lanes = (self._settings.concurrency or _DEFAULT_CONCURRENCY) * (
                self._settings.part_concurrency + 1
            )
            http = await connect(self._endpoint, identity, connections=lanes)
        except Unanswered as error:
            await identity.close()
            raise classify(error, self.label) from None
        except BaseException:
            await identity.close()
            raise
        bucket = Bucket(http, self._endpoint, self._settings.bucket)
        try:
            await bucket.page(self._directory, limit=1)
        except BaseException:
            await http.close()
            raise
        self._http, self._bucket = http, bucket
        self._composing = Composing(bucket, f"{self._directory}.filerbackup/parts/")

    async def close(self) -> None:
        """See the protocol."""
        http, self._http, self._bucket, self._composing = self._http, None, None, None
        if http is not None:
            await http.close()

    def _at(self) -> Bucket:
        if self._bucket is None:
            raise SinkUnavailable(f"{self.label}: the sink is not open")
        return self._bucket

    def _parts(self) -> Composing:
        if self._composing is None:
            raise SinkUnavailable(f"{self.label}: the sink is not open")
        return self._composing

    # -- whole objects ----------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes = b"") -> None:
        """See the protocol. The hash goes along: other bytes are refused before they replace anything."""
        check_name(name)
        bucket = self._at()
        digest = md5 or await md5_of(data)
        stored = await bucket.put(name, data, metadata, digest)
        if stored is not None and stored.size == len(data) and stored.md5 in (digest, b""):
            return
        is_sources_fault = bool(md5) and await md5_of(data) != md5
        if stored is not None:
            # A service that did not look at the hash.
            await remove_wrong(bucket.delete(name))
        if is_sources_fault:
            raise Unreadable(f"the content of {shown(name)} does not have the MD5 that the source gives")
        raise SinkUnavailable(f"{self.label}: the bytes of {shown(name)} did not arrive as they were sent")

    async def head(self, name: str) -> Head | None:
        """See the protocol."""
        bucket = self._at()
        check_name(name)
        found = await bucket.head(name)
        return None if found is None else Head(name, found.size, found.version, found.md5, found.user)

    async def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol."""
        check_name(name)
        async with aclosing(self._at().get(name, offset, length)) as blocks:
            async for block in blocks:
                yield block

    async def page(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        """See the protocol. The service's own beginning is inclusive."""
        listing = await self._at().page(prefix, after=after, token=token, delimiter=delimiter, limit=limit)
        prefixes = listing.prefixes
        if listing.token and len(prefixes) + len(listing.objects) > limit:
            # fake-gcs-server counts no prefixes and gives all of them again with each page; its
            # token is the name where the next page begins.
            prefixes = [each for each in prefixes if each < listing.token]
        objects = [
            Found(found.name, found.size, found.version, found.md5, found.user)
            for found in listing.objects
            if not after or found.name > after
        ]
        return Page(objects, prefixes, bool(listing.token), listing.token)

    async def delete(self, name: str) -> None:
        """See the protocol."""
        check_name(name)
        await self._at().delete(name)

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """See the protocol."""
        bucket = self._at()
        if not names:
            return {}
        for name in names:
            check_name(name)
        return await bucket.delete_batch(names)

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """See the protocol. In place it is a change of metadata, and the storage class stays."""
        check_name(name)
        bucket = self._at()
        if name == head.name:
            return await bucket.patch(name, head.etag, metadata, head.user)
        copied = await bucket.rewrite(head.name, head.etag, name, metadata)
        if copied is None:
            return False
        if copied.size == head.size and (not head.md5 or copied.md5 in (head.md5, b"")):
            return True
        # The condition was not kept to (fake-gcs-server knows none): this is another version.
        await remove_wrong(bucket.delete(name))
        return False

    # -- objects in parts -------------------------------------------------------------------------

    async def begin_upload(self, name: str, metadata: ObjectMetadata) -> str:
        """See the protocol. Costs no request."""
        check_name(name)
        return self._parts().begin(name, metadata)

    async def put_part(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """See the protocol. A part is an object of its own until all are put together."""
        return await self._parts().put_part(name, upload_id, number, size, blocks, digest)

    async def complete_upload(
        self, name: str, upload_id: str, parts: Sequence[Part], metadata: ObjectMetadata
    ) -> None:
        """See the protocol."""
        await self._parts().complete(name, upload_id, parts, metadata)

    async def abort_upload(self, name: str, upload_id: str) -> None:
        """See the protocol."""
        await self._parts().abort(upload_id)

    async def sweep(self) -> None:
        """See the protocol: parts lie below the sink's own prefix."""
        await self._parts().sweep()

    async def open_uploads(self, name: str) -> list[str]:
        """See the protocol."""
        return await self._parts().open_uploads(name)


def _endpoint(settings: GcsSettings) -> str:
    """Scheme, host and port; a token is never sent in the clear to another machine."""
    endpoint = settings.endpoint or GOOGLE
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.path.strip("/"):
        raise UsageError(
            f"[sink.{settings.name}] endpoint: it has to be http:// or https:// with host and port"
        )
    has_credentials = bool(settings.credentials or settings.credentials_file)
    if parts.scheme == "http" and has_credentials and host not in _LOOPBACK:
        raise UsageError(
            f"[sink.{settings.name}] endpoint: credentials are not sent over http:// to another machine",
            hint="use https://, or leave the credentials out",
        )
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}" + (f":{port}" if port is not None else "")
