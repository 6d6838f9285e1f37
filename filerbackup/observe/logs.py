"""Logging: lines for people or JSON for machines, with nothing in them that should not be.

Whatever comes from a network or a disk may be hostile. A file name cannot start a new line, move the
cursor or turn text around; a secret that the handler was told of is blanked wherever it turns up, in
tracebacks too, and so is what looks like a token or a signature, except in fields that hold names of files.
"""

from __future__ import annotations

import json
import logging
import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from filerbackup.redact import without_tokens
from filerbackup.settings.secret import Redactor, Secret

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_CHATTY = ("_cygrpc", "asyncio", "aiohttp", "grpc", "urllib3")
# At debug level these write whole requests with their signatures and tokens; azure, at info, every request.
_INDISCREET = ("aiobotocore", "azure", "b2sdk", "botocore", "google", "msal")

_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message", "asctime", "taskName",
}  # fmt: skip
_OURS = "filerbackup."
_NAMES = frozenset({"path", "key", "to"})
"""Fields of our own lines with the name of a file, which may look like anything."""
_PLAIN_VALUE = re.compile(r"[^\s\"'=\\]+")


def escaped(text: str) -> str:
    r"""The text with `\n`, `\x1b`, `\u202e` and the like for whatever does not print on one line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class _Formatter(logging.Formatter):
    """What both formats share: redacted message, fields and traceback."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._clean = redactor.clean
        self._clean_name = redactor.clean_name

    def message(self, record: logging.LogRecord) -> str:
        """The message with its arguments."""
        return self._clean(record.getMessage())

    def fields(self, record: logging.LogRecord) -> Iterable[tuple[str, object]]:
        """What came with `extra`, as plain values."""
        is_ours = record.name.startswith(_OURS)
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                is_name = is_ours and name in _NAMES
                yield name, self._plain(value, self._clean_name if is_name else self._clean)

    @staticmethod
    def _plain(value: object, clean: Callable[[str], str]) -> object:
        match value:
            case None | bool() | int():
                return value
            case float() if math.isfinite(value):
                return value
            case str():
                return clean(value)
            case bytes():
                return clean(value.decode("utf-8", "backslashreplace"))
            case BaseException():
                return clean(str(value) or type(value).__name__)
            case _:
                return clean(str(value))

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, or empty."""
        kind, error, where = record.exc_info or (None, None, None)
        if kind is None:
            return ""
        return self._clean("".join(traceback.format_exception(kind, error, where))).rstrip("\n")

    @staticmethod
    def moment(record: logging.LogRecord, timespec: str) -> str:
        """When it happened, as RFC 3339 in UTC."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


class JsonFormatter(_Formatter):
    """One JSON object a line: ts, level, logger, msg, the fields, and exc for a traceback.

    Pure ASCII, so that no locale and no terminal can spoil it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "ts": self.moment(record, "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": self.message(record),
        }
        for name, value in self.fields(record):
            line[name if name not in line and name != "exc" else name + "_"] = value
        if trace := self.trace(record):
            line["exc"] = trace
        # DEL is the one control character that JSON leaves alone.
        return json.dumps(line, ensure_ascii=True).replace("\x7f", "\\u007f")


class TextFormatter(_Formatter):
    """`2026-01-31T20:00:00Z INFO  message key=value`, and an indented traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a traceback."""
        parts = [
            self.moment(record, "seconds"),
            f"{record.levelname:<5}",
            escaped(self.message(record)),
            *(f"{name}={_quoted(value)}" for name, value in self.fields(record)),
        ]
        lines = [" ".join(parts)]
        if trace := self.trace(record):
            lines += ("  | " + escaped(line) for line in trace.split("\n"))
        return "\n".join(lines)


def _quoted(value: object) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    safe = escaped(text.replace("\\", "\\\\").replace('"', '\\"'))
    return text if _PLAIN_VALUE.fullmatch(text) and safe == text else f'"{safe}"'


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream; knows the secrets that must not appear in them.

    `lent`: how to borrow the stream from a display that draws on the same terminal.
    """

    def __init__(self, stream: TextIO, form: Literal["text", "json"] = "text") -> None:
        super().__init__(stream)
        self._redactor = Redactor()
        self.lent: Callable[[], AbstractContextManager[object]] = nullcontext
        self.setFormatter(JsonFormatter(self._redactor) if form == "json" else TextFormatter(self._redactor))
        self.addFilter(_is_discreet)

    def register_secret(self, secret: Secret) -> None:
        """Blank this secret in every line from now on."""
        self._redactor.register(secret)

    def clean(self, text: str) -> str:
        """Text for another place than the log, without the secrets that this handler knows."""
        return self._redactor.clean(text)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. A stream that is gone never stops the program."""
        try:
            line = self.format(record)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            line = self._unformatted(record, error)
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        try:
            with self.lent():
                self.stream.write(line + self.terminator)
                self.flush()
        except (OSError, ValueError):
            return

    def _unformatted(self, record: logging.LogRecord, error: Exception) -> str:
        """For a message whose arguments do not fit it: where it stands, and neither of them."""
        where = f"{record.filename}:{record.lineno}"
        broken = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno,
            "a log line could not be formatted", (), None,
        )  # fmt: skip
        broken.__dict__ |= {"where": where, "err": type(error).__name__}
        return self.format(broken)


def _is_discreet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or record.name.split(".", 1)[0] not in _INDISCREET


def cleaned(text: str) -> str:
    """The text without secrets, as far as the handlers that are configured know them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler):
            text = handler.clean(text)
    return without_tokens(text)


def configure(form: Literal["text", "json"], level: str, stream: TextIO) -> LogHandler:
    """Send everything that is logged in this process to `stream`, and return the handler.

    `level` is one of `LEVELS`. A handler that was configured before is replaced. Libraries speak
    from warnings up, unless `level` is debug; those of the clouds then still keep details to themselves.
    """
    number = LEVELS[level]
    handler = LogHandler(stream, form)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, LogHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    debug = number <= logging.DEBUG
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else max(number, logging.WARNING))
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(logging.INFO if debug else max(number, logging.WARNING))
    return handler


class BoundLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose every line carries some fields; a call's own `extra` goes on top of them."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Merge the fields."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def bind(logger: logging.Logger | BoundLogger, **fields: object) -> BoundLogger:
    """A logger that adds `fields` (`sink`, `path`, `ts_ns`, `err`, …) to every line.

    Raises ValueError for a field that is named like an attribute of a log record (`name`, `args`, …).
    """
    if taken := _STANDARD & fields.keys():
        raise ValueError(f"not usable as names of fields: {', '.join(sorted(taken))}")
    if isinstance(logger, BoundLogger):
        return BoundLogger(logger.logger, {**(logger.extra or {}), **fields})
    return BoundLogger(logger, fields)
