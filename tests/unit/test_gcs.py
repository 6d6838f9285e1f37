"""The parts of the sink on Google Cloud Storage that need no server."""

from __future__ import annotations

import json

import pytest
from google_crc32c import value as crc32c
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import SinkError
from filerbackup.sinks.gcs.answers import NotGoogle, parse_batch, parse_json, parse_listing, parse_resource
from filerbackup.sinks.gcs.crc32c import combined
from filerbackup.sinks.gcs.dialect import DIALECT, with_google_names
from filerbackup.sinks.gcs.errors import Answered, classify, parse_refusal
from filerbackup.sinks.objects.errors import Unanswered

OBJECT = {"name": "a", "size": "3", "generation": "12", "metageneration": "1"}
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_checksums_of_pieces_make_that_of_the_whole(pieces: list[bytes]) -> None:
    assert combined((crc32c(piece), len(piece)) for piece in pieces) == crc32c(b"".join(pieces))


def test_checksums_of_pieces_larger_than_memory_would_be() -> None:
    zeros = bytes(1 << 20)
    by_megabytes = combined([(crc32c(b"x"), 1)] + [(crc32c(zeros), len(zeros))] * 5000)
    at_once = combined([(crc32c(b"x"), 1), (combined([(crc32c(zeros), len(zeros))] * 5000), 5000 << 20)])
    assert by_megabytes == at_once


@pytest.mark.parametrize("time_ns", [0, 1, 999_999_999, 1_600_000_000_123_456_789, -1_500_000_000])
def test_times_come_back(time_ns: int) -> None:
    written = DIALECT.time(time_ns)
    assert DIALECT.parse_time(written) == time_ns
    assert written["goog-reserved-file-mtime"] == str(time_ns // 10**9)


def test_times_of_googles_own_tools() -> None:
    assert DIALECT.parse_time({"goog-reserved-file-mtime": "12"}) == 12_000_000_000
    assert DIALECT.parse_time({"goog-reserved-file-mtime": "x"}) is None
    assert DIALECT.parse_time({}) is None


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("100644", "644"), ("104755", "755"), ("100007", "007"), ("40700", "700"), ("x", None)],
)
def test_modes_have_three_digits_for_googles_tools(mode: str, wanted: str | None) -> None:
    assert with_google_names("a", {"mode": mode}).get("goog-reserved-posix-mode") == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": 3},
        {"size": "-1"},
        {"size": None},
        {"size": True},
        {"size": "1" * 30},
        {"generation": "x"},
        {"metadata": ["x"]},
    ],
)
def test_descriptions_that_google_would_not_give(change: dict[str, object]) -> None:
    parse_resource(OBJECT)
    with pytest.raises(NotGoogle):
        parse_resource({**OBJECT, **change})


def test_a_description() -> None:
    found = parse_resource(
        {**OBJECT, "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg==", "crc32c": "no", "metadata": {"Mtime": "1", "x": 2}}
    )
    assert (found.size, found.version, found.user) == (3, "12.1", {"mtime": "1"})
    assert found.md5.hex() == "d41d8cd98f00b204e9800998ecf8427e"
    assert found.crc32c == b""


@given(any_json)
def test_any_json_is_a_listing_or_none(value: object) -> None:
    try:
        parse_listing(json.dumps(value).encode())
    except NotGoogle:
        return
    assert isinstance(value, dict)


@given(st.binary(max_size=300), st.integers(300, 599))
def test_any_refusal_has_one_meaning(body: bytes, status: int) -> None:
    said = classify(parse_refusal(status, body), "gcs:bucket: PUT 'a'")
    assert isinstance(said, SinkError)
    assert "\n" not in str(said)
    assert len(str(said)) < 500


def test_an_url_loses_its_query() -> None:
    said = classify(Unanswered("no way to https://host/path?token=secret here"), "gcs")
    assert "secret" not in str(said)


def test_deeply_nested_json_is_no_answer() -> None:
    with pytest.raises(NotGoogle):
        parse_json(b"[" * 100_000)
    assert parse_refusal(500, b"[" * 100_000).status == 500


def test_a_missing_object_is_not_a_missing_bucket() -> None:
    assert Answered(404, "notFound", "No such object: b/a").is_absent
    assert not Answered(404, "notFound", "The specified bucket does not exist.").is_absent
    assert not parse_refusal(404, b"<html>nothing here").is_absent
    assert parse_refusal(404, b"Not Found").is_absent


def test_the_answers_of_a_batch() -> None:
    body = (
        b"--x\r\nContent-Type: application/http\r\nContent-ID: <response-item-1>\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n\r\n"
        b"--x\nContent-Type: application/http\nContent-ID: <response-item-0>\n\n"
        b'HTTP/1.1 404 Not Found\nContent-Type: application/json\n\n{"error": {}}\n--x--'
    )
    assert parse_batch('multipart/mixed; boundary="x"', body) == {1: (204, b""), 0: (404, b'{"error": {}}')}
    with pytest.raises(NotGoogle):
        parse_batch("text/html", body)


@given(st.binary(max_size=400))
def test_any_bytes_are_answers_or_none(body: bytes) -> None:
    parse_batch("multipart/mixed; boundary=x", body)
