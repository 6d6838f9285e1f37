"""Certificates as weed's users make them: one common name, no host names; HTTP is plain and wants tokens."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import pytest

from filerbackup.errors import FilerBackupError, SourceRefused
from filerbackup.filer.access import read_token
from filerbackup.filer.client import FilerClient
from filerbackup.runtime.service import Service
from filerbackup.settings.model import ClientTls
from filerbackup.settings.secret import Secret
from filerbackup.source import fetch
from tests.integration.secured.conftest import Tree
from tests.support.certificates import Identity
from tests.support.eventually import eventually
from tests.support.secured_client import Client, right
from tests.support.secured_weed import Asks, SecuredWeed

ASKS = Asks(grpc=True, jwt=True, names=False)


@pytest.mark.parametrize("read_via", ["volume", "filer"])
async def test_a_tree_is_copied(client: Client, tree: Tree, read_via: str) -> None:
    (outcome,) = await client.catch_up(right(client.weed), read_via=read_via)
    assert outcome.error is None
    assert client.written() == tree


@pytest.mark.parametrize("name", ["", "filer02"])
async def test_a_name_that_is_not_the_certificates(client: Client, name: str) -> None:
    said = await client.problem(replace(right(client.weed), server_name=name))
    assert isinstance(said, SourceRefused)
    assert f"its certificate is for 'filer01', not for '{name or '127.0.0.1'}'" in str(said)
    assert 'server_name = "filer01" in [grpc.client]' in said.hint


async def test_a_name_in_a_certificate_is_not_taken_for_text_of_ours(
    client: Client, secured: SecuredWeed
) -> None:
    authority, odd = secured.pki.authority, 'x"\n[sink.local]\x1b[2J'
    secured.serve(authority.issue("odd", hosts=(odd,)))
    try:
        said = await _problem(client, f"is for {odd!r}, not for 'filer01'")
        assert 'server_name = "its-name"' in said.hint
    finally:
        secured.serve(authority.issue("filer01", hosts=()))
    await eventually(lambda: _reaches(client))


async def test_a_common_name_that_the_filer_does_not_list(client: Client) -> None:
    guest = client.weed.pki.authority.issue("guest", hosts=())
    said = await client.problem(replace(right(client.weed), grpc=guest))
    assert isinstance(said, SourceRefused)
    assert "refuses our certificate 'guest', issued by 'authority'" in str(said)
    assert "allowed_commonNames of [grpc.filer]" in said.hint


async def test_a_filer_whose_certificate_has_run_out(client: Client, secured: SecuredWeed) -> None:
    pki = secured.pki
    secured.serve(pki.authority.issue("filer01", hosts=(), ended=True))
    try:
        said = await _problem(client, "its certificate is out of date: certificate has expired")
        assert "renew cert of [grpc.filer]" in said.hint
    finally:
        secured.serve(pki.authority.issue("filer01", hosts=()))
    # And without a restart of the servers it is good again.
    await eventually(lambda: _reaches(client))


async def test_https_towards_servers_without_it(client: Client) -> None:
    good = right(client.weed)
    for via in ("volume", "filer"):
        said = await client.problem(replace(good, https=True, https_ca=good.grpc_ca), read_via=via)
        assert isinstance(said, SourceRefused)
        assert "enabled = false in [https.client]" in said.hint


@pytest.mark.parametrize(("behind_s", "taken"), [(570, True), (-7 * 86400, True), (660, False)])
async def test_clocks_may_differ_by_ten_minutes(
    client: Client, tree: Tree, monkeypatch: pytest.MonkeyPatch, behind_s: float, taken: bool
) -> None:
    def token(key: Secret, file_id: str, now: float) -> str:
        return read_token(key, file_id, now - behind_s)

    monkeypatch.setattr(fetch, "read_token", token)
    if taken:
        await client.catch_up(right(client.weed))
        assert client.written() == tree
    else:
        said = await client.problem(right(client.weed))
        assert "clocks within 10 minutes" in said.hint


async def test_a_key_that_turns_out_wrong_while_following_writes_nothing(client: Client) -> None:
    """Where weed writes empty files: nothing was there to be tried out at the start."""
    weed, folder = client.weed, "/later"
    assert weed.put(f"{folder}/inside/empty", b"") < 300
    later = Client(client.directory, weed, folder)
    service = Service(later.settings(replace(right(weed), read_key="wrong")), one_shot=False)
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        await eventually((later.sink / "inside").is_dir)
        assert await asyncio.to_thread(weed.put, f"{folder}/inside/file", b"x" * 5000) < 300
        await eventually(lambda: service.built[0].replicator.watcher.state == "source-error")
        watcher = service.built[0].replicator.watcher
        assert "answers 401" in watcher.error
        assert "jwt.signing.read.key" in watcher.error
    finally:
        stop.set()
        (outcome,) = await running
    assert outcome.dead_letters == 0
    assert later.written() == {"inside/empty": b""}


async def test_a_renewed_certificate_is_taken_up(client: Client) -> None:
    pki, files = client.weed.pki, Identity(client.directory / "own.crt", client.directory / "own.key")
    tls = ClientTls(str(pki.authority.ca), str(files.cert), str(files.key), "filer01")
    _copy(pki.other.issue("stranger"), files)
    filer = FilerClient([client.weed.filer], tls)
    try:
        with pytest.raises(SourceRefused, match="refuses our certificate"):
            await filer.configuration()
        _copy(pki.client, files)

        async def answers() -> bool:
            try:
                return bool((await filer.configuration()).version)
            except FilerBackupError:
                return False

        await eventually(answers)
    finally:
        await filer.close()


def _copy(source: Identity, target: Identity) -> None:
    shutil.copy(source.key, target.key)
    shutil.copy(source.cert, target.cert)


async def _problem(client: Client, text: str) -> FilerBackupError:
    """The error that says `text`, once the servers have read their files again."""
    found: list[FilerBackupError] = []

    async def says() -> bool:
        error = await _refusal(client)
        found.extend([error] if error else [])
        return error is not None and text in str(error)

    await eventually(says)
    return found[-1]


async def _reaches(client: Client) -> bool:
    return await _refusal(client) is None


async def _refusal(client: Client) -> FilerBackupError | None:
    filer = FilerClient([client.weed.filer], client.settings(right(client.weed)).security.grpc)
    try:
        await filer.configuration()
    except FilerBackupError as error:
        return error
    finally:
        await filer.close()
    return None
