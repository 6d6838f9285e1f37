"""gRPC with mutual TLS, HTTPS with client certificates, and tokens for volume servers and filers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from filerbackup.errors import SinkRefused, SourceRefused
from filerbackup.settings.model import FilerSinkSettings
from filerbackup.sinks.filer import FilerSink
from tests.integration.secured.conftest import Tree
from tests.support.certificates import Identity
from tests.support.configs import sink
from tests.support.secured_client import Client, right
from tests.support.secured_weed import Asks

ASKS = Asks(grpc=True, https=True, https_client=True, jwt=True)


@pytest.mark.parametrize("read_via", ["volume", "filer"])
async def test_a_tree_is_copied(client: Client, tree: Tree, read_via: str) -> None:
    (outcome,) = await client.catch_up(right(client.weed), read_via=read_via)
    assert outcome.error is None
    assert client.written() == tree


async def test_another_folder_of_the_secured_cluster_as_a_sink(client: Client, tree: Tree) -> None:
    target = sink("filer", grpcAddress=client.weed.filer_grpc, directory="/copy", part_size="1MiB")
    (outcome,) = await client.catch_up(right(client.weed), sink=target)
    assert outcome.error is None
    # A second cluster of the same security is read back the way it was written.
    back = Client(client.directory, client.weed, "/copy")
    await back.catch_up(right(client.weed))
    assert back.written() == tree


@pytest.mark.parametrize(
    ("what", "code", "message", "hint"),
    [
        ("token", 1, "answers 401", "jwt.signing.read.key in security.toml must be that of the cluster"),
        ("authority", 1, "its certificate is not from the authority", "set ca of [grpc] in security.toml to"),
        ("pair", 2, "is not the key of", "must be a pair, made together"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_line_and_what_to_do_in_another(
    client: Client, what: str, code: int, message: str, hint: str
) -> None:
    good, pki = right(client.weed), client.weed.pki
    wrong = {
        "token": replace(good, read_key="another key"),
        "authority": replace(good, grpc_ca=pki.other.ca),
        "pair": replace(good, grpc=Identity(pki.client.cert, pki.server.key)),
    }[what]
    client.settings(wrong)
    command = [sys.executable, "-m", "filerbackup", "catchup", "--config", str(client.directory / "etc")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    said = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(said) == 2, done.stderr
    assert said[0].startswith("filerbackup: ")
    assert message in said[0]
    assert said[1].startswith("  hint: ")
    assert hint in said[1]
    assert "another key" not in done.stdout + done.stderr
    assert client.written() == {}


async def test_wrong_keys(client: Client) -> None:
    good = right(client.weed)
    cases = {
        "volume": (replace(good, read_key="other"), "jwt.signing.read.key in security.toml must be"),
        "volume ": (replace(good, read_key=""), "set jwt.signing.read.key"),
        "filer": (replace(good, filer_key="other"), "jwt.filer_signing.read.key in security.toml must be"),
        "filer ": (replace(good, filer_key=""), "set jwt.filer_signing.read.key"),
    }
    for via, (security, hint) in cases.items():
        said = await client.problem(security, read_via=via.strip())
        assert isinstance(said, SourceRefused), via
        assert "answers 401" in str(said)
        assert hint in said.hint


async def test_certificates_of_the_client_that_grpc_does_not_take(client: Client) -> None:
    good, pki = right(client.weed), client.weed.pki
    stranger = pki.other.issue("stranger")
    cases = [
        (replace(good, grpc_ca=pki.other.ca), "not from the authority in", "set ca of [grpc]"),
        (
            replace(good, grpc=stranger),
            "refuses our certificate 'stranger', issued by 'other-authority'",
            "[grpc",
        ),
        (replace(good, grpc=None, grpc_ca=None), "speaks TLS, and no certificate", "set ca of [grpc]"),
    ]
    for security, message, hint in cases:
        said = await client.problem(security)
        assert (type(said), said.exit_code) == (SourceRefused, 1)
        assert message in str(said)
        assert hint in said.hint


async def test_certificates_of_the_client_that_volume_servers_do_not_take(client: Client) -> None:
    good, pki = right(client.weed), client.weed.pki
    stranger = pki.other.issue("stranger")
    cases = [
        (replace(good, https_ca=pki.other.ca), "TLS: ", "set ca of [https.client]"),
        (replace(good, https_own=None), "certificate required", "set cert and key of [https.client]"),
        (replace(good, https_own=stranger), "unknown ca", "set cert and key of [https.client]"),
        (replace(good, https=False), "speaks TLS only", "enabled = true"),
    ]
    for via in ("volume", "filer"):
        for security, message, hint in cases:
            said = await client.problem(security, read_via=via)
            assert isinstance(said, SourceRefused), (via, security)
            assert message in str(said)
            assert hint in said.hint


async def test_a_sink_says_what_its_cluster_does_not_take(client: Client) -> None:
    good, pki = right(client.weed), client.weed.pki
    stranger = pki.other.issue("stranger")
    cases = [
        (replace(good, grpc=None, grpc_ca=None), "speaks TLS, and no certificate", "set ca of [grpc]"),
        (replace(good, grpc=stranger), "refuses our certificate 'stranger'", "cert of [grpc.client]"),
        (replace(good, https=False), "400", "enabled = true"),
        (replace(good, https_own=None), "certificate required", "set cert and key of [https.client]"),
        (replace(good, https_own=stranger), "unknown ca", "set cert and key of [https.client]"),
        (replace(good, https_ca=pki.other.ca), "TLS: ", "set ca of [https.client]"),
        (replace(good, read_key="wrong"), "401", "jwt.signing.read.key"),
    ]
    target = FilerSinkSettings("filer", directory="/target", grpc_address=client.weed.filer_grpc)
    for security, message, hint in cases:
        refused = FilerSink(target, client.settings(security).security)
        with pytest.raises(SinkRefused) as caught:
            await refused.open()
        assert message in str(caught.value)
        assert hint in caught.value.hint
        await refused.close()


async def test_a_sink_outlives_an_exchange_of_its_certificate(client: Client) -> None:
    """Opened again in the middle of it, it is refused; it is well afterwards."""
    pki, own = client.weed.pki, Identity(client.directory / "own.crt", client.directory / "own.key")
    shutil.copy(pki.client.cert, own.cert)
    shutil.copy(pki.client.key, own.key)
    security = replace(right(client.weed), grpc=own, https_own=own)
    target = FilerSinkSettings("filer", directory="/exchanged", grpc_address=client.weed.filer_grpc)
    sink = FilerSink(target, client.settings(security).security)
    try:
        await sink.open()
        shutil.copy(pki.server.key, own.key)
        with pytest.raises(SinkRefused, match="is not the key of"):
            await sink.open()
        shutil.copy(pki.client.key, own.key)
        await sink.open()
    finally:
        await sink.close()
