"""Metadata for objects: rclone's convention, and nothing that could break a request."""

from __future__ import annotations

import dataclasses
import email.header
import re
import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.sinks.local.versions import version_of
from filerbackup.sinks.metadata import (
    ObjectMetadata,
    content_version,
    has_content,
    header_value,
    is_same,
)
from filerbackup.sinks.metadata import object_metadata as metadata_of
from filerbackup.sinks.metadata import with_proof as proof_of
from filerbackup.sinks.objects.times import parse_rfc3339, parse_unix_seconds, rfc3339, unix_seconds
from filerbackup.sinks.s3.dialect import S3_DIALECT

MD5_NAME, VERSION_NAME, USER_METADATA_BYTES = S3_DIALECT.md5, S3_DIALECT.version, S3_DIALECT.room_bytes


def object_metadata(entry: Entry) -> ObjectMetadata:
    return metadata_of(entry, S3_DIALECT)


def with_proof(metadata: ObjectMetadata, entry: Entry, *, tag_is_md5: bool) -> ObjectMetadata:
    return proof_of(metadata, entry, S3_DIALECT, tag_is_md5=tag_is_md5)


def is_proven(user: dict[str, str], entry: Entry) -> bool:
    return is_same(user, b"", entry, S3_DIALECT)


def entry(**changes: object) -> Entry:
    return dataclasses.replace(Entry("/f", EntryKind.FILE), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (981_173_106_789_000_000, "981173106.789"),
        (1_712_345_678_000_000_000, "1712345678"),
        (1_712_345_678_123_456_789, "1712345678.123456789"),
        (-1_500_000_000, "-1.5"),
        (100_000_000_000, "100"),
    ],
)
def test_times_as_rclone_writes_them(time_ns: int, text: str) -> None:
    assert unix_seconds(time_ns) == text
    assert parse_unix_seconds(text) == time_ns


@given(st.integers(-(10**18), 10**20))
def test_every_time_comes_back(time_ns: int) -> None:
    assert parse_unix_seconds(unix_seconds(time_ns)) == time_ns


@given(st.integers(-(10**18), 10**20), st.sampled_from([None, 9]))
def test_every_time_comes_back_from_a_date(time_ns: int, digits: int | None) -> None:
    assert parse_rfc3339(rfc3339(time_ns, digits=digits)) == time_ns


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2001-02-03T04:05:06.789Z", 981_173_106_789_000_000),
        ("2001-02-03T05:05:06+01:00", 981_173_106_000_000_000),
        ("2001-02-03T04:05:06.789", None),
        ("2001-02-33T04:05:06Z", None),
        ("2001-02-03 04:05:06Z", None),
        ("", None),
    ],
)
def test_dates_in_any_zone(text: str, time_ns: int | None) -> None:
    assert parse_rfc3339(text) == time_ns


@pytest.mark.parametrize(
    "text", ["", "x", "1.", ".5", "1e9", "1.0000000000", "１", "1 ", "+1", "9" * 13, "-"]
)
def test_what_is_no_time(text: str) -> None:
    assert parse_unix_seconds(text) is None


def test_the_four_names() -> None:
    found = object_metadata(entry(mode=stat.S_IFREG | 0o4640, uid=1000, gid=7, mtime_ns=1_500_000_000))
    assert found.user == {"mtime": "1.5", "mode": "104640", "uid": "1000", "gid": "7"}
    assert found.content_type == "application/octet-stream"
    assert found.dropped == ()


def test_type_bits_are_there_also_when_the_source_gave_none() -> None:
    for kind, mode in (
        (EntryKind.FILE, "100600"),
        (EntryKind.SYMLINK, "120600"),
        (EntryKind.DIRECTORY, "40600"),
    ):
        assert object_metadata(entry(kind=kind, mode=0o600)).user["mode"] == mode


def test_what_clients_sent_is_kept_whatever_its_case() -> None:
    found = object_metadata(
        entry(
            mime="text/html; charset=utf-8",
            extended={
                "X-Amz-Meta-Colour": b"blue",
                "x-amz-meta-UID": b"user's own",
                "X-Amz-Tagging-Key Of/Case": b"a+b=c:d@e.f/g-h_i j",
                "cache-control": b"no-cache",
                "Expires": b"Wed, 21 Oct 2037 07:28:00 GMT",
                "X-Amz-Storage-Class": b"GLACIER",
                "Seaweed-X-Amz-ETag": b"private",
            },
        )
    )
    assert found.content_type == "text/html; charset=utf-8"
    assert found.user["colour"] == "blue"
    assert found.user["uid"] == "0"
    assert found.user["source-uid"] == "user's own"
    assert found.tags == {"Key Of/Case": "a+b=c:d@e.f/g-h_i j"}
    assert (found.cache_control, found.expires) == ("no-cache", "Wed, 21 Oct 2037 07:28:00 GMT")
    assert found.dropped == ()


@pytest.mark.parametrize(
    "raw", ["Jürgen".encode(), "日本語" * 30 + "x", b"a\nb", b" edge ", b"\xff\xfe", b"\x00", b"\t"]
)
def test_values_that_are_not_ascii_can_be_decoded_again(raw: bytes | str) -> None:
    raw = raw.encode() if isinstance(raw, str) else raw
    value = header_value(raw)
    assert re.fullmatch(r"[!-~]([ -~]*[!-~])?", value)
    assert all(len(word) <= 75 for word in value.split(" "))
    decoded = str(email.header.make_header(email.header.decode_header(value)))
    try:
        assert decoded == raw.decode()
    except UnicodeDecodeError:
        assert decoded == raw.decode("latin-1")


NAMES = st.one_of(
    st.text(max_size=20),
    st.text(max_size=20).map(lambda text: f"X-Amz-Meta-{text}"),
    st.text(max_size=20).map(lambda text: f"X-Amz-Tagging-{text}"),
    st.sampled_from(
        ["Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires"]
    ),
)


@given(
    extended=st.dictionaries(
        NAMES, st.one_of(st.binary(max_size=60), st.binary(min_size=900, max_size=1100))
    ),
    mime=st.text(max_size=20),
)
@example({"X-Amz-Meta-a\r\nHost: evil": b"x", "X-Amz-Meta-b": b"x\r\nHost: evil"}, "text/x\r\nHost: evil")
def test_nothing_can_break_a_request(extended: dict[str, bytes], mime: str) -> None:
    found = object_metadata(entry(extended=extended, mime=mime))
    user = with_proof(found, entry(chunks=(Chunk("1,2", 0, 1, 1),)), tag_is_md5=False).user

    assert {"mtime", "mode", "uid", "gid"} <= user.keys()
    assert sum(len(name) + len(value) for name, value in user.items()) <= USER_METADATA_BYTES
    for name, value in user.items():
        assert re.fullmatch(r"[!-9;-~]+", name) and name == name.lower()
        assert value == "" or re.fullmatch(r"[!-~]([ -~]*[!-~])?", value)
    headers = (
        found.content_type, found.cache_control, found.content_disposition, found.content_encoding,
        found.content_language, found.expires,
    )  # fmt: skip
    for value in headers:
        assert value == "" or re.fullmatch(r"[!-~]([ -~]*[!-~])?", value)
    assert len(found.tags) <= 10
    for name, value in found.tags.items():
        assert 1 <= len(name) <= 128 and len(value) <= 256
        assert "\n" not in name + value


def test_the_limit_is_for_all_together() -> None:
    found = object_metadata(entry(extended={f"X-Amz-Meta-M{number}": b"v" * 700 for number in range(4)}))
    assert found.user.keys() - {"mtime", "mode", "uid", "gid"} == {"m0", "m1"}
    assert found.dropped == ("x-amz-meta-m2", "x-amz-meta-m3")


def test_what_does_not_fit_is_named() -> None:
    extended = {
        "X-Amz-Meta-Big": b"x" * 3000,
        "X-Amz-Meta-Small": b"y",
        "X-Amz-Meta-sp ace": b"z",
        "X-Amz-Tagging-aws:x": b"z",
        "Content-Encoding": "ü".encode(),
        **{f"X-Amz-Tagging-t{number:02d}": b"v" for number in range(12)},
    }
    found = object_metadata(entry(extended=extended))
    assert found.user["small"] == "y"
    assert len(found.tags) == 10
    assert set(found.dropped) == {
        "x-amz-meta-big", "x-amz-meta-sp ace", "x-amz-tagging-aws:x", "content-encoding",
        "x-amz-tagging-t10", "x-amz-tagging-t11",
    }  # fmt: skip


SECOND = 1_700_000_000_000_000_000
"""The S3 gateway of SeaweedFS keeps no fractions."""


@pytest.mark.parametrize("tag_is_md5", [True, False])
def test_a_copy_is_told_by_its_md5(tag_is_md5: bool) -> None:
    source = entry(size=5, mtime_ns=SECOND, md5=bytes(range(16)))
    user = with_proof(object_metadata(source), source, tag_is_md5=tag_is_md5).user

    assert (MD5_NAME in user) is not tag_is_md5
    assert is_proven(user, source) is not tag_is_md5
    assert not is_proven(user, dataclasses.replace(source, md5=bytes(16)))
    assert not is_proven(user, dataclasses.replace(source, mtime_ns=SECOND + 10**9))


def test_a_copy_without_md5_is_told_by_what_the_filer_keeps_it_under() -> None:
    source = entry(size=5, mtime_ns=SECOND, chunks=(Chunk("3,01", 0, 5, 1),))
    user = with_proof(object_metadata(source), source, tag_is_md5=True).user

    assert user[VERSION_NAME] == content_version(source)
    assert is_proven(user, source)
    assert not is_proven(user, dataclasses.replace(source, chunks=(Chunk("3,02", 0, 5, 1),)))
    assert not is_proven({**user, "mtime": "1"}, source)


def test_without_any_proof_only_a_fraction_of_a_second_is_believed() -> None:
    for mtime_ns, proven in ((SECOND, False), (SECOND + 1, True)):
        source = entry(size=5, mtime_ns=mtime_ns)
        assert is_proven(object_metadata(source).user, source) is proven
    empty = entry(size=0, mtime_ns=SECOND)
    assert is_proven(object_metadata(empty).user, empty)
    assert not is_proven({}, empty)


def test_content_in_the_entry_itself_is_a_version_too() -> None:
    one, two = entry(content=b"one"), entry(content=b"two")
    assert content_version(one) != content_version(two) != ""
    assert content_version(entry()) == ""


def test_versions_that_copies_carry_are_still_made_the_same_way() -> None:
    source = entry(size=4, content=b"ab", chunks=(Chunk("3,01ab", 2, 2, 7),), md5=b"m" * 16)
    assert content_version(source) == "124373fc370464c94723eb027b12880a"
    assert version_of(source).hex() == "31cd6292f78a64fa70212d5df682a93c42"


def test_content_is_known_by_md5_or_by_version_and_else_not_at_all() -> None:
    chunked = entry(size=4, chunks=(Chunk("3,01", 0, 4, 1),))
    hashed = dataclasses.replace(chunked, md5=b"m" * 16)
    version = {VERSION_NAME: content_version(chunked)}
    kept = {MD5_NAME: "bW1tbW1tbW1tbW1tbW1tbQ=="}
    for user, md5, given_entry, wanted in (
        (version, b"", chunked, True),
        ({VERSION_NAME: "0" * 32}, b"", chunked, False),
        ({}, b"", chunked, None),
        ({}, b"m" * 16, hashed, True),
        ({}, b"x" * 16, hashed, False),
        (kept, b"", hashed, True),
        ({MD5_NAME: "other"}, b"", hashed, False),
        ({}, b"", entry(), True),
    ):
        assert has_content(user, md5, given_entry, S3_DIALECT) is wanted


def test_the_storage_class_is_ours_or_the_sources_only_when_asked() -> None:
    archived = entry(extended={"X-Amz-Storage-Class": b"STANDARD_IA"})
    hostile = entry(extended={"X-Amz-Storage-Class": b"A\r\nB: c"})
    for given_entry, setting, wanted in (
        (archived, "", ""),
        (archived, "GLACIER_IR", "GLACIER_IR"),
        (archived, "source", "STANDARD_IA"),
        (entry(), "source", ""),
        (entry(), "GLACIER_IR", "GLACIER_IR"),
        (hostile, "source", ""),
    ):
        assert metadata_of(given_entry, S3_DIALECT, storage_class=setting).storage_class == wanted
