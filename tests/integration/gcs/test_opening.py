"""Who asks, and what is said when the service does not like it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from filerbackup.errors import SinkError, SinkFull, SinkRefused, SinkThrottled, SinkUnavailable, UsageError
from filerbackup.settings.model import GcsSettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.gcs import GcsStore, gcs_sink, identity
from tests.integration.gcs.conftest import PLAIN, google_error, opened, opened_sink, settings
from tests.support.gcs import GcsServer, TokenServer
from tests.support.proxy import Proxy, html
from tests.support.sinks import write

SKEW = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."


async def refusal(of: GcsSettings, expected: type[SinkError] = SinkRefused) -> SinkError:
    store = GcsStore(of)
    with pytest.raises(expected) as caught:
        await store.open()
    shown = f"{caught.value} {caught.value.hint}"
    assert "\n" not in shown
    assert len(shown) < 700
    assert "PRIVATE" not in shown
    with pytest.raises(SinkUnavailable):
        await store.head("x")
    return caught.value


class Guard:
    """A fault for the proxy: only the newest of these tokens are good; keeps what came."""

    def __init__(self, tokens: TokenServer) -> None:
        self.tokens = tokens
        self.good_from = 0
        self.seen: list[str] = []

    async def __call__(self, request: web.Request, _body: bytes) -> web.Response | None:
        self.seen.append(request.headers.get("Authorization", ""))
        good = {f"Bearer {token}" for token in self.tokens.given[self.good_from :]}
        return None if self.seen[-1] in good else google_error(401, "authError", "Invalid Credentials")


async def test_without_credentials_an_emulator_is_asked_by_nobody(proxy: Proxy, folder: str) -> None:
    seen: list[bool] = []

    async def watching(request: web.Request, _body: bytes) -> None:
        seen.append("Authorization" in request.headers)

    proxy.fault = watching
    async with opened(settings(proxy.endpoint, folder)):
        pass
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("as_file", [True, False])
async def test_a_key_gets_a_token_once_for_all(
    proxy: Proxy, tokens: TokenServer, folder: str, tmp_path: Path, as_file: bool
) -> None:
    (tmp_path / "key.json").write_text(tokens.key())
    given = (
        {"credentials_file": str(tmp_path / "key.json")} if as_file else {"credentials": Secret(tokens.key())}
    )
    proxy.fault = guard = Guard(tokens)
    async with opened_sink(settings(proxy.endpoint, folder, **given)) as sink:
        await asyncio.gather(*(write(sink, f"f{number}") for number in range(20)))
        await sink.delete("f1")
    assert tokens.asked == 1
    assert set(guard.seen) == {"Bearer token-1"}


async def test_application_default_credentials(
    proxy: Proxy, tokens: TokenServer, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For Google's own endpoint and any https:// one; here the endpoint's scheme stands in the way."""
    (tmp_path / "key.json").write_text(tokens.key())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    who = identity.Identity(settings("https://storage.googleapis.com", folder))
    await who.open()
    assert await who.headers() == {"authorization": "Bearer token-1"}
    await who.close()


async def test_a_token_that_is_not_taken_any_more_is_renewed_once(
    proxy: Proxy, tokens: TokenServer, folder: str
) -> None:
    proxy.fault = guard = Guard(tokens)
    async with opened(settings(proxy.endpoint, folder, credentials=Secret(tokens.key()))) as store:
        guard.good_from = 1
        await asyncio.gather(*(store.put(f"{folder}/{number}", b"x", PLAIN) for number in range(20)))
        assert tokens.asked == 2

        guard.good_from = 100
        with pytest.raises(SinkRefused) as caught:
            await store.put(f"{folder}/x", b"x", PLAIN)
        assert "HTTP 401" in str(caught.value)
        assert "google_application_credentials" in caught.value.hint
        assert tokens.asked == 3


async def test_a_token_is_renewed_before_its_end_and_nobody_waits(
    proxy: Proxy, tokens: TokenServer, folder: str
) -> None:
    tokens.lifetime_s = int(identity.STALE_S) + 175
    async with opened(settings(proxy.endpoint, folder, credentials=Secret(tokens.key()))) as store:
        clock = identity.time
        seconds = clock.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(identity, "time", type("Later", (), {"time": lambda: seconds + 300}))
            tokens.gate.clear()
            for _ in range(3):
                await store.head(f"{folder}/x")
            assert len(tokens.given) == 1
            tokens.gate.set()
            async with asyncio.timeout(10):
                while len(tokens.given) == 1:
                    await asyncio.sleep(0.01)
            await store.head(f"{folder}/x")
        assert tokens.asked <= 3


async def test_closing_ends_what_waits(proxy: Proxy, tokens: TokenServer, folder: str) -> None:
    """For a token, or for an answer."""
    reached = asyncio.Event()

    async def hang(_request: web.Request, _body: bytes) -> web.Response:
        reached.set()
        await asyncio.sleep(30)
        return web.Response()

    for waits_for_token in (True, False):
        tokens.gate.set()
        proxy.fault = None
        async with opened(settings(proxy.endpoint, folder, credentials=Secret(tokens.key()))) as store:
            asked = tokens.asked
            if waits_for_token:
                tokens.gate.clear()
                proxy.fault = Guard(TokenServer())
            else:
                proxy.fault = hang
            waiting = [asyncio.create_task(store.head(f"{folder}/x")) for _ in range(3)]
            async with asyncio.timeout(10):
                while waits_for_token and tokens.asked == asked:
                    await asyncio.sleep(0.01)
                if not waits_for_token:
                    await reached.wait()
            await store.close()
            tokens.gate.set()
            for each in waiting:
                with pytest.raises(SinkUnavailable):
                    await asyncio.wait_for(each, 10)


async def test_a_renewal_that_fails_hurts_only_when_the_token_ends(
    proxy: Proxy, tokens: TokenServer, folder: str
) -> None:
    async with opened(settings(proxy.endpoint, folder, credentials=Secret(tokens.key()))) as store:
        tokens.refusal = (400, {"error": "invalid_grant", "error_description": "account not found"})
        seconds = identity.time.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(identity, "time", type("Later", (), {"time": lambda: seconds + 3500}))
            for _ in range(20):
                await store.head(f"{folder}/x")
            patch.setattr(identity, "time", type("Later", (), {"time": lambda: seconds + 3700}))
            with pytest.raises(SinkRefused, match="account not found"):
                await store.head(f"{folder}/x")
        assert tokens.asked < 5
        tokens.refusal = None


@pytest.mark.parametrize(
    ("status", "error", "description", "expected", "hint"),
    [
        (400, "invalid_grant", SKEW, SinkRefused, "clock"),
        (400, "invalid_grant", "Invalid JWT Signature.", SinkRefused, "new credentials"),
        (401, "unauthorized_client", "Client is unauthorized", SinkRefused, "new credentials"),
        (403, "access_denied", "Not allowed", SinkRefused, "google_application_credentials"),
    ],
)
async def test_a_key_that_gets_no_token(
    gcs: GcsServer, tokens: TokenServer, status: int, error: str, description: str,
    expected: type[SinkError], hint: str,
) -> None:  # fmt: skip
    tokens.refusal = (status, {"error": error, "error_description": description})
    said = await refusal(settings(gcs.endpoint, "x", credentials=Secret(tokens.key())), expected)
    assert error in str(said)
    assert hint in said.hint


async def test_nobody_gives_out_tokens(gcs: GcsServer) -> None:
    tokens = TokenServer()
    tokens.url = "http://127.0.0.1:1/token"
    said = await refusal(settings(gcs.endpoint, "x", credentials=Secret(tokens.key())), SinkUnavailable)
    assert "token service does not answer" in str(said)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON, PRIVATE",
        "[]",
        "{}",
        '{"type": "nonsense", "private_key": "PRIVATE"}',
        '{"type": "service_account", "private_key": "PRIVATE", "client_email": "a", "token_uri": "b"}',
    ],
)
async def test_credentials_that_are_none(gcs: GcsServer, text: str) -> None:
    said = await refusal(settings(gcs.endpoint, "x", credentials=Secret(text)))
    assert "google_application_credentials" in said.hint


async def test_a_key_file_that_is_not_there(gcs: GcsServer, tmp_path: Path) -> None:
    said = await refusal(settings(gcs.endpoint, "x", credentials_file=str(tmp_path / "absent.json")))
    assert "absent.json cannot be read" in str(said)


async def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    said = await refusal(settings("", "x"))
    assert "no credentials" in str(said)
    assert "gcloud auth application-default login" in said.hint


async def test_a_missing_bucket(gcs: GcsServer) -> None:
    said = await refusal(settings(gcs.endpoint, "x", bucket="never-made"))
    assert "never-made" in str(said)
    assert "create the bucket" in said.hint


@pytest.mark.parametrize("status", [200, 302, 404])
async def test_an_endpoint_that_speaks_html(proxy: Proxy, status: int) -> None:
    async def page(_request: web.Request, _body: bytes) -> web.Response:
        return html(status)

    proxy.fault = page
    assert "endpoint" in (await refusal(settings(proxy.endpoint, "x"))).hint


@pytest.mark.parametrize(
    ("status", "reason", "message", "expected", "hint"),
    [
        (403, "forbidden", "backup@x does not have storage.objects.list access", SinkRefused, "Object User"),
        (403, "insufficientPermissions", "Provided scope(s) are not authorized", SinkRefused, "scopes"),
        (403, "accountDisabled", "The billing account is disabled", SinkRefused, "billing"),
        (400, "required", "Bucket is a requester pays bucket", SinkRefused, "pays"),
        (403, "rateLimitExceeded", "slow down", SinkThrottled, ""),
        (429, "rateLimitExceeded", "The object exceeded the rate limit", SinkThrottled, ""),
        (403, "quotaExceeded", "Quota exceeded", SinkFull, "quota"),
        (503, "backendError", "We encountered an internal error", SinkUnavailable, ""),
        (408, "requestTimeout", "Request timed out", SinkUnavailable, ""),
        (400, "invalid", "Invalid bucket name: 'x y'", SinkRefused, "correct `bucket`"),
    ],
)  # fmt: skip
async def test_refusals_of_the_service(
    proxy: Proxy, status: int, reason: str, message: str, expected: type[SinkError], hint: str
) -> None:
    async def refuse(_request: web.Request, _body: bytes) -> web.Response:
        return google_error(status, reason, message)

    proxy.fault = refuse
    said = await refusal(settings(proxy.endpoint, "x"), expected)
    assert type(said) is expected
    assert message.split(maxsplit=1)[0] in str(said)
    assert hint in said.hint


async def test_nobody_at_the_endpoint() -> None:
    said = await refusal(settings("http://127.0.0.1:1", "x"), SinkUnavailable)
    assert "no connection to 127.0.0.1:1" in str(said)


@pytest.mark.parametrize(
    ("endpoint", "credentials"),
    [
        ("ftp://x", ""),
        ("not a url", ""),
        ("http://user:pass@host", ""),
        ("http://host:port", ""),
        ("https://host/some/where", ""),
        ("http://example.org", "{}"),
    ],
)
def test_settings_that_cannot_be_used(endpoint: str, credentials: str) -> None:
    with pytest.raises(UsageError, match="endpoint"):
        gcs_sink(settings(endpoint, "x", credentials=Secret(credentials)))


def test_a_bucket_is_needed() -> None:
    with pytest.raises(UsageError, match="bucket"):
        gcs_sink(settings("", "x", bucket=""))
