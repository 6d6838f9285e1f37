"""A real Azurite on this machine: Microsoft's emulator of Azure Storage, and another client's look at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from tests.support.ports import free_port
from tests.support.ready import http_status, wait_until_ready

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the emulator's own account: public, the same everywhere."""
_PROJECT = Path(__file__).resolve().parents[2]


def azurite_binary() -> str | None:
    """`azurite-blob`: where $AZURITE says, on the PATH, or where `make` has put it."""
    beside = _PROJECT / ".node" / "node_modules" / ".bin" / "azurite-blob"
    named = os.environ.get("AZURITE", "")
    return named or shutil.which("azurite-blob") or (str(beside) if beside.exists() else None)


def azurite_or_skip() -> str:
    """The binary; without one the test is skipped, but never where $CI is set."""
    found = azurite_binary()
    if found is None:
        reason = "no azurite-blob: npm install --prefix .node azurite, or set AZURITE"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class AzuriteServer:
    """One `azurite-blob` that keeps everything in memory."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary, self._directory = binary, directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def blob_endpoint(self) -> str:
        """The blob service of the account."""
        return f"{self.endpoint}/{ACCOUNT}"

    def start(self) -> AzuriteServer:
        """Start and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [
            self._binary, "--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry",
            "--blobHost", "127.0.0.1", "--blobPort", str(self.port),
        ]  # fmt: skip
        with (self._directory / "azurite.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)
        wait_until_ready(self.process, self._answers, log=self._directory / "azurite.log")
        return self

    def kill(self) -> None:
        """At once: nothing of a test is worth a slow stop."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)
        self.process = None

    def _answers(self) -> bool:
        return http_status(self.port, f"/{ACCOUNT}?comp=list") < 500


@contextlib.contextmanager
def running_azurite(directory: Path) -> Iterator[AzuriteServer]:
    """An Azurite that is ready, killed at the end; skips where there is none."""
    server = AzuriteServer(azurite_or_skip(), directory)
    try:
        yield server.start()
    finally:
        server.kill()


class Peer:
    """Another client of one container: the plain SDK with its own settings."""

    def __init__(self, client: ContainerClient) -> None:
        self.client = client

    async def put(self, name: str, data: bytes = b"", **options: Any) -> None:
        await self.client.upload_blob(name, data, overwrite=True, **options)

    async def get(self, name: str) -> bytes | None:
        try:
            return await (await self.client.download_blob(name)).readall()
        except ResourceNotFoundError:
            return None

    async def properties(self, name: str) -> Any:
        """Headers and metadata; raises ResourceNotFoundError."""
        return await self.client.get_blob_client(name).get_blob_properties()

    async def tags(self, name: str) -> dict[str, str]:
        return dict(await self.client.get_blob_client(name).get_blob_tags())

    async def names(self, prefix: str = "", include: list[str] | None = None) -> set[str]:
        found = self.client.list_blobs(name_starts_with=prefix, include=include or [])
        return {blob.name async for blob in found}


@asynccontextmanager
async def peer_of(server: AzuriteServer, container: str) -> AsyncIterator[Peer]:
    """A peer on a container, which is made when it is not there."""
    service = BlobServiceClient(
        server.blob_endpoint,
        credential={"account_name": ACCOUNT, "account_key": KEY},
        api_version="2023-11-03",
    )
    async with service:
        client = service.get_container_client(container)
        with contextlib.suppress(ResourceExistsError):
            await client.create_container()
        yield Peer(client)
