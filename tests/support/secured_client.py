"""filerbackup against a secured SeaweedFS, with a security.toml of its own to get right or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from filerbackup.errors import FilerBackupError
from filerbackup.runtime.service import Outcome, Service
from filerbackup.settings.load import load_settings
from filerbackup.settings.model import Settings
from tests.support.certificates import Identity
from tests.support.configs import general, local_sink
from tests.support.secured_weed import FILER_READ_KEY, READ_KEY, SecuredWeed


@dataclass(frozen=True, slots=True)
class Security:
    """What security.toml says; empty and None leave a section out."""

    grpc_ca: Path | None = None
    grpc: Identity | None = None
    server_name: str = ""
    https: bool = False
    https_ca: Path | None = None
    https_own: Identity | None = None
    read_key: str = ""
    filer_key: str = ""

    def text(self) -> str:
        lines = ["[grpc]", f'ca = "{self.grpc_ca or ""}"', "[grpc.client]"]
        lines += [*_pair(self.grpc), f'server_name = "{self.server_name}"']
        lines += ["[https.client]", f"enabled = {str(self.https).lower()}", f'ca = "{self.https_ca or ""}"']
        lines += _pair(self.https_own)
        lines += ["[jwt.signing.read]", f'key = "{self.read_key}"']
        lines += ["[jwt.filer_signing.read]", f'key = "{self.filer_key}"']
        return "\n".join(lines) + "\n"


def right(weed: SecuredWeed) -> Security:
    """All that the cluster asks for, and no more."""
    asks, pki = weed.asks, weed.pki
    found = Security()
    if asks.grpc:
        found = replace(found, grpc_ca=pki.authority.ca, grpc=pki.client)
    if not asks.names:
        found = replace(found, server_name="filer01")
    if asks.https:
        found = replace(found, https=True, https_ca=pki.authority.ca)
    if asks.https_client:
        found = replace(found, https_own=pki.client)
    if asks.jwt:
        found = replace(found, read_key=READ_KEY, filer_key=FILER_READ_KEY)
    return found


class Client:
    """A configuration directory and a local sink."""

    def __init__(self, directory: Path, weed: SecuredWeed, path: str = "/data") -> None:
        self.directory, self.weed, self.path = directory, weed, path
        self.sink = directory / "copies"

    def settings(self, security: Security, *, sink: str = "", **more: object) -> Settings:
        """As the command would load them."""
        etc = self.directory / "etc"
        etc.mkdir(exist_ok=True)
        files = {
            "replication.toml": general(self.weed, self.path, **more) + (sink or local_sink(self.sink)),
            "security.toml": security.text(),
        }
        for name, text in files.items():
            (etc / name).write_text(text)
            (etc / name).chmod(0o600)
        return load_settings(config=str(etc), flags={}, environ={}, home=etc, cwd=etc, system=[])

    async def catch_up(
        self, security: Security, *, sink: str = "", read_via: str = "volume"
    ) -> Sequence[Outcome]:
        """What `filerbackup catchup` does."""
        settings = self.settings(security, sink=sink, read_via=read_via)
        async with asyncio.timeout(60):
            return await Service(settings, one_shot=True).run(asyncio.Event())

    async def problem(self, security: Security, *, read_via: str = "volume") -> FilerBackupError:
        """The error with which `catchup` ends; nothing was written."""
        with pytest.raises(FilerBackupError) as caught:
            await self.catch_up(security, read_via=read_via)
        assert self.written() == {}
        return caught.value

    def written(self) -> dict[str, bytes]:
        """Copies in the sink."""
        return {
            str(file.relative_to(self.sink)): file.read_bytes()
            for file in self.sink.rglob("*")
            if file.is_file() and ".filerbackup" not in file.parts
        }


def _pair(own: Identity | None) -> list[str]:
    return [f'cert = "{own.cert if own else ""}"', f'key = "{own.key if own else ""}"']
