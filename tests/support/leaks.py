"""Everything that a process shows of itself while it works, to be searched for secrets."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import logging
import traceback
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from aiohttp import web

from filerbackup.observe.logs import LogHandler, configure
from filerbackup.settings.model import SinkSettings
from filerbackup.settings.secret import secrets_in
from tests.support.proxy import Fault

SHORTEST = 8


class Shown:
    """What was seen: `log` as filerbackup writes it, `raw` as the libraries said it, `texts` of errors."""

    def __init__(self, log: io.StringIO, raw: io.StringIO) -> None:
        self._log, self._raw = log, raw
        self.texts: list[str] = []

    def add(self, error: BaseException) -> None:
        """An error, in every form in which it may be shown."""
        chain = "".join(traceback.format_exception(error))
        hint = str(getattr(error, "hint", ""))
        self.texts += [str(error), repr(error), hint, chain, repr(error.args)]

    def leaked(self, secrets: Iterable[str]) -> list[str]:
        """Where a secret can be seen, in any of its forms: a part of the text around it."""
        everything = {"log": self._log.getvalue(), "raw": self._raw.getvalue(), "text": "\n".join(self.texts)}
        found = []
        for form in {form for secret in secrets for form in forms(secret)}:
            for name, text in everything.items():
                if form in text:
                    place = text.index(form)
                    found.append(f"{name}: …{text[max(0, place - 150) : place + 60]!r}")
        return found

    def lines(self) -> int:
        """How many lines were logged, both ways."""
        return self._log.getvalue().count("\n") + self._raw.getvalue().count("\n")


@contextlib.contextmanager
def everything_shown(settings: object = None) -> Iterator[Shown]:
    """The most verbose logging; the handler knows the secrets in `settings`, as in a real process."""
    root = logging.getLogger()
    levels = {name: logger.level for name, logger in root.manager.loggerDict.items()
              if isinstance(logger, logging.Logger)}  # fmt: skip
    before = root.level
    log, raw = io.StringIO(), io.StringIO()
    handler: LogHandler = configure("text", "debug", log)
    for secret in secrets_in(settings):
        handler.register_secret(secret)
    plain = logging.StreamHandler(raw)
    plain.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    root.addHandler(plain)
    try:
        yield Shown(log, raw)
    finally:
        root.removeHandler(plain)
        root.removeHandler(handler)
        root.setLevel(before)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def forms(secret: str) -> set[str]:
    """The secret as it is, quoted for a URL, and in base64 wherever it may stand in there."""
    data = secret.encode()
    found = {secret, quote(secret, safe=""), repr(secret)[1:-1]}
    for shift, first in enumerate((0, 2, 3)):
        encoded = base64.b64encode(bytes(shift) + data).decode()[first : (shift + len(data)) * 8 // 6]
        found |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    return {form for form in found if len(form) >= SHORTEST}


def quotes(status: int, form: str) -> Fault:
    """A hostile server: its refusal holds the whole request, in the service's own words."""

    async def answer(request: web.Request, body: bytes) -> web.Response:
        said = (
            f"{request.method} {request.url} {request.query_string} {dict(request.headers)!r} {body[:400]!r}"
        )
        code = said if status == 400 else "AccessDenied"
        match form:
            case "xml":
                text = (
                    f'<?xml version="1.0"?><Error><Code>{html.escape(code)}</Code>'
                    f"<Message>{html.escape(said)}</Message></Error>"
                )
                return web.Response(status=status, text=text, content_type="application/xml")
            case "google":
                error = {"code": status, "message": said, "errors": [{"reason": code, "message": said}]}
                return web.json_response({"error": error}, status=status)
            case "b2":
                return web.json_response({"status": status, "code": code, "message": said}, status=status)
            case _:
                return web.Response(status=status, text=said)

    return answer


def own_form(settings: SinkSettings) -> str:
    """The form in which the settings' service says no."""
    return {"google_cloud_storage": "google", "backblaze": "b2"}.get(settings.name, "xml")
