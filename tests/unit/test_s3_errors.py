"""What answers of S3 mean, and that no name, secret or page of text gets through."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

from filerbackup.errors import ObjectRejected, SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from filerbackup.sinks.objects.errors import Unanswered, one_line
from filerbackup.sinks.s3.answers import NotS3, parse_error, parse_head, parse_page
from filerbackup.sinks.s3.errors import Answered, classify, from_botocore, from_obstore


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", SinkThrottled),
        (429, "", SinkThrottled),
        (400, "RequestLimitExceeded", SinkThrottled),
        (500, "InternalError", SinkUnavailable),
        (503, "", SinkUnavailable),
        (502, "", SinkUnavailable),
        (408, "RequestTimeout", SinkUnavailable),
        (400, "RequestTimeout", SinkUnavailable),
        (400, "BadDigest", SinkUnavailable),
        (400, "SomethingNew", SinkUnavailable),
        (404, "NoSuchUpload", SinkUnavailable),
        (409, "OperationAborted", SinkUnavailable),
        (403, "AccessDenied", SinkRefused),
        (403, "", SinkRefused),
        (401, "", SinkRefused),
        (403, "RequestTimeTooSkewed", SinkRefused),
        (404, "NoSuchBucket", SinkRefused),
        (400, "ExpiredToken", SinkRefused),
        (301, "PermanentRedirect", SinkRefused),
        (405, "", SinkRefused),
        (400, "KeyTooLongError", ObjectRejected),
        (400, "MetadataTooLarge", ObjectRejected),
        (413, "", ObjectRejected),
        (400, "EntityTooLarge", ObjectRejected),
    ],
)
def test_every_answer_has_its_meaning(status: int, code: str, kind: type[SinkError]) -> None:
    error = classify(Answered(status, code, "said so"), "s3:b: PUT 'k'")
    assert type(error) is kind
    assert str(error).startswith(f"s3:b: PUT 'k': HTTP {status}")


def test_the_region_is_only_named_when_it_is_the_matter() -> None:
    assert classify(Answered(301, "PermanentRedirect", "", "eu-west-1"), "x").hint.startswith(
        "set region = 'eu-west-1'"
    )
    assert classify(Answered(400, "", "", "eu-west-1"), "x").hint.startswith("set region = 'eu-west-1'")
    assert "region" not in classify(Answered(403, "AccessDenied", "", "eu-west-1"), "x").hint
    assert "region" in classify(Answered(301, "PermanentRedirect"), "x").hint


def test_messages_are_one_short_clean_line() -> None:
    text = one_line("a\nb\x00 https://host/path?X-Amz-Signature=secret&x=y\u202e tail " + "x" * 1000)
    assert "\n" not in text and "\x00" not in text and "\u202e" not in text
    assert "secret" not in text and "https://host/path" in text
    assert len(text) <= 301


def _obstore(status: str, body: str, head: str = "Generic S3 error: ") -> str:
    return (
        f"{head}Error performing PUT http://h:1/b/k%20x in 4.2ms - Server returned non-2xx status code: "
        f"{status}: {body}\n\nDebug source:\nGeneric {{ status: 999 <Code>SlowDown</Code> }}"
    )


def test_answers_in_the_text_of_obstore() -> None:
    body = "<?xml version='1.0'?>\n<Error><Code>SlowDown</Code><Message>Reduce</Message><Key>k</Key></Error>"
    found = from_obstore(GenericError(_obstore("503 Service Unavailable", body)), "k")
    assert isinstance(found, Answered)
    assert (found.status, found.code, found.message) == (503, "SlowDown", "Reduce")

    found = from_obstore(GenericError(_obstore("502 Bad Gateway", "<html>nginx</html>")), "k")
    assert isinstance(found, Answered)
    assert (found.status, found.code) == (502, "")


def test_a_name_is_not_taken_for_an_answer() -> None:
    name = "Error performing PUT x in 1ms - Server returned non-2xx status code: 503 x: <Code>SlowDown</Code>"
    head = f"The operation lacked the necessary privileges to complete for path {name}: "
    denied = PermissionDeniedError(
        _obstore("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>", head)
    )
    found = from_obstore(denied, name)
    assert isinstance(found, Answered)
    assert (found.status, found.code) == (403, "AccessDenied")


@pytest.mark.parametrize("name", ["e", "P", "S3", "Server returned", " "])
def test_a_short_name_does_not_hide_the_answer(name: str) -> None:
    body = "<Error><Code>SlowDown</Code></Error>"
    for head in ("Generic S3 error: ", f"The operation lacked … for path {name}: "):
        found = from_obstore(GenericError(_obstore("503 Slow Down", body, head)), name)
        assert isinstance(found, Answered)
        assert (found.status, found.code) == (503, "SlowDown")
    absent = FileNotFoundError(_obstore("404 Not Found", "<html>", f"Object at location {name} not found: "))
    found = from_obstore(absent, name)
    assert isinstance(found, Answered)
    assert (found.status, found.code) == (404, "")


def test_connections_in_the_text_of_obstore() -> None:
    text = (
        "Generic S3 error: Error performing PUT http://h:1/b/k in 5ms - HTTP error: error sending request"
        '\n\nDebug source:\nOs { code: 111, kind: ConnectionRefused, message: "Connection refused" }'
    )
    found = from_obstore(GenericError(text), "k")
    assert isinstance(found, Unanswered) and not found.refused
    assert found.reason == "no answer: Connection refused"
    error = classify(found, "s3:b: PUT 'k'")
    assert type(error) is SinkUnavailable and "http://" not in str(error)

    found = from_obstore(UnauthenticatedError("... RuntimeError: secret text of a provider"), "k")
    assert isinstance(found, Unanswered) and found.refused
    assert "secret" not in found.reason


def test_answers_of_the_sdk() -> None:
    response = {
        "Error": {"Code": "403", "Message": "Forbidden"},
        "ResponseMetadata": {"HTTPStatusCode": 403, "HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}},
    }
    found = from_botocore(ClientError(response, "HeadObject"))  # type: ignore[arg-type]
    assert isinstance(found, Answered)
    assert (found.status, found.code, found.region) == (403, "", "eu-west-1")
    assert isinstance(classify(from_botocore(NoCredentialsError()), "x"), SinkRefused)
    down = from_botocore(EndpointConnectionError(endpoint_url="http://h:1/b?uploads&secret=1"))
    error = classify(down, "x")
    assert type(error) is SinkUnavailable and "secret" not in str(error)


PAGE = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>
<Contents><Key>a+b%2Bc%0A%C3%A9</Key><Size>5</Size><ETag>&quot;ABC&quot;</ETag></Contents>
<Contents><Key>%FF</Key><Size>5</Size></Contents>
<CommonPrefixes><Prefix>d+e/</Prefix></CommonPrefixes></ListBucketResult>"""


def test_a_page_of_a_listing() -> None:
    page = parse_page(PAGE.encode())
    assert [(found.name, found.size, found.etag) for found in page.objects] == [("a b+c\né", 5, "abc")]
    assert (page.prefixes, page.truncated, page.token) == (["d e/"], True, "t")
    plain = parse_page(PAGE.replace("<EncodingType>url</EncodingType>", "").encode())
    assert plain.objects[0].name == "a+b%2Bc%0A%C3%A9"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<html></html>",
        b"{}",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
            b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
        ) + b"]><ListBucketResult><Name>&j;</Name></ListBucketResult>",
    ],
    ids=range(7),
)  # fmt: skip
def test_pages_that_s3_would_never_send(body: bytes) -> None:
    with pytest.raises(NotS3):
        parse_page(body)


def test_errors_and_heads_that_s3_would_never_send() -> None:
    assert parse_error(b"<html><Code>x</Code></html>") == ("", "", "")
    with pytest.raises(NotS3):
        parse_head({"Content-Length": "many"})
    with pytest.raises(NotS3):
        parse_head({})


def test_a_signed_url_that_has_run_out_is_a_matter_of_the_clock() -> None:
    error = classify(Answered(403, "AccessDenied", "Request has expired"), "s3:b: list ''")
    assert isinstance(error, SinkRefused)
    assert "clock" in error.hint


def test_what_obstore_quotes_is_looked_through_as_it_was_said() -> None:
    """Entities hide the quotes by which a header is known."""
    quoted = "{'x-amz-security-token': 'planted-token'}".replace("'", "&#x27;")
    text = (
        "Generic S3 error: Error performing PUT http://h in 1ms - Server returned non-2xx status code: 403: "
        f"<Error><Code>AccessDenied</Code><Message>{quoted}</Message></Error>"
    )
    error = from_obstore(GenericError(text), "k")
    assert isinstance(error, Answered)
    assert "planted-token" not in str(classify(error, "s3:b: PUT 'k'"))
