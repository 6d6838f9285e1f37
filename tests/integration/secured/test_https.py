"""HTTPS for volume servers and filer, without client certificates; gRPC is plain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from filerbackup.errors import FilerBackupError, SourceRefused
from filerbackup.filer.client import FilerClient
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.volumes import Volumes
from tests.integration.secured.conftest import Tree
from tests.support.certificates import Identity
from tests.support.eventually import eventually
from tests.support.secured_client import Client, right
from tests.support.secured_weed import Asks

ASKS = Asks(https=True)


@pytest.mark.parametrize("read_via", ["volume", "filer"])
async def test_a_tree_is_copied(client: Client, tree: Tree, read_via: str) -> None:
    (outcome,) = await client.catch_up(right(client.weed), read_via=read_via)
    assert outcome.error is None
    assert client.written() == tree


async def test_tls_towards_a_filer_without_it(client: Client) -> None:
    pki = client.weed.pki
    said = await client.problem(replace(right(client.weed), grpc_ca=pki.authority.ca, grpc=pki.client))
    assert isinstance(said, SourceRefused)
    assert "it does not speak TLS" in str(said)
    assert "leave out cert and key of [grpc.client]" in said.hint


async def test_certificates_of_servers_that_are_not_good(client: Client) -> None:
    weed, authority = client.weed, client.weed.pki.authority
    cases = [
        (authority.issue("ended", ended=True), "certificate has expired", "renew cert of [https.volume]"),
        (authority.issue("elsewhere", hosts=("elsewhere",)), "mismatch", "must name the host under which"),
        (weed.pki.other.issue("imposter"), "unable to get local issuer", "set ca of [https.client]"),
    ]
    try:
        for identity, message, hint in cases:
            said = await _said_of(client, identity, message)
            assert isinstance(said, SourceRefused)
            assert hint in said.hint
    finally:
        weed.serve(weed.pki.server)


async def _said_of(client: Client, served: Identity, message: str) -> FilerBackupError:
    """The error, once the servers show this certificate."""
    client.weed.serve(served)
    found: list[FilerBackupError] = []

    async def says() -> bool:
        try:
            await _read(client)
        except FilerBackupError as error:
            found.append(error)
            return message in str(error)
        return False

    await eventually(says)
    return found[-1]


async def _read(client: Client) -> None:
    settings = client.settings(right(client.weed))
    filer = FilerClient(settings.source.filers)
    volumes = Volumes(filer.lookup_volumes, security=settings.security)
    try:
        entry = await filer.lookup("/data", "large")
        assert entry is not None
        await volumes.try_out(chunk_from_pb(entry.chunks[0]).file_id)
    finally:
        await volumes.close()
        await filer.close()
