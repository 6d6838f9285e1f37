"""The calls on one container, each with a deadline; what they raise is `Answered` and `Unanswered`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from filerbackup.sinks.azure.answers import Blob, NotAzure, md5_of_header, parse_batch, parse_blob, parse_page
from filerbackup.sinks.azure.batch import DELETE_HEADERS, batch_body
from filerbackup.sinks.azure.errors import Answered
from filerbackup.sinks.azure.http import ContainerHttp
from filerbackup.sinks.azure.signing import Signer
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import CALL_S, bytes_range, read_body, stalling
from filerbackup.sinks.objects.store import Page

COMPLETE_S = 600.0
"""Putting many blocks together takes the service some time."""
_MOST_PAGE_BYTES = 64 << 20
_MOST_EMPTY_PAGES = 100_000
"""In a row, with what comes before the name that a page begins behind."""
_MOST_BATCH_BYTES = 4 << 20
_NO_BATCH = frozenset(
    {"InvalidInput", "UnsupportedHttpVerb", "InvalidQueryParameterValue", "UnsupportedQueryParameter",
     "FeatureNotSupported", "NotImplemented"}
)  # fmt: skip


class Container:
    """Raises Answered, Unanswered, NotAzure, TimeoutError."""

    def __init__(self, http: ContainerHttp, signer: Signer) -> None:
        self._http, self._signer = http, signer

    def url(self, name: str) -> str:
        """The whole URL of a blob, encoded."""
        return self._http.url(name)

    # -- writing ----------------------------------------------------------------------------------

    async def put_blob(self, name: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        """Put Blob; returns the MD5 of what the service has stored, where it says."""
        async with (
            stalling() as stall,
            self._http.request(
                "PUT", name, headers=headers, body=data, good=(201,), watched=stall
            ) as response,
        ):
            return md5_of_header(response.headers.get("Content-MD5"))

    async def put_block(
        self,
        name: str,
        tag: str,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        headers: Mapping[str, str],
    ) -> None:
        """Put Block, of `size` bytes that come in blocks."""
        query = {"comp": "block", "blockid": tag}
        async with (
            stalling() as stall,
            self._http.request(
                "PUT",
                name,
                query=query,
                headers=headers,
                blocks=stall.watch(blocks, size),
                size=size,
                good=(201,),
            ),
        ):
            return

    async def put_block_list(self, name: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Put Block List: the blob appears."""
        async with (
            asyncio.timeout(COMPLETE_S),
            self._http.request(
                "PUT", name, query={"comp": "blocklist"}, headers=headers, body=body, good=(201,)
            ),
        ):
            return

    # -- looking ----------------------------------------------------------------------------------

    async def look(self, name: str) -> Blob | None:
        """Get Blob Properties, None when there is no such blob."""
        try:
            async with asyncio.timeout(CALL_S), self._http.request("HEAD", name) as response:
                return parse_blob(name, response.headers)
        except Answered as error:
            if is_absent(error):
                return None
            raise

    async def get(self, name: str, offset: int, length: int | None) -> AsyncGenerator[bytes, None]:
        """Get Blob; beyond the end there are no bytes. Raises FileNotFoundError."""
        headers = {}
        if offset or length is not None:
            headers["range"] = bytes_range(offset, length)
        good = (206,) if headers else (200,)
        try:
            async with self._http.request("GET", name, headers=headers, good=good) as response:
                async for block in response.content.iter_any():
                    yield block
        except Answered as error:
            if error.status == 416:
                return
            if is_absent(error):
                raise FileNotFoundError(name) from None
            raise

    async def page(self, prefix: str, *, after: str, token: str, delimiter: str, limit: int) -> Page:
        """List Blobs: at least one name behind `after`, or the end.

        The service cannot begin behind a name: what comes before is read and left out.
        """
        query = {"restype": "container", "comp": "list", "include": "metadata", "maxresults": str(limit)}
        for key, value in (("prefix", prefix), ("delimiter", delimiter), ("marker", token)):
            if value:
                query[key] = value
        for _ in range(_MOST_EMPTY_PAGES):
            async with asyncio.timeout(CALL_S), self._http.request("GET", query=query) as response:
                page = parse_page(await read_body(response, _MOST_PAGE_BYTES), prefix)
            objects = [found for found in page.objects if found.name > after]
            prefixes = [name for name in page.prefixes if name > after or after.startswith(name)]
            # A page can be empty and have another one behind it.
            if objects or prefixes or not page.truncated:
                return Page(objects, prefixes, page.truncated, page.token)
            if query.get("marker") == page.token:
                break
            query["marker"] = page.token
        raise Unanswered("the listing does not go on")

    # -- deleting ---------------------------------------------------------------------------------

    async def delete(self, name: str) -> None:
        """Delete Blob, with its snapshots. Absent is fine."""
        try:
            async with (
                asyncio.timeout(CALL_S),
                self._http.request("DELETE", name, headers=DELETE_HEADERS, good=(202,)),
            ):
                return
        except Answered as error:
            if not is_nothing(error):
                raise

    async def delete_batch(self, names: Sequence[str]) -> dict[int, Answered | None] | None:
        """Blob Batch: what became of each name, by its index; None when the service has no batches."""
        boundary = f"batch_{secrets.token_hex(16)}"
        headers = {"content-type": f"multipart/mixed; boundary={boundary}"}
        query = {"restype": "container", "comp": "batch"}
        try:
            async with asyncio.timeout(CALL_S):
                body = await batch_body(boundary, [self._http.path(name) for name in names], self._signer)
                async with self._http.request(
                    "POST", query=query, headers=headers, body=body, good=(202,)
                ) as response:
                    kind = response.headers.get("Content-Type", "")
                    parts = parse_batch(kind, await read_body(response, _MOST_BATCH_BYTES))
            if parts.keys() == {-1}:
                # One answer for all: the batch itself was refused.
                raise Answered(*parts[-1])
        except Answered as error:
            if error.code in _NO_BATCH or error.status in (405, 501):
                return None
            raise
        if not parts.keys() <= set(range(len(names))):
            raise NotAzure("the answer to a batch names what was not in it")
        answers = {number: Answered(*part) for number, part in parts.items()}
        return {
            number: None if answer.status == 202 or is_nothing(answer) else answer
            for number, answer in answers.items()
        }

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def is_absent(error: Answered) -> bool:
    """Whether there is no such blob. An answer to HEAD may come without a code."""
    return error.status == 404 and error.code in ("", "BlobNotFound")


def is_nothing(error: Answered) -> bool:
    """Whether a delete finds nothing: no blob, or a directory that is none of ours to remove."""
    return is_absent(error) or error.code == "DirectoryIsNotEmpty"
