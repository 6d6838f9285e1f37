"""What answers of B2 mean, and that nothing secret is in what is said of them."""

from __future__ import annotations

import json

import pytest

from filerbackup.errors import (
    ObjectRejected,
    SinkError,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.sinks.backblaze.answers import parse_error, parse_grant, url_of
from filerbackup.sinks.backblaze.errors import Answered, classify, one_line
from filerbackup.sinks.objects.errors import Unanswered

WHAT = "backblaze:b: PUT 'x'"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Answered(401, "unauthorized"), SinkRefused),
        (Answered(401, "expired_auth_token"), SinkRefused),
        (Answered(401), SinkRefused),
        (Answered(403, "storage_cap_exceeded"), SinkFull),
        (Answered(403, "access_denied"), SinkRefused),
        (Answered(400, "bad_bucket_id"), SinkRefused),
        (Answered(404, "not_found"), SinkUnavailable),
        (Answered(404, spoke=False), SinkRefused),
        (Answered(302), SinkRefused),
        (Answered(429, spoke=False), SinkThrottled),
        (Answered(503, "service_unavailable"), SinkThrottled),
        (Answered(502, spoke=False), SinkUnavailable),
        (Answered(500, "internal_error"), SinkUnavailable),
        (Answered(408, "request_timeout"), SinkUnavailable),
        (Unanswered("no answer in time"), SinkUnavailable),
        (Unanswered("odd", refused=True, hint="x"), SinkRefused),
    ],
)
def test_each_has_its_kind(error: Answered | Unanswered, kind: type[SinkError]) -> None:
    said = classify(error, WHAT)
    assert type(said) is kind
    assert str(said).startswith(WHAT)
    if kind in (SinkRefused, SinkFull):
        assert said.hint


def test_a_bad_request_is_the_objects_fault_only_where_one_was_sent() -> None:
    bad = Answered(400, "bad_request", "File names must not be odd")
    assert type(classify(bad, WHAT)) is SinkUnavailable
    assert type(classify(bad, WHAT, of_object=True)) is ObjectRejected
    for text in ("Sha1 did not match data received", "checksum mismatch"):
        torn = Answered(400, "bad_request", text)
        assert type(classify(torn, WHAT, of_object=True)) is SinkUnavailable


@pytest.mark.parametrize(
    "secret",
    [
        "4_00102030405060708090000000000_01a2b3c4_d5e6f7_acct_AbCdEfGhIjKlMnOpQrStUvWxYz0=",
        "https://pod-000-1000-00.backblaze.com/b2api/v4/b2_upload_file/4a48fe/c001_v0001000_t0000",
        "3_20240101000000_a1b2c3d4e5f6_0001_upld_QUJDREVGR0hJSktM=",
    ],
)
def test_tokens_and_urls_are_not_shown(secret: str) -> None:
    text = str(classify(Answered(400, "auth_token_limit", f"more than one upload using {secret}\nx"), WHAT))
    assert secret not in text
    assert "\n" not in text


def test_long_and_odd_texts_are_cut() -> None:
    text = one_line("a\x1b[31m\u2028b " * 200)
    assert len(text) <= 301
    assert text.isprintable()


@pytest.mark.parametrize(
    ("body", "code", "spoke"),
    [
        (b'{"status": 400, "code": "bad_request", "message": "m"}', "bad_request", True),
        (b"", "", True),
        (b"<html>", "", False),
        (b"[]", "", False),
        (b'{"code": 5}', "", False),
        (b'{"code": "x", "message": null}', "x", True),
        (b"[" * 100_000, "", False),
        (b"\xff", "", False),
    ],
    ids=range(8),
)
def test_an_error_in_any_form(body: bytes, code: str, spoke: bool) -> None:
    error = parse_error(400, body)
    assert (error.status, error.code, error.spoke) == (400, code, spoke)


def test_a_token_goes_nowhere_without_tls() -> None:
    answer = {
        "accountId": "a",
        "authorizationToken": "t",
        "apiInfo": {
            "storageApi": {
                "apiUrl": "https://api001.example.com",
                "downloadUrl": "http://f001.example.com",
                "allowed": {"capabilities": ["listFiles"], "buckets": None, "namePrefix": None},
            }
        },
    }
    assert parse_grant(answer, secure=False).download_url == "http://f001.example.com"
    with pytest.raises(Unanswered):
        parse_grant(json.loads(json.dumps(answer)), secure=True)
    with pytest.raises(Unanswered):
        url_of("http://pod.example.com/x", secure=True)
