"""One bucket of Backblaze B2, on its native API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable, Unreadable, UsageError
from filerbackup.settings.model import BackblazeSettings
from filerbackup.sinks.backblaze.account import Account
from filerbackup.sinks.backblaze.answers import (
    Version,
    check_stored,
    found_of,
    parse_head,
    parse_version,
    parse_versions,
)
from filerbackup.sinks.backblaze.api import Api, tls_context
from filerbackup.sinks.backblaze.dialect import DIALECT, WHOLE_SHA1, file_info, own_info
from filerbackup.sinks.backblaze.errors import Answered, classify
from filerbackup.sinks.backblaze.large import COPY_S, LargeFiles
from filerbackup.sinks.backblaze.names import MOST_NAME_BYTES, can_exist, check_name, first_behind
from filerbackup.sinks.backblaze.uploads import Uploads, digests
from filerbackup.sinks.backblaze.versions import Versions
from filerbackup.sinks.base import OWN_PREFIX
from filerbackup.sinks.keys import shown
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import CALL_S, bytes_range
from filerbackup.sinks.objects.store import Head, Page, Part, Traits

TRAITS = Traits(
    kind="backblaze",
    dialect=DIALECT,
    most_name_bytes=MOST_NAME_BYTES,
    smallest_part=5_000_000,
    largest_part=5_000_000_000,
    largest_object=10_000_000_000_000,
    largest_put=5_000_000_000,
    part_hash="sha1",
    delete_lanes=16,
    directory_objects=False,
)
_DEFAULT_CONCURRENCY = 64
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class _Open:
    """What there is between `open` and `close`."""

    def __init__(self, account: Account, api: Api, *, secure: bool) -> None:
        self.account, self.api = account, api
        self.uploads = Uploads(api, secure=secure)
        self.large = LargeFiles(api, self.uploads)
        self.versions = Versions(api)
        self.may_remove = "deleteFiles" in account.grant.capabilities
        self.room_bytes = account.room_bytes

    async def close(self) -> None:
        await self.api.close()
        await self.account.close()


class B2Store:
    """Satisfies `Store`. What B2 has confirmed is durable.

    Deleting hides a file and keeps its versions, unless `hard_delete` is set; what is filerbackup's
    own is always removed for good, so that its many versions do not pile up. Raises UsageError.
    """

    def __init__(self, settings: BackblazeSettings) -> None:
        if not settings.bucket:
            raise UsageError(f"[sink.{settings.name}] has no `bucket`")
        self._settings = settings
        self._prefix = "".join(f"{part}/" for part in settings.directory.split("/") if part)
        self._own_prefix = f"{self._prefix}{OWN_PREFIX}/"
        self._opened: _Open | None = None
        self._drop_level = logging.WARNING
        self.label = f"backblaze:{settings.bucket}"
        self.traits = TRAITS

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self) -> None:
        """See the protocol."""
        await self.close()
        settings = self._settings
        account = Account(settings)
        try:
            await account.open(self._prefix)
            tls = await asyncio.to_thread(tls_context)
        except OSError as error:
            await account.close()
            raise SinkRefused(f"{self.label}: REQUESTS_CA_BUNDLE cannot be read: {error.strerror}") from None
        except BaseException:
            await account.close()
            raise
        lanes = settings.concurrency or _DEFAULT_CONCURRENCY
        api = Api(account, connections=lanes * (settings.part_concurrency + 1), tls=tls)
        self._opened = _Open(account, api, secure=not settings.endpoint.startswith("http:"))

    async def close(self) -> None:
        """See the protocol."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def tells_md5(self, *, in_parts: bool) -> bool:
        """B2 checks by SHA-1, and HEAD knows no MD5: it is kept with the file."""
        return False

    # -- whole objects ----------------------------------------------------------------------------

    async def put(self, name: str, data: bytes, metadata: ObjectMetadata, md5: bytes = b"") -> None:
        """See the protocol. The service refuses what does not have the SHA-1 that goes with it."""
        at = self._at()
        check_name(name)
        sha1, actual = await digests(data, with_md5=bool(md5))
        if md5 and actual != md5:
            raise Unreadable(f"the content of {shown(name)} does not have the MD5 that the source gives")

        async def send(info: Mapping[str, str]) -> Version:
            headers = {
                "X-Bz-File-Name": quote(name),
                "Content-Type": metadata.content_type,
                "X-Bz-Content-Sha1": sha1,
            }
            for key, value in info.items():
                headers[f"X-Bz-Info-{key}"] = quote(value)
            return parse_version(await at.uploads.file(headers, data))

        with self._errors("PUT", name, of_object=True):
            version = await self._with_info(at, name, metadata, send)
            await self._check(at, version, name, len(data), sha1)
            await self._tidy(at, name, version)

    async def head(self, name: str) -> Head | None:
        """See the protocol."""
        at = self._at()
        if not can_exist(name):
            return None
        with self._errors("HEAD", name):
            try:
                async with asyncio.timeout(CALL_S), at.api.download("HEAD", self._path(name)) as response:
                    return parse_head(name, response.headers)
            except Answered as error:
                # 400: a name that the service refuses is the name of nothing.
                if error.status in (400, 404):
                    return None
                raise

    async def get(self, name: str, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the protocol."""
        at = self._at()
        if length == 0 or not can_exist(name):
            # There is no range of no bytes.
            if await self.head(name) is None:
                raise FileNotFoundError(name)
            return
        headers = {}
        if offset or length is not None:
            headers["Range"] = bytes_range(offset, length)
        with self._errors("GET", name):
            try:
                async with at.api.download("GET", self._path(name), headers) as response:
                    if headers and response.status != 206:
                        raise Unanswered(f"HTTP {response.status} where a range was asked for")
                    async for block in response.content.iter_any():
                        yield block
            except Answered as error:
                if error.status == 416:
                    return
                if error.status == 404 and error.code == "not_found":
                    raise FileNotFoundError(name) from None
                raise

    async def page(
        self, prefix: str, *, after: str = "", token: str = "", delimiter: str = "", limit: int = 1000
    ) -> Page:
        """See the protocol: a page of b2_list_file_names, which shows nothing that is hidden."""
        at = self._at()
        start = token or first_behind(prefix, after)
        if start is None:
            return Page([], [], truncated=False, token="")
        with self._errors("list", prefix):
            answer = await at.api.call(
                "b2_list_file_names",
                {
                    "bucketId": at.account.bucket_id,
                    "prefix": prefix,
                    "startFileName": start or None,
                    "delimiter": delimiter or None,
                    "maxFileCount": limit,
                },
            )
            listed = parse_versions(answer)
            if not all(each.name.startswith(prefix) for each in listed):
                raise Unanswered("the answer names objects of another prefix")
            following = answer.get("nextFileName")
            if following is not None and (not isinstance(following, str) or following <= start):
                raise Unanswered("the listing does not move on")
        found = [
            found_of(each, DIALECT.md5) for each in listed if each.action == "upload" and each.name > after
        ]
        folders = [each.name for each in listed if each.action == "folder"]
        return Page(found, folders, following is not None, following or "")

    async def delete(self, name: str) -> None:
        """See the protocol."""
        at = self._at()
        if not can_exist(name):
            return
        with self._errors("DELETE", name):
            if self._is_kept_once(at, name):
                try:
                    await at.versions.remove_all(name)
                    return
                except Answered as error:
                    # A lock on the file forbids it until it runs out.
                    if error.code != "access_denied":
                        raise
            await at.versions.hide(name)

    async def delete_bulk(self, names: Sequence[str]) -> dict[str, SinkError] | None:
        """B2's native API has no such call."""
        return None

    async def copy(self, head: Head, name: str, metadata: ObjectMetadata) -> bool:
        """See the protocol. The source is named by its id, so that it is what `head` describes."""
        at = self._at()
        check_name(name)

        async def send(info: Mapping[str, str]) -> Version:
            whole = {WHOLE_SHA1: head.user[WHOLE_SHA1]} if WHOLE_SHA1 in head.user and len(info) < 10 else {}
            info = {**info, **whole}
            if head.size > TRAITS.largest_put:
                return await at.large.copy(head.etag, head.size, name, metadata.content_type, info)
            answer = await at.api.call(
                "b2_copy_file",
                {
                    "sourceFileId": head.etag,
                    "fileName": name,
                    "metadataDirective": "REPLACE",
                    "contentType": metadata.content_type,
                    "fileInfo": info,
                },
                deadline_s=COPY_S,
            )
            return parse_version(answer)

        with self._errors("copy to", name):
            try:
                version = await self._with_info(at, name, metadata, send)
            except Answered as error:
                # A refusal of the request too: then the bytes have to go up again.
                if error.is_gone or error.is_request or error.code == "source_too_large":
                    return False
                raise
            await self._check(at, version, name, head.size)
            await self._tidy(at, name, version)
        return True

    # -- objects in parts -------------------------------------------------------------------------

    async def begin_upload(self, name: str, metadata: ObjectMetadata) -> str:
        """See the protocol."""
        at = self._at()
        check_name(name)
        with self._errors("begin upload of", name, of_object=True):
            return await self._with_info(
                at, name, metadata, lambda info: at.large.begin(name, metadata.content_type, info)
            )

    async def put_part(
        self,
        name: str,
        upload_id: str,
        number: int,
        size: int,
        blocks: AsyncIterator[bytes | memoryview],
        digest: Callable[[], bytes],
    ) -> Part:
        """See the protocol."""
        at = self._at()
        with self._errors(f"PUT part {number} of", name):
            return await at.large.put_part(upload_id, number, size, blocks, digest)

    async def complete_upload(
        self,
        name: str,
        upload_id: str,
        parts: Sequence[Part],
        metadata: ObjectMetadata,
    ) -> None:
        """See the protocol."""
        at = self._at()
        with self._errors("complete upload of", name):
            version = await at.large.finish(upload_id, parts)
            await self._check(at, version, name, sum(part.size for part in parts))
            await self._tidy(at, name, version)

    async def abort_upload(self, name: str, upload_id: str) -> None:
        """See the protocol."""
        at = self._at()
        with self._errors("abort upload of", name):
            await at.large.cancel(upload_id)

    async def open_uploads(self, name: str) -> list[str]:
        """See the protocol."""
        at = self._at()
        with self._errors("list uploads of", name):
            return await at.large.unfinished(name)

    async def sweep(self) -> None:
        """Nothing: a large file does not say whose it is."""

    # -- what is stored ---------------------------------------------------------------------------

    async def _with_info(
        self,
        at: _Open,
        name: str,
        metadata: ObjectMetadata,
        send: Callable[[Mapping[str, str]], Awaitable[_T]],
    ) -> _T:
        """Send with all info that has room; when the service refuses that, once more with only our own.

        It reads the values of `b2-content-disposition` and the like, and one that it does not
        understand must not cost the file.
        """
        info, left_out = file_info(name, metadata, at.room_bytes)
        if left_out:
            self._dropped(name, left_out)
        own = own_info(metadata)
        try:
            return await send(info)
        except Answered as error:
            if not error.is_request or info == own:
                raise
        sent = await send(own)
        self._dropped(name, sorted(info.keys() - own.keys()))
        return sent

    def _dropped(self, name: str, names: list[str]) -> None:
        level, self._drop_level = self._drop_level, logging.DEBUG
        _log.log(
            level,
            "metadata that the service cannot take is left out (more of it: at level debug)",
            extra={"key": name.removeprefix(self._prefix), "names": names},
        )

    async def _check(self, at: _Open, version: Version, name: str, size: int, sha1: str = "") -> None:
        """A wrong version is removed, and the one before it is current again. Raises Unanswered."""
        try:
            check_stored(version, name, size, sha1)
        except Unanswered:
            if version.file_id and version.name == name:
                await at.versions.remove(name, version.file_id)
            raise

    async def _tidy(self, at: _Open, name: str, version: Version) -> None:
        """Remove what was replaced, where it is not to be kept; what a lock holds has to stay."""
        if not self._is_kept_once(at, name):
            return
        try:
            await at.versions.remove_older(name, version.file_id)
        except Answered as error:
            if error.code != "access_denied":
                raise
            _log.debug("%s: an older version is locked", self.label, extra={"key": name})

    def _is_kept_once(self, at: _Open, name: str) -> bool:
        return self._settings.hard_delete or (at.may_remove and name.startswith(self._own_prefix))

    # -- errors -----------------------------------------------------------------------------------

    def _at(self) -> _Open:
        if self._opened is None:
            raise SinkUnavailable(f"{self.label}: not open")
        return self._opened

    def _path(self, name: str) -> str:
        return f"/file/{quote(self._settings.bucket)}/{quote(name)}"

    @contextmanager
    def _errors(self, verb: str, name: str, *, of_object: bool = False) -> Iterator[None]:
        try:
            yield
        except (Answered, Unanswered) as error:
            what = f"{self.label}: {verb} {shown(name)}"
            raise classify(error, what, of_object=of_object) from error.__cause__
        except TimeoutError:
            raise SinkUnavailable(f"{self.label}: {verb} {shown(name)}: no answer in time") from None
