"""Names, metadata, settings and answers of the Azure sink: what needs no service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import ObjectRejected, SinkRefused, UsageError
from filerbackup.settings.model import AzureSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.azure import AzureStore
from filerbackup.sinks.azure.answers import NotAzure, parse_batch, parse_blob, parse_error, parse_page
from filerbackup.sinks.azure.blocks import block_id, block_list, new_upload_id
from filerbackup.sinks.azure.connection import account_of
from filerbackup.sinks.azure.dialect import DIALECT, blob_headers, good_tags, tier_of, user_metadata
from filerbackup.sinks.azure.errors import Answered, classify
from filerbackup.sinks.azure.names import check_name
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.errors import one_line

KEY = Secret("aGFsbG8=")


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, endpoint, identity",
    [
        (AzureSettings("azure", container="c", account_name="acc"),
         "https://acc.blob.core.windows.net", "https://acc.blob.core.windows.net"),
        (AzureSettings("azure", container="c", endpoint="https://acc.blob.core.chinacloudapi.cn/"),
         "https://acc.blob.core.chinacloudapi.cn", "https://acc.blob.core.chinacloudapi.cn"),
        (AzureSettings("azure", container="c", account_name="acc", account_key=KEY, endpoint="http://1.2.3.4:10000/acc"),
         "http://1.2.3.4:10000/acc", "http://1.2.3.4:10000/acc"),
        (AzureSettings("azure", container="c", account_name="acc", endpoint="https://blobs.example.com"),
         "https://blobs.example.com", "https://blobs.example.com?account=acc"),
    ],
)  # fmt: skip
def test_where_an_account_is(settings: AzureSettings, endpoint: str, identity: str) -> None:
    account = account_of(settings)
    assert (account.endpoint, account.identity) == (endpoint, identity)


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"container": ""}, "container"),
        ({"account_name": ""}, "account_name"),
        ({"endpoint": "blobs.example.com"}, "endpoint"),
        ({"endpoint": "https://h/?sig=secret"}, "endpoint"),
        ({"endpoint": "http://h/acc", "account_key": Secret()}, "https"),
        ({"endpoint": "https://h", "account_name": ""}, "account_name"),
        ({"account_key": Secret("no base64!")}, "account_key"),
        ({"storage_class": "STANDARD_XL"}, "storage_class"),
    ],
)
def test_settings_that_cannot_be_used(changes: dict[str, object], word: str) -> None:
    given: dict[str, object] = {"container": "c", "account_name": "acc", "account_key": KEY}
    with pytest.raises(UsageError, match=word) as caught:
        AzureStore(AzureSettings("azure", **(given | changes)))  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


# -- metadata ---------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_names_of_metadata_are_identifiers(given_name: str) -> None:
    name = DIALECT.name_of(given_name.lower())
    assert name is None or (name.isascii() and name.isidentifier() and name != "hdi_isfolder")


@given(st.binary(max_size=60))
def test_values_of_metadata_are_for_a_header(raw: bytes) -> None:
    value = DIALECT.value_of(raw)
    assert value is None or (value.isascii() and value.isprintable() and value == value.strip() and value)


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_799 * 10**9))
def test_times_come_back(time_ns: int) -> None:
    kept = DIALECT.time(time_ns)
    assert DIALECT.parse_time(kept) == time_ns
    assert len(kept["mtime"]) == len("2001-02-03T04:05:06.789000000Z")


def test_a_time_that_cannot_be_said_is_left_out() -> None:
    assert DIALECT.time(10**30) == {}
    assert DIALECT.time(-(10**30)) == {}


def test_what_goes_into_the_headers() -> None:
    metadata = ObjectMetadata(
        content_type="text/plain", storage_class="GLACIER_IR", expires="never", cache_control="no-cache",
        user={"mode": "100644", "md5chksum": "x"}, tags={"a": "b c", "ü": "x", "d": "&"},
    )  # fmt: skip
    assert blob_headers(metadata, folder=True, tags=True) == {
        "x-ms-blob-content-type": "text/plain",
        "x-ms-blob-cache-control": "no-cache",
        "x-ms-access-tier": "Cold",
        "x-ms-meta-mode": "100644",
        "x-ms-meta-hdi_isfolder": "true",
        "x-ms-tags": "a=b%20c",
    }
    assert user_metadata(metadata) == {"mode": "100644"}
    assert good_tags(metadata) == {"a": "b c"}
    assert "x-ms-tags" not in blob_headers(ObjectMetadata(tags={"ü": "x"}), folder=False, tags=True)


def test_storage_classes() -> None:
    tiers = {name: tier_of(name) for name in ("", "hot", "STANDARD_IA", "DEEP_ARCHIVE", "Frozen")}
    assert tiers == {"": "", "hot": "Hot", "STANDARD_IA": "Cool", "DEEP_ARCHIVE": "Archive", "Frozen": None}


# -- names and blocks -------------------------------------------------------------------------------


def test_names() -> None:
    for good in ("é" * 1024, "/".join("x" * 254), "a\tb"):
        check_name(good)
    for bad in ("é" * 1025, "/".join("x" * 255), "\x01"):
        with pytest.raises(ObjectRejected):
            check_name(bad)


def test_block_ids_are_alike_and_never_shared() -> None:
    uploads = [new_upload_id() for _ in range(3)]
    ids = [block_id(upload, number) for upload in uploads for number in (1, 2, 50_000)]
    assert {len(each) for each in ids} == {24}
    assert len(set(ids)) == 9
    assert block_list(ids[:2]).count(b"<Uncommitted>") == 2


# -- answers ----------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_nothing_that_comes_breaks_a_reader(body: bytes) -> None:
    parse_error(body)
    for read in (
        lambda: parse_page(body, ""),
        lambda: parse_batch("multipart/mixed; boundary=b", b"--b\r\n" + body),
    ):
        try:
            read()
        except NotAzure:
            continue


def test_a_page_with_odd_names() -> None:
    page = parse_page(
        b"<EnumerationResults><Blobs>"
        b'<Blob><Name Encoded="true">a/%EF%BF%BFb</Name><Properties><Content-Length>1</Content-Length>'
        b"<Etag>0x8D</Etag><Content-MD5>1B2M2Y8AsgTpgAmY7PhCfg==</Content-MD5></Properties>"
        b"<Metadata><MTime>x</MTime></Metadata></Blob>"
        b'<Blob><Name Encoded="true">%FF</Name></Blob>'
        b"<Blob><Name>a/dir</Name><Properties><ResourceType>directory</ResourceType>"
        b"<Content-Length>0</Content-Length></Properties></Blob>"
        b"</Blobs><NextMarker>more</NextMarker></EnumerationResults>",
        "a/",
    )
    (found,) = page.objects
    assert (found.name, found.etag, len(found.md5), found.user) == ("a/\uffffb", "0x8D", 16, {"mtime": "x"})
    assert (page.truncated, page.token) == (True, "more")


def test_the_answer_to_a_batch_goes_by_its_ids() -> None:
    body = (
        b"--b\r\nContent-Type: application/http\r\nContent-ID: 1\r\n\r\nHTTP/1.1 404 Not there\r\n"
        b"x-ms-error-code: BlobNotFound\r\n\r\n<xml/>\r\n--b\r\nContent-Type: application/http\r\n"
        b"Content-ID: 0\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n\r\n--b--\r\n"
    )
    assert parse_batch('multipart/mixed; boundary="b"', body) == {1: (404, "BlobNotFound"), 0: (202, "")}
    with pytest.raises(NotAzure):
        parse_batch("text/html", body)


def test_the_target_of_a_pending_copy_has_no_size() -> None:
    headers = {"Content-Length": "5", "x-ms-copy-status": "pending", "x-ms-meta-A": "b"}
    assert parse_blob("x", headers).head.size == -1
    assert parse_blob("x", headers | {"x-ms-copy-status": "success"}).head.size == 5
    with pytest.raises(NotAzure):
        parse_blob("x", {"Content-Length": "-5"})


def test_texts_of_the_service_are_one_line_without_signatures() -> None:
    error = classify(Answered(403, "AuthenticationFailed", "see https://h/x?sig=abc\nsecond"), "azure:c")
    assert isinstance(error, SinkRefused)
    assert "sig=" not in str(error)
    assert "\n" not in str(error)
    assert len(one_line("x" * 1000)) < 400
