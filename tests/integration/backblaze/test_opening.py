"""What is wrong from the start is said when the sink is opened, in one line that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable, UsageError
from filerbackup.settings.model import BackblazeSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.backblaze import B2Store, backblaze_sink
from filerbackup.sinks.base import SinkIdentity
from tests.integration.backblaze.conftest import SECRET, counted, opened, settings, told
from tests.support.b2 import BUCKET, Running, b2_error
from tests.support.proxy import Proxy, answers, speaks_html
from tests.support.sinks import keys, write

READ_WRITE = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"]


def with_key(b2: Running, folder: str, key: tuple[str, str], **changes: Any) -> BackblazeSettings:
    return settings(b2, folder, key_id=key[0], application_key=Secret(key[1]), **changes)


async def refusal(of: BackblazeSettings, kind: type[SinkError] = SinkRefused) -> str:
    sink = backblaze_sink(of)
    with pytest.raises(kind) as caught:
        await sink.open()
    await sink.close()
    with pytest.raises(SinkUnavailable):
        await sink.delete("x")
    return told(caught.value, of.application_key.reveal() or SECRET)


def test_the_identity_is_the_place() -> None:
    sink = backblaze_sink(BackblazeSettings("backblaze", directory="/d", bucket="b"))
    assert sink.identity == SinkIdentity("backblaze", "", "b", "/d")
    with pytest.raises(UsageError, match="bucket"):
        B2Store(BackblazeSettings("backblaze"))
    with pytest.raises(UsageError, match="directory_markers"):
        backblaze_sink(BackblazeSettings("backblaze", bucket="b", directory_markers=True))


async def test_no_key(b2: Running, folder: str) -> None:
    for key in (("", SECRET), ("some-id", "")):
        text = await refusal(with_key(b2, folder, key))
        assert "B2_APPLICATION_KEY_ID" in text


@pytest.mark.parametrize("key_id", ["account-0", "nobody", "ünïcode", "a:b"])
async def test_a_wrong_key(b2: Running, folder: str, key_id: str) -> None:
    text = await refusal(with_key(b2, folder, (key_id, SECRET)))
    assert "application key" in text
    assert "b2_account_id" in text


async def test_a_missing_bucket(b2: Running, folder: str) -> None:
    text = await refusal(settings(b2, folder, bucket="never-made"))
    assert "no such bucket" in text
    assert "create the bucket" in text


async def test_a_key_for_one_bucket(b2: Running, folder: str) -> None:
    key = b2.make_key(READ_WRITE, bucket=BUCKET)
    async with opened(with_key(b2, folder, key)) as sink:
        await write(sink, "file")
        assert await keys(sink) == ["file"]
    text = await refusal(with_key(b2, folder, key, bucket="another"))
    assert "for another bucket" in text


async def test_a_key_that_may_list_no_buckets(b2: Running, folder: str) -> None:
    of_bucket = b2.make_key(["listFiles", "readFiles", "writeFiles", "deleteFiles"], bucket=BUCKET)
    async with opened(with_key(b2, folder, of_bucket)) as sink:
        await write(sink, "file")
    of_all = b2.make_key(["listFiles", "readFiles", "writeFiles", "deleteFiles"])
    assert "unauthorized" in await refusal(with_key(b2, folder, of_all))


async def test_a_key_for_a_prefix(b2: Running, folder: str) -> None:
    key = b2.make_key(READ_WRITE, bucket=BUCKET, prefix=f"{folder}/in")
    async with opened(with_key(b2, f"{folder}/inner", key)) as sink:
        await write(sink, "file")
        assert await keys(sink) == ["file"]
    text = await refusal(with_key(b2, f"{folder}/outer", key))
    assert f"{folder}/in" in text
    assert "directory" in text


@pytest.mark.parametrize("missing", ["listFiles", "readFiles", "writeFiles"])
async def test_a_key_that_may_too_little(b2: Running, folder: str, missing: str) -> None:
    key = b2.make_key([each for each in READ_WRITE if each != missing])
    assert f"may not {missing}" in await refusal(with_key(b2, folder, key))


async def test_hard_delete_needs_the_right_to(b2: Running, folder: str) -> None:
    key = b2.make_key(["listBuckets", "listFiles", "readFiles", "writeFiles"])
    assert "may not deleteFiles" in await refusal(with_key(b2, folder, key, hard_delete=True))


@pytest.mark.parametrize("path", ["", "/b2api/v4"])
@pytest.mark.parametrize("status", [200, 301, 404, 405])
async def test_an_endpoint_that_speaks_html(b2: Running, folder: str, status: int, path: str) -> None:
    async with Proxy(b2.endpoint).running() as proxy:
        proxy.fault = speaks_html(status)
        text = await refusal(settings(b2, folder, endpoint=f"{proxy.endpoint}{path}"))
    assert "not B2's" in text
    assert "`endpoint`" in text


async def test_the_endpoint_of_the_s3_api(b2: Running, folder: str) -> None:
    xml = "<Error><Code>InvalidRequest</Code></Error>"
    async with Proxy(b2.endpoint).running() as proxy:
        proxy.fault = answers(400, xml, "application/xml")
        assert "S3 API" in await refusal(settings(b2, folder, endpoint=proxy.endpoint))


async def test_the_key_follows_no_redirect(b2: Running, folder: str) -> None:
    def elsewhere(name: str, request: web.Request) -> web.Response | None:
        there = {"Location": f"http://{request.host}/elsewhere"}
        return web.Response(status=307, headers=there) if name == "b2_authorize_account" else None

    with b2.fault(elsewhere), counted(b2) as calls:
        assert "not B2's" in await refusal(settings(b2, folder))
    assert calls == {"b2_authorize_account": 1}


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        ("unsupported", SinkRefused, "another"),
        ("email_not_verified", SinkRefused, "verify"),
        ("no_payment_history", SinkRefused, "payment"),
        ("expired_auth_token", SinkRefused, "run out"),
    ],
)
async def test_an_account_that_cannot_be_used(
    b2: Running, folder: str, code: str, kind: type[SinkError], hint: str
) -> None:
    def refused(name: str, _request: web.Request) -> web.Response | None:
        return b2_error(401, code) if name == "b2_authorize_account" else None

    with b2.fault(refused):
        assert hint in await refusal(settings(b2, folder), kind)


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[1]",
        b'{"accountId": 1, "authorizationToken": "t", "apiInfo": {"storageApi": {"allowed": {}}}}',
        b'{"accountId": "a", "authorizationToken": "x\\r\\ny: z", "apiInfo": {"storageApi": {'
        b'"apiUrl": "http://h", "downloadUrl": "http://h", "allowed": {"capabilities": []}}}}',
        b'{"accountId": "a", "authorizationToken": "t", "apiInfo": {"storageApi": {'
        b'"apiUrl": "file:///etc", "downloadUrl": "http://h", "allowed": {"capabilities": []}}}}',
        b'{"accountId": "a", "authorizationToken": "t", "apiInfo": null}',
        b"{" * 100_000,
        b"\xff\xfe",
    ],
    ids=range(8),
)
async def test_an_answer_that_makes_no_sense(b2: Running, folder: str, answer: bytes) -> None:
    def odd(name: str, _request: web.Request) -> web.Response | None:
        known = name == "b2_authorize_account"
        return web.Response(body=answer, content_type="application/json") if known else None

    with b2.fault(odd):
        await refusal(settings(b2, folder), SinkError)


async def test_an_unreadable_bundle_of_authorities(
    b2: Running, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
    assert "REQUESTS_CA_BUNDLE" in await refusal(settings(b2, folder), SinkError)


async def test_a_server_without_tls_where_tls_was_asked_for(b2: Running, folder: str) -> None:
    endpoint = b2.endpoint.replace("http:", "https:")
    text = await refusal(settings(b2, folder, endpoint=endpoint), SinkRefused)
    assert "TLS" in text


async def test_a_sink_that_is_opened_twice_and_closed_twice(b2: Running, folder: str) -> None:
    sink = backblaze_sink(settings(b2, folder))
    await sink.open()
    await sink.open()
    await write(sink, "file")
    await sink.close()
    await sink.close()
