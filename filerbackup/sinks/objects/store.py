"""What an object store must offer so that `ObjectSink` can make a sink of it.

A store is one bucket or container. Names are whole object names, with the sink's directory in
front. Errors are those of the sink protocol: SinkUnavailable (SinkThrottled, SinkFull) when the same
call may go through later, SinkRefused when a person has to change something, ObjectRejected for one
object; content that breaks passes its own error through. No other exception leaves a store.

Every call has a deadline of its own. A store never retries but for a call that was answered "your
token is too old": the pipeline does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from filerbackup.errors import SinkError
from filerbackup.sinks.metadata import Dialect, ObjectMetadata


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a service without asking it. Sizes are bytes.

    `smallest_part` is the limit for all parts but the last, `largest_put` for one request.
    `part_hash` names the digest (`hashlib`) by which a part is checked. `bulk_names`: names in one
    bulk delete, 1 where there is none. `delete_lanes`: delete requests at once. `directory_objects`:
    whether an object whose name ends in a slash can exist. `keeps_unfinished`: parts of an upload that
    was never ended stay, and cost, until somebody aborts it; only a note of its name tells whose it is.
    """

    kind: str
    dialect: Dialect
    most_name_bytes: int = 1024
    smallest_part: int = 5 << 20
    largest_part: int = 5 << 30
    most_parts: int = 10_000
    largest_object: int = 5 << 40
    largest_put: int = 5 << 30
    part_hash: str = "md5"
    bulk_names: int = 1
    delete_lanes: int = 4
    directory_objects: bool = True
    keeps_unfinished: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """An object in a listing.

    `md5`: of its bytes, raw, where the listing tells. `user`: its metadata in the service's dialect,
    where the listing tells, else None.
    """

    name: str
    size: int
    etag: str = ""
    md5: bytes = b""
    user: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `token` continues it where the service gave one."""

    objects: list[Found]
    prefixes: list[str]
    truncated: bool
    token: str


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of one object.

    `etag` is what a conditional request goes by (ETag, generation, file id). `md5` is of the bytes,
    raw, empty where the service does not know one that can be trusted. `user` is the metadata in the
    service's dialect, names in lower case.
    """

    name: str
    size: int
    etag: str = ""
    md5: bytes = b""
    user: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the service has, and that was checked. `digest`: raw, of the trait's hash."""

    number: int
    tag: str
    size: int
    digest: bytes


class Store(Protocol):
    """One bucket or container."""

    @property
    def traits(self) -> Traits:
        """What the service is like."""
        ...

    @property
    def label(self) -> str:
        """Kind and bucket, for messages: "s3:backups"."""
        ...

    async def open(self) -> None:
        """Find credentials and prove that the bucket exists. May be called again, also after `close`.

        Raises SinkRefused with what to change (no such bucket, bad key, expired token, wrong region),
        SinkUnavailable when nobody answers.
        """
        ...

    async def close(self) -> None:
        """Release connections and threads. Never raises."""
        ...

    def tells_md5(self, *, in_parts: bool) -> bool:
        """Whether `head` and listings give the MD5 of an object that is written now, and so."""
        ...

    # -- whole objects ----------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes = b"") -> None:
        """Write an object in one request; when it returns, these very bytes are stored and durable.

        `md5`: of the data, where the source gives one. Data that does not have it raises Unreadable.
        """
        ...

    async def head(self, name: str) -> Head | None:
        """What is known of an object, None when it is absent."""
        ...

    def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes, as they were put. Raises FileNotFoundError; beyond the end there are none."""
        ...

    async def page(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        """A page of the objects whose names begin with `prefix`.

        `after`: only names behind this one (exclusive); `token` goes on where a page ended and comes
        with the same other arguments. With `delimiter` "/", names with a further slash are folded
        into `prefixes`.
        """
        ...

    async def delete(self, name: str) -> None:
        """Remove an object. Absent is fine."""
        ...

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """Remove up to `bulk_names` objects; returns what failed, None when the service has no such call.

        Absent ones are fine. Raises when nothing was removed for a reason that concerns all.
        """
        ...

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """Copy what `head` describes to `name` inside the service, with this metadata instead of its own.

        `name` may be the head's own: then only the metadata changes. False, with nothing changed,
        when the object is not the one that `head` describes any more, or the service cannot.
        """
        ...

    # -- objects in parts -------------------------------------------------------------------------

    async def begin_upload(self, name: str, metadata: ObjectMetadata) -> str:
        """Begin an upload; nothing is visible under the name. Returns its id."""
        ...

    async def put_part(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """Send part `number` (from 1) of `size` bytes; checked when it returns.

        `digest` gives the trait's hash of the part once the blocks have ended. May be called again
        for the same number; several numbers go up at the same time.
        """
        ...

    async def complete_upload(
        self, name: str, upload_id: str, parts: Sequence[Part], metadata: ObjectMetadata
    ) -> None:
        """Publish the object from all its parts, and check what the service says of it."""
        ...

    async def abort_upload(self, name: str, upload_id: str) -> None:
        """Remove the parts that were sent, where the service keeps such. Gone is fine."""
        ...

    async def open_uploads(self, name: str) -> list[str]:
        """The ids of uploads of just this object that were begun and never ended.

        Empty where the service forgets them by itself. Raises SinkRefused where asking is forbidden.
        """
        ...

    async def sweep(self) -> None:
        """Remove what a killed process has left of uploads, where that is known to be ours without a note."""
        ...
