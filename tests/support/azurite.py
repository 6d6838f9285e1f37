"""A real Azurite on this machine: Microsoft's emulator of Azure Storage, and another client's look at it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from tests.support.ports import free_port

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the emulator's own account: public, the same everywhere."""
READY_WITHIN_S = 60.0
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
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"azurite does not start: {self.log()}")
            time.sleep(0.05)
        return self

    def log(self) -> str:
        """The last of what it has said."""
        return (self._directory / "azurite.log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """At once: nothing of a test is worth a slow stop."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)
        self.process = None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"/{ACCOUNT}?comp=list")
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()


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


async def rclone(server: AzuriteServer, *arguments: str) -> str:
    """Run rclone with a remote `azure:` on the server; returns what it printed."""
    beside = Path(sys.executable).with_name("rclone")
    environment = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_AZURE_TYPE": "azureblob",
        "RCLONE_CONFIG_AZURE_ACCOUNT": ACCOUNT,
        "RCLONE_CONFIG_AZURE_KEY": KEY,
        "RCLONE_CONFIG_AZURE_ENDPOINT": server.blob_endpoint,
        "HOME": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(
        str(beside if beside.exists() else "rclone"),
        *arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
