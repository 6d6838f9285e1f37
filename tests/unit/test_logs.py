"""The log: its formats, what hostile names and secrets can do in it, and who may speak."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.observe.logs import LogHandler, bind, configure, escaped
from filerbackup.settings.secret import Secret

CHATTY = ("asyncio", "aiohttp", "grpc", "urllib3", "aiobotocore", "botocore")


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, levels = root.level, {name: logging.getLogger(name).level for name in CHATTY}
    # What pytest itself collects goes into its report, which cannot hold a lone surrogate.
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        for name, old in levels.items():
            logging.getLogger(name).setLevel(old)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with logging_as_it_was():
        yield


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("filerbackup.test")


def fail(message: str) -> None:
    raise ValueError(message)


# -- formats ---------------------------------------------------------------------------------------


def test_json_lines(stream: io.StringIO, log: logging.Logger) -> None:
    configure("json", "info", stream)
    log.info("copied %d", 3, extra={"sink": "s3", "path": "/a/ü\n", "ts_ns": 5, "err": None, "ok": True})
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line.isascii()
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("ts"))
    assert found == {
        "level": "info", "logger": "filerbackup.test", "msg": "copied 3", "sink": "s3", "path": "/a/ü\n",
        "ts_ns": 5, "err": None, "ok": True,
    }  # fmt: skip


def test_json_of_odd_values(stream: io.StringIO, log: logging.Logger) -> None:
    configure("json", "info", stream)
    log.info(
        "x",
        extra={"raw": b"\xffa", "nan": float("nan"), "err": OSError("no"), "set": [1], "level": 1, "exc": 2},
    )
    found = json.loads(stream.getvalue())
    assert (found["raw"], found["nan"], found["err"], found["set"]) == ("\\xffa", "nan", "no", "[1]")
    assert (found["level"], found["level_"], found["exc_"]) == ("info", 1, 2)


def test_json_escapes_even_del(stream: io.StringIO, log: logging.Logger) -> None:
    configure("json", "info", stream)
    log.info("x", extra={"path": "a\x7fb"})
    assert stream.getvalue()[:-1].isprintable()
    assert json.loads(stream.getvalue())["path"] == "a\x7fb"


def test_json_with_a_traceback(stream: io.StringIO, log: logging.Logger) -> None:
    configure("json", "info", stream)
    try:
        fail("boom")
    except ValueError:
        log.exception("failed")
    found = json.loads(stream.getvalue())
    assert found["exc"].startswith("Traceback (most recent call last):")
    assert found["exc"].endswith("ValueError: boom")


def test_text_lines(stream: io.StringIO, log: logging.Logger) -> None:
    configure("text", "info", stream)
    log.info("copied %d", 3, extra={"sink": "s3", "path": "/a b/ü", "n": 5, "none": None, "ok": True})
    log.warning("slow")
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO  copied 3 sink=s3 path="/a b/ü" n=5 none="" ok=true', first
    )
    assert re.fullmatch(r"\S+Z WARNING slow", second)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain/é", "plain/é"),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a\nINFO fake", '"a\\nINFO fake"'),
        ("a\x1b[2J", '"a\\x1b[2J"'),
        ("a\u202eb", '"a\\u202eb"'),
        ("a\x9bb", '"a\\x9bb"'),
        ("a\udcffb", '"a\\udcffb"'),
        ("a\u2028b", '"a\\u2028b"'),
        ("", '""'),
    ],
)
def test_hostile_names_in_text(stream: io.StringIO, log: logging.Logger, name: str, shown: str) -> None:
    configure("text", "info", stream)
    log.info("x", extra={"path": name})
    assert stream.getvalue().endswith(f"INFO  x path={shown}\n")


@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_nothing_breaks_out_of_its_line(message: str, value: str) -> None:
    for form in ("text", "json"):
        stream = io.StringIO()
        with logging_as_it_was():
            configure(form, "info", stream)  # type: ignore[arg-type]
            logging.getLogger("filerbackup.test").info("%s", message, extra={"path": value})
        line = stream.getvalue()
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        if form == "json":
            found = json.loads(line)
            assert (found["msg"], found["path"]) == (message, value)


def test_a_traceback_in_text_cannot_pass_for_a_line(stream: io.StringIO, log: logging.Logger) -> None:
    configure("text", "info", stream)
    try:
        fail("boom\n2026-11-21T20:00:00Z INFO  all is well \x1b[2J")
    except ValueError:
        log.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR failed")
    assert rest
    assert all(line.startswith("  | ") for line in rest)
    assert "\x1b" not in stream.getvalue()


def test_escaped_leaves_printable_text_alone() -> None:
    assert escaped("é 😀 日本") == "é 😀 日本"
    assert escaped("a\tb\x7f") == "a\\tb\\x7f"


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_registered_secrets_are_blanked_everywhere(
    stream: io.StringIO, log: logging.Logger, form: str
) -> None:
    secret = 'hun/ter "22+\\é'
    handler = configure(form, "info", stream)  # type: ignore[arg-type]
    handler.register_secret(Secret(secret))
    handler.register_secret(Secret("hun/ter"))
    log.info(
        "given %s", secret, extra={"field": f"x{secret}x", "url": f"http://h/?k={quote(secret, safe='')}"}
    )
    log.info(
        "in a list %r", [secret], extra={"list": [secret], "raw": secret.encode(), "err": OSError(secret)}
    )
    try:
        fail(f"could not use {secret!r}")
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert written.count("***") >= 8
    for part in ("hun/ter", "hun%2Fter", "22+", "22%2B"):
        assert part not in written


def test_names_are_not_looked_through_for_what_only_resembles_a_token(
    stream: io.StringIO, log: logging.Logger
) -> None:
    handler = configure("json", "info", stream)
    handler.register_secret(Secret("hunter22"))
    name = "a?token=production-2024/Bearer 0123456789abcdef"
    log.info("x", extra={"path": f"{name}/hunter22", "key": name, "to": name.encode(), "err": name})
    logging.getLogger("library").warning("x", extra={"path": name})
    ours, theirs = map(json.loads, stream.getvalue().splitlines())
    assert (ours["path"], ours["key"], ours["to"]) == (f"{name}/***", name, name)
    assert "***" in ours["err"]
    assert "***" in theirs["path"]


def test_short_secrets_do_not_blank_ordinary_words(stream: io.StringIO, log: logging.Logger) -> None:
    handler = configure("text", "info", stream)
    for value in ("", "any"):
        handler.register_secret(Secret(value))
    log.info("as many as any")
    assert stream.getvalue().endswith("as many as any\n")


def test_secrets_belong_to_one_handler(stream: io.StringIO, log: logging.Logger) -> None:
    configure("text", "info", io.StringIO()).register_secret(Secret("hunter22"))
    configure("text", "info", stream)
    log.info("hunter22")
    assert "hunter22" in stream.getvalue()


def test_a_message_that_cannot_be_formatted_gives_nothing_away(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%d files", ("hunter22",), None)
    LogHandler(stream).handle(record)
    line = stream.getvalue()
    assert "ERROR a log line could not be formatted where=test_logs.py:" in line
    assert "err=TypeError" in line
    assert "hunter22" not in line + capsys.readouterr().err


# -- streams, levels, libraries --------------------------------------------------------------------


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_that_is_gone_stops_nothing(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info", Gone())
    log.info("hello")
    closed = io.StringIO()
    closed.close()
    configure("text", "info", closed)
    log.info("hello")
    assert capsys.readouterr().err == ""


def test_a_stream_that_knows_few_characters(log: logging.Logger) -> None:
    raw = io.BytesIO()
    configure("text", "info", io.TextIOWrapper(raw, encoding="ascii"))
    log.info("é😀")
    assert raw.getvalue().endswith(b"\\xe9\\U0001f600\n")


def test_configuring_again_replaces_the_handler(stream: io.StringIO, log: logging.Logger) -> None:
    configure("text", "info", stream)
    configure("text", "info", stream)
    log.info("once")
    assert stream.getvalue().count("once") == 1


@pytest.mark.parametrize(
    ("level", "heard"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")]
)
def test_levels(stream: io.StringIO, log: logging.Logger, level: str, heard: str) -> None:
    configure("text", level, stream)
    for letter, number in (("d", 10), ("i", 20), ("w", 30), ("e", 40)):
        log.log(number, "said-%s", letter)
    assert "".join(re.findall(r"said-(\w)", stream.getvalue())) == heard


@pytest.mark.parametrize(
    ("level", "name", "lowest"),
    [
        ("info", "botocore.auth", logging.WARNING),
        ("info", "aiohttp.client", logging.WARNING),
        ("error", "grpc", logging.ERROR),
        ("debug", "grpc", logging.DEBUG),
        ("debug", "asyncio", logging.DEBUG),
        ("debug", "botocore.auth", logging.INFO),
        ("debug", "aiobotocore", logging.INFO),
        ("info", "azure.core.pipeline.policies.http_logging_policy", logging.WARNING),
        ("debug", "b2sdk", logging.INFO),
        ("debug", "google.auth.transport.requests", logging.INFO),
    ],
)
def test_libraries_speak_only_when_they_should(
    stream: io.StringIO, level: str, name: str, lowest: int
) -> None:
    configure("text", level, stream)
    library = logging.getLogger(name)
    assert library.isEnabledFor(lowest)
    assert not library.isEnabledFor(lowest - 10)


def test_botocore_keeps_its_details_to_itself_whatever_it_sets(stream: io.StringIO) -> None:
    configure("text", "debug", stream)
    stubborn = logging.getLogger("botocore.stubborn")
    stubborn.setLevel(logging.DEBUG)
    try:
        stubborn.debug("StringToSign")
    finally:
        stubborn.setLevel(logging.NOTSET)
    assert stream.getvalue() == ""


# -- bound fields ----------------------------------------------------------------------------------


def test_bound_fields(stream: io.StringIO, log: logging.Logger) -> None:
    configure("text", "info", stream)
    bound = bind(bind(log, sink="s3", path="/"), path="/a")
    bound.info("x", extra={"n": 1})
    bound.info("y", extra={"sink": "local"})
    first, second = stream.getvalue().splitlines()
    assert first.endswith("x sink=s3 path=/a n=1")
    assert second.endswith("y sink=local path=/a")


def test_fields_that_logging_owns_are_refused(log: logging.Logger) -> None:
    with pytest.raises(ValueError, match="not usable as names of fields: args, name"):
        bind(log, name="x", args="y")


def test_the_stream_is_borrowed_for_each_line(stream: io.StringIO, log: logging.Logger) -> None:
    handler = configure("text", "info", stream)

    @contextmanager
    def lent() -> Iterator[None]:
        stream.write("<")
        yield
        stream.write(">")

    handler.lent = lent
    log.info("x")
    assert re.fullmatch(r"<\S+ INFO  x\n>", stream.getvalue())
