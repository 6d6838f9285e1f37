"""Every call to the service, on one bucket: with a deadline, and with no error but those of the tree."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from filerbackup.errors import SinkError, SinkUnavailable
from filerbackup.sinks.gcs import bodies
from filerbackup.sinks.gcs.answers import (
    OBJECT_FIELDS,
    Listing,
    NotGoogle,
    Resource,
    parse_batch,
    parse_json,
    parse_listing,
    parse_resource,
)
from filerbackup.sinks.gcs.errors import Answered, classify, not_google, parse_refusal
from filerbackup.sinks.gcs.http import Answer, Http, whole
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import (
    CALL_S,
    SLICE_BYTES,
    Stall,
    bytes_range,
    in_slices,
    stalling,
)

REWRITE_S = 300.0
"""One call of a rewrite ends within 30 s by Google's word; composing many parts takes some time too."""
_MOST_PAGE_BYTES = 64 << 20
_MOST_CALLS = 100_000
_JSON = {"Content-Type": bodies.JSON_TYPE}


class Bucket:
    """The calls that are needed. Raises SinkUnavailable, SinkThrottled, SinkRefused, ObjectRejected."""

    def __init__(self, http: Http, endpoint: str, name: str) -> None:
        self._http = http
        self._endpoint, self._name = endpoint, name
        everything = bodies.object_path(name, "").removesuffix("/")
        self._objects = endpoint + everything
        self._upload = URL(
            f"{endpoint}/upload{everything}?uploadType=multipart&fields={OBJECT_FIELDS}", encoded=True
        )
        self._batch = URL(f"{endpoint}/batch/storage/v1", encoded=True)

    # -- writing ----------------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes) -> Resource | None:
        """One request with everything; the service takes only bytes with this MD5.

        None when it did not (HTTP 400 that speaks of the hash); nothing was changed then.
        """
        opening = bodies.opening(bodies.resource(name, metadata, md5), metadata.content_type)
        size = len(opening) + len(data) + len(bodies.END)
        headers = {"Content-Type": bodies.RELATED_TYPE, "Content-Length": str(size)}
        pieces = (opening, data, bodies.END)
        with self._errors("PUT", name):
            try:
                async with (
                    stalling() as stall,
                    self._http.request(
                        "POST",
                        self._upload,
                        body=_small(stall, pieces, size) or (lambda: stall.watch(in_slices(pieces), size)),
                        headers=headers,
                    ) as response,
                ):
                    answer = await whole(response)
            except Answered as error:
                if error.status == 400 and "hash" in error.message.lower():
                    return None
                raise
            return self._resource(answer, name)

    async def put_stream(
        self,
        name: str,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        metadata: ObjectMetadata,
        what: str,
    ) -> Resource:
        """As `put`, from blocks that are read once, `size` bytes in all."""
        opening = bodies.opening(bodies.resource(name, metadata), metadata.content_type)
        headers = {
            "Content-Type": bodies.RELATED_TYPE,
            "Content-Length": str(len(opening) + size + len(bodies.END)),
        }
        with self._errors(what, name):
            async with stalling() as stall:

                async def moving() -> AsyncIterator[bytes | memoryview]:
                    yield opening
                    async for block in blocks:
                        stall.progress()
                        yield block
                    stall.sent(size)
                    yield bodies.END

                async with self._http.request(
                    "POST", self._upload, body=moving, headers=headers, again=False
                ) as response:
                    answer = await whole(response)
            return self._resource(answer, name)

    async def compose(
        self, name: str, sources: Sequence[tuple[str, str]], metadata: ObjectMetadata
    ) -> Resource:
        """Put up to 32 objects, given by name and generation, together; they are gone afterwards.

        The service deletes them itself and for good, so that neither soft delete nor versioning keeps
        them. (fake-gcs-server does not know that, and leaves them.)
        """
        request = {
            "kind": "storage#composeRequest",
            "destination": bodies.resource(name, metadata),
            "sourceObjects": [
                {
                    "name": source,
                    "generation": generation,
                    "objectPreconditions": {"ifGenerationMatch": generation},
                }
                for source, generation in sources
            ],
            "deleteSourceObjects": True,
        }
        with self._errors("compose", name):
            answer = await self._http.call(
                "POST",
                URL(f"{self._url(name)}/compose?fields={OBJECT_FIELDS}", encoded=True),
                body=bodies.dumped(request),
                headers=_JSON,
                deadline_s=REWRITE_S,
            )
            return self._resource(answer, name)

    async def rewrite(
        self, name: str, version: str, new_name: str, metadata: ObjectMetadata
    ) -> Resource | None:
        """Copy this version inside the service; None when it is not there any more."""
        generation, _, metageneration = version.partition(".")
        asked = {
            "fields": f"done,rewriteToken,resource({OBJECT_FIELDS})",
            "ifSourceGenerationMatch": generation,
            "ifSourceMetagenerationMatch": metageneration,
        }
        there = bodies.object_path(self._name, new_name).removeprefix("/storage/v1")
        body = bodies.dumped(bodies.resource(new_name, metadata))
        with self._errors("copy", name):
            for _ in range(_MOST_CALLS):
                url = URL(f"{self._url(name)}/rewriteTo{there}?{urlencode(asked)}", encoded=True)
                answer = await self._conditional("POST", url, body, deadline_s=REWRITE_S)
                if answer is None:
                    return None
                value = self._json(answer)
                if value.get("done") is True:
                    return self._parsed(value.get("resource"), new_name)
                token = value.get("rewriteToken")
                if not isinstance(token, str) or not token:
                    raise NotGoogle("a copy that is not done and cannot be gone on with")
                asked["rewriteToken"] = token
        raise SinkUnavailable(f"{self._what('copy', name)}: it never comes to an end")

    async def patch(
        self, name: str, version: str, metadata: ObjectMetadata, before: Mapping[str, str]
    ) -> bool:
        """Change the metadata of this version in place; False when it is not there any more."""
        generation, _, metageneration = version.partition(".")
        conditions = {"ifGenerationMatch": generation, "ifMetagenerationMatch": metageneration}
        url = URL(f"{self._url(name)}?{urlencode(conditions)}&fields=name", encoded=True)
        body = bodies.dumped(bodies.patch(name, metadata, before))
        with self._errors("PATCH", name):
            answer = await self._conditional("PATCH", url, body)
            if answer is None:
                return False
            self._json(answer)
            return True

    async def _conditional(
        self, method: str, url: URL, body: bytes, *, deadline_s: float = CALL_S
    ) -> Answer | None:
        try:
            return await self._http.call(method, url, body=body, headers=_JSON, deadline_s=deadline_s)
        except Answered as error:
            if error.status == 412 or error.is_absent:
                return None
            raise

    # -- looking ----------------------------------------------------------------------------------

    async def head(self, name: str) -> Resource | None:
        """What is known of an object, None when it is absent."""
        url = URL(f"{self._url(name)}?fields={OBJECT_FIELDS}", encoded=True)
        with self._errors("look at", name):
            try:
                return self._resource(await self._http.call("GET", url), name)
            except Answered as error:
                if error.is_absent:
                    return None
                raise

    async def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes as they were put. Raises FileNotFoundError when there is no such object."""
        if length == 0:
            # There is no range of no bytes.
            if await self.head(name) is None:
                raise FileNotFoundError(name)
            return
        # Without this the service unpacks what was put with Content-Encoding: gzip.
        headers = {"Accept-Encoding": "gzip"}
        if offset or length is not None:
            headers["Range"] = bytes_range(offset, length)
        url = URL(f"{self._url(name)}?alt=media", encoded=True)
        with self._errors("GET", name):
            try:
                async with self._http.request("GET", url, headers=headers) as response:
                    if "Range" in headers and response.status != 206:
                        raise Unanswered(f"HTTP {response.status} where a range was asked for")
                    unpack = _unpacking(response, whole="Range" not in headers)
                    async for block in response.content.iter_any():
                        if data := unpack(block):
                            yield data
            except zlib.error:
                raise Unanswered("the bytes cannot be unpacked") from None
            except Answered as error:
                if error.status == 416:
                    return
                if error.is_absent:
                    raise FileNotFoundError(name) from None
                raise

    async def page(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Listing:
        """One page of a listing, whose names all begin with `prefix`; `after` itself may be in it."""
        asked = {
            "prefix": prefix,
            "maxResults": str(limit),
            "fields": f"kind,prefixes,nextPageToken,items({OBJECT_FIELDS})",
        }
        for key, value in (("pageToken", token), ("startOffset", after), ("delimiter", delimiter)):
            if value:
                asked[key] = value
        with self._errors("list", prefix):
            url = URL(f"{self._objects}?{urlencode(asked)}", encoded=True)
            answer = await self._http.call("GET", url, most_bytes=_MOST_PAGE_BYTES)
            try:
                listing = parse_listing(answer.body)
            except NotGoogle:
                raise not_google(answer.status, answer.content_type) from None
        names = [*(found.name for found in listing.objects), *listing.prefixes]
        if not all(name.startswith(prefix) for name in names):
            raise SinkUnavailable(f"{self._what('list', prefix)}: the answer names objects of another prefix")
        return listing

    # -- deleting ---------------------------------------------------------------------------------

    async def delete(self, name: str) -> None:
        """Remove one object. Absent is fine."""
        with self._errors("DELETE", name):
            try:
                await self._http.call("DELETE", URL(self._url(name), encoded=True))
            except Answered as error:
                if not error.is_absent:
                    raise

    async def delete_batch(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """Remove up to 100 objects; returns what failed, None where the endpoint knows no batches."""
        with self._errors(f"delete {len(names)} objects from", names[0]):
            try:
                answer = await self._http.call(
                    "POST",
                    self._batch,
                    body=bodies.deletes(self._name, names),
                    headers={"Content-Type": bodies.MIXED_TYPE},
                    most_bytes=8 << 20,
                )
            except Answered as error:
                # The endpoint of batches is not part of the bucket.
                if error.status in (404, 405, 501):
                    return None
                raise
            answers = parse_batch(answer.content_type, answer.body)
        failed: dict[str, SinkError] = {}
        for number, name in enumerate(names):
            status, body = answers.get(number, (0, b""))
            if 200 <= status < 300:
                continue
            refusal = parse_refusal(status, body) if status else Unanswered("no answer in the batch")
            if isinstance(refusal, Unanswered) or not refusal.is_absent:
                failed[name] = classify(refusal, self._what("DELETE", name))
        return failed

    # -- answers and errors -----------------------------------------------------------------------

    def _url(self, name: str) -> str:
        return self._endpoint + bodies.object_path(self._name, name)

    def _json(self, answer: Answer) -> dict[str, object]:
        try:
            return parse_json(answer.body)
        except NotGoogle:
            raise not_google(answer.status, answer.content_type) from None

    def _resource(self, answer: Answer, name: str) -> Resource:
        return self._parsed(self._json(answer), name)

    def _parsed(self, value: object, name: str) -> Resource:
        found = parse_resource(value)
        if found.name != name:
            raise NotGoogle("the answer describes another object")
        return found

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except (Answered, Unanswered) as error:
            raise classify(error, self._what(verb, name)) from error.__cause__
        except NotGoogle as error:
            raise SinkUnavailable(f"{self._what(verb, name)}: {error}") from error

    def _what(self, verb: str, name: str) -> str:
        return f"gcs:{self._name}: {verb} {shown(name)}"


def _unpacking(response: aiohttp.ClientResponse, *, whole: bool) -> Callable[[bytes], bytes]:
    """What gives back the stored bytes: the service may pack on the way, and must not unpack."""
    sent = response.headers.get("Content-Encoding", "").lower()
    stored = response.headers.get("X-Goog-Stored-Content-Encoding", sent).lower()
    if "gzip" in stored and "gzip" not in sent:
        raise Unanswered("the service has unpacked the bytes that were stored")
    if "gzip" in stored or "gzip" not in sent:
        return bytes
    if not whole:
        raise Unanswered("a range of packed bytes where stored ones were asked for")
    return zlib.decompressobj(31).decompress


def _small(stall: Stall, pieces: Sequence[bytes], size: int) -> bytes:
    """A body that is sent in one go; empty when it is too large for that."""
    if size > SLICE_BYTES:
        return b""
    stall.sent(size)
    return b"".join(pieces)
