"""The client's own certificate, key and authority: each mistake is one error before anything is started.

What becomes of the files later is an outage, and no end.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from filerbackup.errors import FilerBackupError, SinkRefused, SourceRefused, UsageError
from filerbackup.filer import https as https_module
from filerbackup.filer.client import FilerClient
from filerbackup.filer.handshake import connected
from filerbackup.filer.https import Https
from filerbackup.filer.tls import HTTPS, Keys, load_own, tls_context
from filerbackup.settings.files import named_file
from filerbackup.settings.model import ClientTls, FilerSinkSettings, SecuritySettings
from filerbackup.sinks.filer import FilerSink
from tests.integration.local_support import ordinary_user
from tests.support.certificates import Authority, Identity
from tests.support.ports import free_port

__all__ = ["ordinary_user"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def tls(authority: Authority) -> ClientTls:
    return _files(authority, authority.issue("client"))


def _files(authority: Authority, own: Identity) -> ClientTls:
    return ClientTls(str(authority.ca), str(own.cert), str(own.key))


def test_server_certificates_are_always_checked(tls: ClientTls) -> None:
    for files in (tls, ClientTls(tls.ca), ClientTls()):
        context = tls_context(files)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def _expired(authority: Authority, _tls: ClientTls) -> ClientTls:
    return _files(authority, authority.issue("ended", ended=True))


def _locked(authority: Authority, _tls: ClientTls) -> ClientTls:
    return _files(authority, authority.issue("locked", password=b"never asked for"))


def _of_another(authority: Authority, tls: ClientTls) -> ClientTls:
    return replace(tls, key=str(authority.issue("another").key))


def _no_certificate(authority: Authority, tls: ClientTls) -> ClientTls:
    return replace(tls, cert=tls.key)


def _no_authority(authority: Authority, tls: ClientTls) -> ClientTls:
    return replace(tls, ca=tls.key)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_expired, r"client\.cert: .*ended\.crt is good from .* to .*, and now it is"),
        (_locked, r"client\.key: .*locked\.key .* not a PEM key without a password"),
        (_of_another, r"client\.key: .*another\.key is not the key of .*client\.crt"),
        (_no_certificate, r"client\.cert: .*client\.key cannot be used: no PEM certificate in it"),
        (_no_authority, r"ca: .*client\.key cannot be used: no certificate or crl found"),
    ],
)
async def test_files_that_cannot_be_used(
    authority: Authority, tls: ClientTls, broken: object, message: str
) -> None:
    assert callable(broken)
    files = broken(authority, tls)
    with pytest.raises(UsageError, match=message) as caught:
        FilerClient(["localhost:8888"], files)
    assert str(caught.value).startswith("grpc.")
    assert caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=message) as caught:
        tls_context(files, HTTPS)
    assert str(caught.value).startswith("https.client.")
    assert "PRIVATE KEY" not in str(caught.value)


def test_a_key_that_this_user_may_not_read(ordinary_user: Path) -> None:
    authority = Authority(ordinary_user, "authority")
    own = authority.issue("client")
    own.key.chmod(0)
    with pytest.raises(
        UsageError, match=r"grpc\.client\.key: .*client\.key cannot be read: Permission denied"
    ):
        named_file(str(own.key), "security.toml: grpc.client.key", [ordinary_user])


# -- later --------------------------------------------------------------------------------------------


def _put(identity: Identity, tls: ClientTls) -> None:
    shutil.copy(identity.cert, tls.cert)
    shutil.copy(identity.key, tls.key)


def _runs_out(authority: Authority, tls: ClientTls) -> None:
    _put(authority.issue("ended", ended=True), tls)


def _goes(_: Authority, tls: ClientTls) -> None:
    Path(tls.cert).unlink()


def _is_half_exchanged(authority: Authority, tls: ClientTls) -> None:
    shutil.copy(authority.issue("another").cert, tls.cert)


LATER = pytest.mark.parametrize(
    ("breaks", "said"),
    [(_runs_out, "is good from"), (_goes, "No such file"), (_is_half_exchanged, "is not the key of")],
)


@LATER
async def test_files_that_go_bad_while_the_filer_is_away(
    authority: Authority, tls: ClientTls, breaks: object, said: str
) -> None:
    """Retried for ever, as a refusal: no end of the process, and no fault of the object that was read."""
    assert callable(breaks)
    client = FilerClient([f"127.0.0.1:{free_port()}"], tls)
    try:
        breaks(authority, tls)
        for _ in range(2):
            with pytest.raises(SourceRefused, match=said) as caught:
                await client.configuration()
            assert str(caught.value).startswith("filer 127.0.0.1:")
            assert caught.value.hint
    finally:
        await client.close()


@LATER
@pytest.mark.parametrize("secured", ["grpc", "https"])
async def test_files_that_are_bad_when_a_sink_is_opened_again(
    authority: Authority, tls: ClientTls, secured: str, breaks: object, said: str
) -> None:
    assert callable(breaks)
    security = SecuritySettings(grpc=tls) if secured == "grpc" else SecuritySettings(https=tls)
    target = FilerSinkSettings("filer", directory="/copies", grpc_address=f"127.0.0.1:{free_port()}")
    sink = FilerSink(target, security)
    breaks(authority, tls)
    with pytest.raises(SinkRefused, match=said) as caught:
        await sink.open()
    assert caught.value.hint
    await sink.close()


async def test_opening_a_sink_reads_no_files_on_the_loop(
    tls: ClientTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the system's authorities take a tenth of a second."""
    threads: list[threading.Thread] = []

    def noted(files: ClientTls, keys: Keys = HTTPS) -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return tls_context(files, keys)

    monkeypatch.setattr("filerbackup.filer.https.tls_context", noted)
    monkeypatch.setattr("filerbackup.filer.channels.tls_context", noted)
    target = FilerSinkSettings("filer", directory="/copies", grpc_address=f"127.0.0.1:{free_port()}")
    with pytest.raises(FilerBackupError):
        await FilerSink(target, SecuritySettings(grpc=tls, https=tls)).open()
    assert threads
    assert threading.main_thread() not in threads


async def test_a_certificate_that_is_refused_is_read_again_now_and_then(
    tls: ClientTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the loop, which uses the context: OpenSSL has no lock for it."""
    loaded: list[threading.Thread] = []

    def noted(context: ssl.SSLContext, files: ClientTls) -> None:
        if context is https.ssl:
            loaded.append(threading.current_thread())
        load_own(context, files)

    https = Https(tls)
    monkeypatch.setattr(https_module, "load_own", noted)
    found = await asyncio.gather(*(https.refusal("h:1", _refused()) for _ in range(20)))
    assert all(found)
    assert loaded == [threading.current_thread()]
    https._renewed_at -= 6
    await https.refusal("h:1", _refused())
    assert len(loaded) == 2


async def test_a_pair_that_is_just_being_exchanged_spoils_nothing(
    authority: Authority, tls: ClientTls
) -> None:
    https = Https(tls)
    context = https.ssl
    assert isinstance(context, ssl.SSLContext)
    async with _asking(authority) as (server, names):
        fresh = authority.issue("fresh")
        shutil.copy(fresh.cert, tls.cert)
        await https.refusal(server, _refused())
        await _shake(server, context)
        shutil.copy(fresh.key, tls.key)
        https._renewed_at -= 6
        await https.refusal(server, _refused())
        await _shake(server, context)
    assert names == ["client", "fresh"]


def _refused() -> ssl.SSLError:
    error = ssl.SSLError("refused")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return error


@asynccontextmanager
async def _asking(authority: Authority) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that wants a certificate, and the common names that it has seen."""
    names: list[str] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(dict(part[0] for part in writer.get_extra_info("peercert")["subject"])["commonName"])
        writer.write(b"!")
        await writer.drain()
        writer.close()

    served = authority.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(served.cert, served.key)
    context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", names


async def _shake(server: str, context: ssl.SSLContext) -> None:
    async with connected(server, context, "127.0.0.1") as (reader, _):
        assert await reader.read(1) == b"!"
