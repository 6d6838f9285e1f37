"""Opening: what is wrong is said once and clearly, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from filerbackup.errors import (
    SinkRefused,
    SinkUnavailable,
    UsageError,
)
from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.registry import create_sink
from filerbackup.sinks.s3 import S3Sink, connection
from tests.contract.contents import (
    StreamedContent,
    file_entry,
)
from tests.integration.s3.conftest import MIB, opened, refusal, settings
from tests.support.proxy import Proxy, html
from tests.support.s3 import (
    ACCESS_KEY,
    READER_KEY,
    READER_SECRET,
    SECRET_KEY,
    Peer,
    make_certificate,
    s3_error,
)
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer


async def test_a_missing_bucket_is_said(server: WeedServer) -> None:
    error = await refusal(settings(server, "x", bucket="never-made"))
    assert "never-made" in str(error)
    assert "NoSuchBucket" in str(error)
    assert "create the bucket" in error.hint


@pytest.mark.parametrize(
    ("access", "secret", "code"),
    [
        (ACCESS_KEY, "wrong-secret", "SignatureDoesNotMatch"),
        ("AKIDNOBODY", "wrong-secret", "InvalidAccessKeyId"),
    ],
)
async def test_wrong_credentials_are_said(
    server: WeedServer, peer: Peer, access: str, secret: str, code: str
) -> None:
    wrong = settings(server, "x", access_key_id=access, secret_access_key=Secret(secret))
    error = await refusal(wrong)
    assert code in str(error)
    assert "aws_access_key_id" in error.hint


async def test_who_may_only_read_is_told_so(server: WeedServer, peer: Peer) -> None:
    reader = settings(server, "x", access_key_id=READER_KEY, secret_access_key=Secret(READER_SECRET))
    error = await refusal(reader)
    assert "AccessDenied" in str(error)
    assert "s3:PutObject" in error.hint


async def test_no_credentials_at_all(
    server: WeedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_credentials(monkeypatch, tmp_path)
    error = await refusal(settings(server, "x", access_key_id="", secret_access_key=Secret()))
    assert "no credentials" in str(error)
    assert "aws_access_key_id" in error.hint


def without_credentials(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))


async def test_credentials_come_from_the_aws_chain(
    server: WeedServer, peer: Peer, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_credentials(monkeypatch, tmp_path)
    (tmp_path / "credentials").write_text(
        f"[backup]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "backup")
    # What obstore alone would take from the environment must not lead it elsewhere.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    of = settings(server, folder, access_key_id="", secret_access_key=Secret())
    async with opened(of) as sink:
        await write(sink, "file")
    assert await peer.get(f"{folder}/file") == b"data"


async def test_credentials_that_change_are_asked_for_again(
    server: WeedServer, peer: Peer, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Temporary credentials are renewed while the sink is open, for small and for large files."""
    without_credentials(monkeypatch, tmp_path)
    monkeypatch.setattr(connection, "_CREDENTIALS_FRESH", timedelta(seconds=0.2))

    def become(access: str, secret: str) -> None:
        # The SDK renews what expires within ten minutes each time it is asked.
        expiration = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        answer = {"Version": 1, "AccessKeyId": access, "SecretAccessKey": secret, "Expiration": expiration}
        (tmp_path / "answer").write_text(json.dumps(answer))

    become(ACCESS_KEY, SECRET_KEY)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = /bin/cat {tmp_path / 'answer'}\n")
    content = StreamedContent(6 * MIB)
    async with opened(settings(server, folder, access_key_id="", secret_access_key=Secret())) as sink:
        await write(sink, "small")
        await sink.write("large", file_entry("large", content.size), content)

        become(READER_KEY, READER_SECRET)
        async with asyncio.timeout(10):
            with pytest.raises(SinkRefused):
                while True:
                    await write(sink, "small")
        with pytest.raises(SinkRefused):
            await sink.write("large", file_entry("large", content.size), content)
        assert await keys(sink) == ["large", "small"]


@pytest.mark.parametrize("status", [200, 404, 405])
async def test_something_else_at_the_endpoint(server: WeedServer, proxy: Proxy, status: int) -> None:
    async def console(_request: web.Request, _body: bytes) -> web.Response:
        return html(status)

    proxy.fault = console
    error = await refusal(settings(server, "x", endpoint=proxy.endpoint))
    assert f"HTTP {status}" in str(error)
    assert "check `endpoint`" in error.hint


@pytest.mark.parametrize(
    ("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")]
)
async def test_the_right_region_is_said(server: WeedServer, proxy: Proxy, status: int, code: str) -> None:
    async def elsewhere(_request: web.Request, _body: bytes) -> web.Response:
        extra = "<Region>eu-central-1</Region>" if status == 400 else ""
        return s3_error(status, code, extra=extra, **{"x-amz-bucket-region": "eu-central-1"})

    proxy.fault = elsewhere
    error = await refusal(settings(server, "x", endpoint=proxy.endpoint))
    assert "region = 'eu-central-1'" in error.hint


async def test_who_may_write_and_never_delete(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Backups are often given no right to delete; two small objects of our own then stay, however often."""

    async def no_deletes(request: web.Request, _body: bytes) -> web.Response | None:
        deletes = request.method == "DELETE" or (request.method == "POST" and "delete" in request.query)
        return s3_error(403, "AccessDenied") if deletes else None

    proxy.fault = no_deletes
    for _ in range(2):
        async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
            await write(sink, "file")
            with pytest.raises(SinkRefused):
                await sink.delete("file")
            assert await keys(sink) == ["file"]
    assert "deletes will fail" in caplog.text
    assert len(await peer.names(folder)) == 3


async def test_a_failing_gateway_is_unavailable_not_wrong(server: WeedServer, proxy: Proxy) -> None:
    async def bad_gateway(_request: web.Request, _body: bytes) -> web.Response:
        return html(502)

    proxy.fault = bad_gateway
    with pytest.raises(SinkUnavailable, match="HTTP 502"):
        await S3Sink(settings(server, "x", endpoint=proxy.endpoint)).open()


async def test_nobody_at_the_endpoint(server: WeedServer) -> None:
    with pytest.raises(SinkUnavailable, match="no connection to 127"):
        await S3Sink(settings(server, "x", endpoint="http://127.0.0.1:1")).open()


async def test_an_unusable_endpoint(server: WeedServer) -> None:
    error = await refusal(settings(server, "x", endpoint="not a url"))
    assert "endpoint" in str(error)


@pytest.mark.parametrize("is_own_authority", [False, True])
async def test_tls_with_an_authority_of_ones_own(
    server: WeedServer,
    peer: Peer,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_own_authority: bool,
) -> None:
    """Also with a server that shows the authority's own certificate, which obstore does not accept."""
    authority = make_certificate(tmp_path / "authority.pem")
    shown = authority if is_own_authority else make_certificate(tmp_path / "leaf.pem", issuer=authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown)
    async with Proxy(server.s3_endpoint).running(context) as proxy:
        of = settings(server, folder, endpoint=proxy.endpoint)
        assert of.endpoint.startswith("https://localhost:")
        error = await refusal(of)
        assert "certificate" in str(error)
        assert "AWS_CA_BUNDLE" in error.hint

        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        async with opened(of) as sink:
            content = StreamedContent(12 * MIB)
            await write(sink, "small")
            await write(sink, "new\nline")
            await sink.write("large", file_entry("large", content.size), content)
            await sink.delete("small")
            assert await keys(sink) == ["large", "new\nline"]
            assert b"".join([block async for block in sink.read("large")]) == await content.read()
        assert ("obstore" in caplog.text) is is_own_authority

        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "absent"))
        assert "AWS_CA_BUNDLE" in (await refusal(of)).hint


def test_settings_that_name_no_place() -> None:
    with pytest.raises(UsageError, match="bucket"):
        create_sink(S3Settings("s3"))
    with pytest.raises(UsageError, match=r"\.\."):
        create_sink(S3Settings("s3", bucket="b", directory="/a/../b"))


async def test_opening_leaves_nothing_behind(sink: S3Sink, peer: Peer, folder: str) -> None:
    await sink.open()
    assert await peer.names(folder) == set()


@pytest.mark.parametrize("directory", ["", "/"])
async def test_the_whole_bucket_as_directory(server: WeedServer, peer: Peer, directory: str) -> None:
    key = f"whole-{secrets.token_hex(4)}"
    async with opened(settings(server, "", directory=directory)) as sink:
        await write(sink, key)
        assert await peer.get(key) == b"data"
        assert key in await keys(sink, "whole-")
        await sink.delete_tree(key)
    assert await peer.get(key) is None
