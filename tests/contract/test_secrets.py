"""Nothing that identifies us is ever shown: with all logging on, in what goes well and in what fails.

Looked for are the secrets of the settings, and whatever really travelled: every token and signature
that the server was sent. In the second half a hostile server quotes to us all that it got.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from filerbackup.content import InlineContent
from filerbackup.errors import FilerBackupError
from filerbackup.settings.model import GcsSettings, S3Settings, SinkSettings
from filerbackup.settings.secret import Secret, secrets_in
from filerbackup.sinks.base import Sink
from filerbackup.sinks.registry import create_sink
from tests.contract.contents import NOTHING, StreamedContent, directory_entry, file_entry, symlink_entry
from tests.contract.place import WRONG_KEY, Place
from tests.support.gcs import TokenServer
from tests.support.leaks import Shown, everything_shown, own_form, quotes
from tests.support.proxy import Fault, Proxy, answers

LARGE = StreamedContent(6 << 20)
SESSION_TOKEN = "FwoGZXIvYXdzEPplanted/session+token=="
_CARRIED = re.compile(r"(?:X-Amz-Signature|X-Amz-Security-Token|sig)=([^&\s]+)")
_LIFE = re.compile(r"X-Amz-Expires=([0-9]+)")
MOST_LIFE_S = 300
"""Of a signed URL, which a proxy may log."""
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{32,})")


class Tokens(TokenServer):
    """Gives tokens that look like nothing in particular."""

    async def handle(self, request: web.Request) -> web.Response:
        answer = await super().handle(request)
        if self.refusal is None:
            token = f"planted-{secrets.token_hex(16)}"
            self.given[-1] = token
            return web.json_response({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})
        return answer


@asynccontextmanager
async def planted(place: Place, endpoint: str) -> AsyncIterator[SinkSettings]:
    """Settings with as many secrets as the service knows kinds of."""
    settings = place.settings(endpoint)
    assert settings is not None
    if isinstance(settings, S3Settings) and place.with_wrong_key() is None:
        settings = dataclasses.replace(settings, session_token=Secret(SESSION_TOKEN))
    if isinstance(settings, GcsSettings):
        async with Tokens().running() as tokens:
            yield dataclasses.replace(settings, credentials=Secret(tokens.key()))
    else:
        yield settings


def travelled(request: web.Request) -> Iterator[str]:
    """What of a request must not be known to others."""
    header = request.headers.get("Authorization", "")
    signature = _SIGNATURE.search(header)
    if signature:
        yield signature[1]
    elif header:
        yield header.rpartition(" ")[2].rpartition(":")[2]
    if token := request.headers.get("X-Amz-Security-Token"):
        yield token
    yield from _CARRIED.findall(request.raw_path)


def operations(sink: Sink) -> Sequence[tuple[str, Callable[[], Awaitable[object]]]]:
    small, link = file_entry("small", 5), symlink_entry("link", "small")

    async def read() -> None:
        async with aclosing(sink.read("small")) as blocks:  # type: ignore[type-var]
            async for _ in blocks:
                pass

    async def listed() -> list[str]:
        return [found.key async for found in sink.list()]

    return [
        ("write", lambda: sink.write("small", small, InlineContent(b"small"))),
        ("large", lambda: sink.write("large", file_entry("large", LARGE.size), LARGE)),
        ("symlink", lambda: sink.write("link", link, NOTHING)),
        ("directory", lambda: sink.write("d", directory_entry("d"), NOTHING)),
        ("read", read),
        ("list", listed),
        ("stat", lambda: sink.stat("small")),
        ("update", lambda: sink.update("small", file_entry("small", 5, mode=0o600))),
        ("move", lambda: sink.move("small", "moved", file_entry("moved", 5))),
        ("own", lambda: sink.write_own(".filerbackup/sink.json", b"{}")),
        ("delete", lambda: sink.delete("moved")),
        ("delete-tree", lambda: sink.delete_tree("d")),
        ("flush", sink.flush),
    ]


async def attempt(shown: Shown, work: Callable[[], Awaitable[object]]) -> bool:
    """Whether it went well; what was said about it is kept."""
    try:
        await work()
    except (FilerBackupError, FileNotFoundError) as error:
        shown.add(error)
        return False
    return True


async def test_no_secret_is_shown(
    place: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    if not place.endpoint:
        pytest.skip("no service, no secrets")
    private: set[str] = set()
    async with Proxy(place.endpoint).running() as proxy, planted(place, proxy.endpoint) as settings:
        if not list(secrets_in(settings)):
            pytest.skip("no secrets")
        fault: Fault | None = None

        async def listen(request: web.Request, body: bytes) -> web.StreamResponse | None:
            private.update(travelled(request))
            return None if fault is None else await fault(request, body)

        proxy.fault = listen
        with everything_shown(settings) as shown:
            logging.getLogger("filerbackup").debug("that the log is looked at")
            shown.texts += [repr(settings), str(settings)]
            sink = create_sink(settings)
            shown.texts += [repr(sink), repr(sink.identity), str(vars(sink))]
            await sink.open()
            for name, work in operations(sink):
                assert await attempt(shown, work) or name in ("directory", "update", "move"), shown.texts[-1]
            for status, form in ((400, own_form(settings)), (403, own_form(settings)), (401, "")):
                fault = quotes(status, form)
                for name, work in operations(sink):
                    if name != "large" or status == 400:
                        await attempt(shown, work)
                other = create_sink(settings)
                assert not await attempt(shown, other.open)
                await other.close()
            fault = None
            await sink.close()
            if (wrong := place.with_wrong_key()) is not None:
                assert not await attempt(shown, wrong.open)
                await wrong.close()
    assert len(private) > 3
    lives = [int(life) for _, _, query in proxy.requests for life in _LIFE.findall(query)]
    assert max(lives, default=0) <= MOST_LIFE_S
    given = {secret.reveal() for secret in secrets_in(settings)} | {WRONG_KEY}
    leaked = shown.leaked(private | given)
    assert not leaked, "\n".join(leaked[:10])
    assert shown.lines() >= 2
    out, err = capfd.readouterr()
    assert not any(secret in out + err + caplog.text for secret in private | given)


async def test_nobody_is_followed_to_another_host(place: Place) -> None:
    """What was meant for the service, a session token say, goes to no one else."""
    if not place.endpoint:
        pytest.skip("no service")
    async with (
        Proxy(place.endpoint).running() as proxy,
        Proxy(place.endpoint).running() as thief,
        planted(place, proxy.endpoint) as settings,
    ):
        sink = create_sink(settings)
        await sink.open()
        await sink.write("small", file_entry("small", 5), InlineContent(b"small"))
        thief.fault = answers(200)
        for status in (301, 307):
            proxy.fault = points_to(thief.endpoint, status)
            for name, work in operations(sink):
                before = len(proxy.requests)
                with contextlib.suppress(FilerBackupError, FileNotFoundError):
                    await work()
                assert len(proxy.requests) - before < 10, name
            await sink.close()
            with contextlib.suppress(FilerBackupError):
                await sink.open()
            proxy.fault = None
            await sink.close()
            await sink.open()
        await sink.close()
        assert len(proxy.requests) > 20
        assert thief.requests == []


def points_to(other: str, status: int) -> Fault:
    """A fault: every request is sent elsewhere."""

    async def answer(request: web.Request, _body: bytes) -> web.Response:
        return web.Response(status=status, headers={"Location": other + request.raw_path}, text="elsewhere")

    return answer


def test_what_is_looked_for_would_be_found() -> None:
    """The search itself: a secret that slips through is seen in each of its forms."""
    with everything_shown() as shown:
        shown.add(ValueError("given " + json.dumps({"k": "c2VjcmV0" * 4})))
        shown.add(ValueError("Basic " + "aWQ6cGxhbnRlZC1zZWNyZXQtMTI="))
    assert shown.leaked(["planted-secret-12"])
    assert shown.leaked(["secret" * 4])
    assert not shown.leaked(["another-secret"])
