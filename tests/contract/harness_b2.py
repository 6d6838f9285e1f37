"""The Backblaze B2 sink in the contract suite, on b2sdk's own simulator behind HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
from b2sdk import v3
from b2sdk.v3.exception import FileNotPresent

from filerbackup.settings.model import BackblazeSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.backblaze import backblaze_sink
from filerbackup.sinks.objects.sink import ObjectSink
from filerbackup.sinks.objects.times import parse_unix_seconds
from tests.contract.place import WRONG_KEY, Harness
from tests.support.b2 import BUCKET, Running

LINK = ".rclonelink"
OWN_INFO = {"src_last_modified_millis", "filerbackup"}


class B2Place:
    """A folder of a bucket, looked at with a plain b2sdk client."""

    def __init__(self, server: Running) -> None:
        self.endpoint = server.endpoint
        self._server = server
        self._folder = f"place-{secrets.token_hex(4)}"
        self._bucket = server.client().get_bucket_by_name(BUCKET)

    def settings(self, endpoint: str = "") -> BackblazeSettings:
        return BackblazeSettings(
            "backblaze",
            directory=f"/{self._folder}",
            bucket=BUCKET,
            endpoint=endpoint or self.endpoint,
            key_id=self._server.account_id,
            application_key=Secret(self._server.application_key),
            part_size_bytes=5 << 20,
        )

    def sink(self, endpoint: str = "") -> ObjectSink:
        return backblaze_sink(self.settings(endpoint))

    def with_wrong_key(self) -> ObjectSink:
        return backblaze_sink(dataclasses.replace(self.settings(), application_key=Secret(WRONG_KEY)))

    def without_bucket(self) -> ObjectSink:
        return backblaze_sink(dataclasses.replace(self.settings(), bucket="never-made"))

    async def content(self, key: str) -> bytes | None:
        return await asyncio.to_thread(self._content, f"{self._folder}/{key}")

    def _content(self, name: str) -> bytes | None:
        into = BytesIO()
        try:
            self._bucket.download_file_by_name(name).save(into)
        except FileNotPresent:
            return None
        return into.getvalue()

    async def keys(self) -> set[str]:
        names = await asyncio.to_thread(self._names)
        return {name.removesuffix(LINK) for name in names if not name.startswith(".filerbackup/")}

    def _names(self) -> list[str]:
        found = self._bucket.ls(self._folder, recursive=True)
        return [version.file_name[len(self._folder) + 1 :] for version, _ in found]

    async def mode(self, key: str) -> int | None:
        return int(self._own(await self._version(key), "mode"), 8) & 0o7777

    async def mtime_ns(self, key: str) -> int | None:
        version = await self._version(key)
        millis = int(version.file_info["src_last_modified_millis"])
        exact = parse_unix_seconds(self._own(version, "mtime"))
        if exact is None:
            return millis * 10**6
        assert exact // 10**6 == millis
        return exact

    async def symlink_target(self, key: str) -> str | None:
        target = await self.content(key + LINK)
        return None if target is None else target.decode()

    async def metadata(self, key: str) -> Mapping[str, str]:
        version = await self._version(key)
        info = {name: text for name, text in version.file_info.items() if name not in OWN_INFO}
        return {
            "content-type": version.content_type,
            **{
                name.removeprefix("b2-") if name.startswith("b2-") else f"meta:{name}": text
                for name, text in info.items()
            },
        }

    async def unfinished(self) -> set[str]:
        found = await asyncio.to_thread(lambda: list(self._bucket.list_unfinished_large_files()))
        return {each.file_name for each in found if each.file_name.startswith(f"{self._folder}/")}

    async def _version(self, key: str) -> v3.FileVersion:
        def look() -> v3.FileVersion:
            for name in (key, key + LINK):
                for version, _ in self._bucket.ls(f"{self._folder}/{name}"):
                    if version.file_name == f"{self._folder}/{name}":
                        return version
            raise KeyError(key)

        return await asyncio.to_thread(look)

    @staticmethod
    def _own(version: v3.FileVersion, name: str) -> str:
        found = re.search(rf"(?:^| ){name}=(\S*)", version.file_info["filerbackup"])
        return found[1] if found else ""


def _refuses(key: str) -> bool:
    """B2 takes no control characters."""
    return re.search(r"[\x00-\x1f\x7f]", key) is not None


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[B2Place]:
    yield B2Place(request.getfixturevalue("b2"))


HARNESS = Harness("b2", _place, refuses=_refuses, loses=frozenset({"tag"}))
