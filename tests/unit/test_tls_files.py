"""The client's own certificate, key and authority: each mistake is one error before anything is started."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.tls import HTTPS, tls_context
from filerbackup.settings.files import named_file
from filerbackup.settings.model import ClientTls
from tests.integration.local_support import ordinary_user
from tests.support.certificates import Authority, Identity

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
