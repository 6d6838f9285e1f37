"""The Azure sink in the contract suite, on Azurite."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from filerbackup.settings.model import AzureSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.azure import azure_sink
from filerbackup.sinks.objects.sink import ObjectSink
from filerbackup.sinks.objects.times import parse_rfc3339
from tests.contract.place import WRONG_KEY, Harness
from tests.support.azurite import ACCOUNT, KEY, AzuriteServer, Peer, peer_of

CONTAINER = "contract"
LINK = ".rclonelink"
_OWN = {"mtime", "mode", "uid", "gid", "filerbackup_version"}


class AzurePlace:
    """A folder of a container, looked at with a plain SDK client."""

    def __init__(self, server: AzuriteServer, peer: Peer, folder: str) -> None:
        self.endpoint = server.endpoint
        self._peer = peer
        self._folder = folder

    def sink(self, endpoint: str = "") -> ObjectSink:
        return azure_sink(self.settings(endpoint))

    def settings(self, endpoint: str = "") -> AzureSettings:
        return AzureSettings(
            "azure",
            directory=f"/{self._folder}",
            container=CONTAINER,
            endpoint=f"{endpoint or self.endpoint}/{ACCOUNT}",
            account_name=ACCOUNT,
            account_key=Secret(KEY),
            part_size_bytes=5 << 20,
        )

    def with_wrong_key(self) -> ObjectSink:
        return azure_sink(replace(self.settings(), account_key=Secret(WRONG_KEY)))

    def without_bucket(self) -> ObjectSink:
        return azure_sink(replace(self.settings(), container="nobody-has-made-it"))

    async def content(self, key: str) -> bytes | None:
        return await self._peer.get(f"{self._folder}/{key}")

    async def keys(self) -> set[str]:
        names = {name[len(self._folder) + 1 :] for name in await self._peer.names(f"{self._folder}/")}
        return {name.removesuffix(LINK) for name in names if not name.startswith(".filerbackup/")}

    async def mode(self, key: str) -> int | None:
        return int((await self._properties(key)).metadata["mode"], 8) & 0o7777

    async def mtime_ns(self, key: str) -> int | None:
        return parse_rfc3339((await self._properties(key)).metadata["mtime"])

    async def symlink_target(self, key: str) -> str | None:
        target = await self.content(key + LINK)
        return None if target is None else target.decode()

    async def metadata(self, key: str) -> Mapping[str, str]:
        found = await self._properties(key)
        headers = found.content_settings
        kept = {
            "content-type": headers.content_type,
            "cache-control": headers.cache_control,
            "content-disposition": headers.content_disposition,
            "content-encoding": headers.content_encoding,
            "content-language": headers.content_language,
        }
        # The service's names are C# identifiers: "-" has become "_".
        user = {
            f"meta:{name.replace('_', '-')}": value
            for name, value in found.metadata.items()
            if name not in _OWN
        }
        tags = {f"tag:{name}": value for name, value in (await self._peer.tags(found.name)).items()}
        return {name: value for name, value in kept.items() if value} | user | tags

    async def unfinished(self) -> set[str]:
        """Blocks that no list names: the service forgets them, and no call could be rid of them."""
        return set()

    async def _properties(self, key: str) -> Any:
        for name in (key, key + LINK):
            try:
                return await self._peer.properties(f"{self._folder}/{name}")
            except ResourceNotFoundError:
                continue
        raise KeyError(key)


@asynccontextmanager
async def _place(request: pytest.FixtureRequest, _directory: Path) -> AsyncIterator[AzurePlace]:
    server = request.getfixturevalue("azurite")
    async with peer_of(server, CONTAINER) as peer:
        yield AzurePlace(server, peer, f"place-{secrets.token_hex(4)}")


HARNESS = Harness(
    "azure",
    _place,
    refuses=lambda key: "\\" in key,
    loses=frozenset({"expires"}),
    # Azurite cannot list what XML cannot hold; Azure itself writes such names encoded.
    garbles="\uffff",
)
