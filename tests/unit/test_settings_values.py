"""Parsers of single values: what they take, and what they say when they do not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import FilerBackupError, UsageError
from filerbackup.settings import places, values
from filerbackup.settings.values import BadValue, Raw, Values


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("15s", 15), ("5m", 300), ("24h", 86400), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400),
        ("2d", 172800), ("0", 0), ("30", 30), (" 7s ", 7), (12, 12), (0.25, 0.25),
    ],
)  # fmt: skip
def test_durations(written: object, seconds: float) -> None:
    assert values.parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["", "s", "5 parsecs", "-5s", "5s5", "1e9", "ms", -1, True, None, [], "9" * 400]
)
def test_bad_durations(written: object) -> None:
    with pytest.raises(BadValue, match='must be a duration such as "15s"'):
        values.parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("96MiB", 96 << 20), ("1GB", 10**9), ("512k", 512 << 10), ("1.5GiB", 3 << 29), ("0.1KB", 100),
        (" 5 MB ", 5 * 10**6), ("123", 123), (123, 123), (0, 0), ("7B", 7), ("2TiB", 2 << 40),
    ],
)  # fmt: skip
def test_sizes(written: object, size: int) -> None:
    assert values.parse_size(written) == size


@pytest.mark.parametrize(
    "written", ["", "MiB", "5 parsecs", "-5", "1e9", -1, True, 1.5, None, "9" * 400, "1,5GB"]
)
def test_bad_sizes(written: object) -> None:
    with pytest.raises(BadValue, match='must be a size such as "96MiB"'):
        values.parse_size(written)


@given(st.integers(0, 1 << 49))
def test_a_formatted_size_is_read_back(size: int) -> None:
    assert values.parse_size(values.format_size(size)) == size


@given(st.text(max_size=30))
def test_parsers_of_text_raise_nothing_else(text: str) -> None:
    parsers = (
        values.parse_size, values.parse_duration, values.parse_rfc3339, values.as_bool, values.as_int(0, 9),
        values.as_list, values.as_timezone, places.as_filers, places.as_filer_folder,
        places.as_local_directory, places.as_key_directory, places.as_bucket, places.as_endpoint,
        places.as_storage_class, places.as_canned_acl,
    )  # fmt: skip
    for parse in parsers:
        try:
            parse(text)
        except BadValue as error:
            assert str(error).isprintable()


@given(st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2200, 1, 1)))
def test_rfc3339_in_utc(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    micros = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // (aware.resolution)
    assert values.parse_rfc3339(aware.isoformat().replace("+00:00", "Z")) == micros * 1000


def test_rfc3339_keeps_nanoseconds_and_offsets() -> None:
    assert values.parse_rfc3339("1970-01-01T00:00:01.123456789Z") == 1_123_456_789
    assert values.parse_rfc3339("1970-01-01T01:00:00+01:00") == 0
    assert values.parse_rfc3339("1969-12-31T18:30:00.5-05:30") == 500_000_000


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-31", "2026-01-31T20:00:00", "2026-02-30T00:00:00Z", "2026-01-31T20:00:00+25:00", "x", "",
        "２026-01-31T20:00:00Z",
    ],
)  # fmt: skip
def test_bad_rfc3339(written: str) -> None:
    with pytest.raises(BadValue, match="must be a time such as"):
        values.parse_rfc3339(written)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (True, True),
        ("true", True),
        ("T", True),
        ("1", True),
        (1, True),
        ("FALSE", False),
        ("0", False),
        (0, False),
    ],
)
def test_booleans_as_weed_reads_them(written: object, expected: bool) -> None:
    assert values.as_bool(written) is expected


@pytest.mark.parametrize("written", ["yes", "", "on", 2, 1.0, [], None])
def test_bad_booleans(written: object) -> None:
    with pytest.raises(BadValue, match="must be true or false"):
        values.as_bool(written)


def test_lists() -> None:
    assert values.as_list("a, b ,,c") == ("a", "b", "c")
    assert values.as_list(["a,b", " c "]) == ("a,b", " c ")
    for bad in ([1], [""], 5, {"a": 1}, ["a\0b"]):
        with pytest.raises(BadValue):
            values.as_list(bad)


@pytest.mark.parametrize("zone", ["", "America", "Mars/Base", "../../etc/passwd", "/etc/passwd", "x" * 300])
def test_bad_time_zones(zone: str) -> None:
    with pytest.raises(BadValue, match="must be a time zone"):
        values.as_timezone(zone)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8888",
        "filer-1.example.com:8888.18888",
        "10.0.0.1:80",
        "[::1]:8888",
        "filer_a:8888",
        "h:60000.18888",
    ],
)
def test_filer_addresses(address: str) -> None:
    assert places.as_filers(address) == (address,)


def test_several_filers_once_each() -> None:
    assert places.as_filers(["a:1,b:2", "a:1", "c:3"]) == ("a:1", "b:2", "c:3")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("localhost", "must be host:port"),
        ("http://localhost:8888", "must be host:port"),
        ("h:0", "a port must be from 1 to 65535"),
        ("h:70000", "a port must be from 1 to 65535"),
        ("h:8888.0", "a port must be from 1 to 65535"),
        ("h:60000", "give it as host:port.grpcPort"),
        ("[:::1]:8888", "not an IPv6 address"),
        ("-h:1", "not a host name"),
        ("", "must name a filer"),
        ("h\n:1", "must be host:port"),
    ],
)
def test_bad_filer_addresses(address: str, problem: str) -> None:
    with pytest.raises(BadValue, match=problem):
        places.as_filers(address)


@pytest.mark.parametrize(
    ("written", "folder"), [("/", "/"), ("/a/", "/a"), ("//a//b/", "/a/b"), ("/a b/ü", "/a b/ü")]
)
def test_filer_folders(written: str, folder: str) -> None:
    assert places.as_filer_folder(written) == folder


@pytest.mark.parametrize("written", ["", "a", "/a/../b", "/./a"])
def test_bad_filer_folders(written: str) -> None:
    with pytest.raises(BadValue):
        places.as_filer_folder(written)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://localhost:8333", "http://localhost:8333"),
        ("https://s3.example.com/", "https://s3.example.com"),
        ("localhost:8333", "https://localhost:8333"),
        ("http://[::1]:8333", "http://[::1]:8333"),
        ("", ""),
    ],
)
def test_endpoints(written: str, url: str) -> None:
    assert places.as_endpoint(written) == url


@pytest.mark.parametrize(
    "written", ["ftp://h", "http://", "http://h:99999", "http://h/bucket", "http://h?x=1", "http://a b"]
)
def test_bad_endpoints(written: str) -> None:
    with pytest.raises(BadValue, match="must be a URL"):
        places.as_endpoint(written)


@pytest.mark.parametrize(
    "written", ["https://user:hunter22@h", "http//user:hunter22@h", "ftp://user:hunter22@h?x"]
)
def test_an_endpoint_with_a_password_is_refused_without_repeating_it(written: str) -> None:
    with pytest.raises(BadValue) as caught:
        places.as_endpoint(written)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("written", ["s3://b", "b/dir", "a b", "b\n", "-b", "x" * 256])
def test_bad_buckets(written: str) -> None:
    with pytest.raises(BadValue, match="must be the name of a bucket"):
        places.as_bucket(written)


def test_an_error_names_origin_key_and_remedy() -> None:
    found = Values({"a.b": Raw("x", "/etc/f.toml", "/etc/f.toml: a.b")}, fallback="/etc/f.toml")
    with pytest.raises(UsageError, match=r"^/etc/f\.toml: a\.b: must be true or false, not 'x'$") as caught:
        found.get("a.b", values.as_bool, False)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, FilerBackupError)
    assert found.label("c.d") == "/etc/f.toml: c.d"
    assert found.get("c.d", values.as_bool, True) is True


def test_a_raw_value_does_not_show_itself() -> None:
    assert "hunter22" not in repr(Raw("hunter22", "/etc/f.toml", "/etc/f.toml: a.b"))
