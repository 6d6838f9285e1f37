"""Bad days: each is one error that says what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import formatdate

import aiohttp
import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from filerbackup.errors import ObjectRejected, SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from filerbackup.settings.secret import Secret
from filerbackup.sinks.azure import AzureStore, azure_sink, http
from filerbackup.sinks.azure.http import ContainerHttp
from filerbackup.sinks.azure.identity import Tokens
from filerbackup.sinks.azure.signing import Bearer
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects import http as shared
from filerbackup.sinks.objects.errors import Unanswered
from tests.contract.place import WRONG_KEY
from tests.integration.azure.conftest import MakeSettings
from tests.support.azurite import ACCOUNT, KEY, Peer
from tests.support.proxy import Proxy, answers, hangs_up, speaks_html

PLAIN = ObjectMetadata(content_type="text/plain")


async def refusal(store: AzureStore) -> SinkError:
    with pytest.raises(SinkError) as caught:
        await store.open()
    await store.close()
    text = f"{caught.value} {caught.value.hint} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert KEY not in text
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_wrong_key(settings: MakeSettings) -> None:
    error = await refusal(AzureStore(settings(account_key=Secret(WRONG_KEY))))

    assert isinstance(error, SinkRefused)
    assert "account_key" in error.hint


async def test_no_such_container(settings: MakeSettings) -> None:
    error = await refusal(AzureStore(settings(container="nobody-made-it")))

    assert isinstance(error, SinkRefused)
    assert "ContainerNotFound" in str(error)
    assert "`container`" in error.hint


async def test_a_container_that_vanishes(store: AzureStore, peer: Peer) -> None:
    await peer.client.delete_container()
    for call in (
        lambda: store.put("a", b"x", PLAIN),
        lambda: store.delete("a"),
        lambda: store.head("a"),
        lambda: anext(store.get("a")),
        lambda: store.page(""),
    ):
        with pytest.raises(SinkRefused, match="ContainerNotFound"):
            await call()


async def test_nobody_listens(settings: MakeSettings) -> None:
    error = await refusal(AzureStore(settings(endpoint=f"http://127.0.0.1:9/{ACCOUNT}")))

    assert isinstance(error, SinkUnavailable)
    assert "127.0.0.1:9" in str(error)


async def test_no_such_account(settings: MakeSettings) -> None:
    error = await refusal(AzureStore(settings(endpoint="http://no-such-account.invalid")))

    assert isinstance(error, SinkUnavailable)
    assert "account_name" in error.hint


@pytest.mark.parametrize("status", [200, 302, 404])
async def test_an_endpoint_that_speaks_html(settings: MakeSettings, proxy: Proxy, status: int) -> None:
    proxy.fault = speaks_html(status)
    error = await refusal(AzureStore(settings(endpoint=f"{proxy.endpoint}/{ACCOUNT}")))

    assert isinstance(error, SinkRefused)
    assert "endpoint" in error.hint


@pytest.mark.parametrize(
    "status, code, kind, hint",
    [
        (503, "ServerBusy", SinkThrottled, ""),
        (500, "OperationTimedOut", SinkThrottled, ""),
        (429, "", SinkThrottled, ""),
        (500, "InternalError", SinkUnavailable, ""),
        (503, "", SinkUnavailable, ""),
        (403, "AuthorizationFailure", SinkRefused, "network rules"),
        (403, "AuthorizationPermissionMismatch", SinkRefused, "Storage Blob Data Contributor"),
        (403, "KeyBasedAuthenticationNotPermitted", SinkRefused, "account_key empty"),
        (403, "InsufficientAccountPermissions", SinkRefused, "account_key"),
        (403, "AccountIsDisabled", SinkRefused, "enable"),
        (409, "ContainerBeingDeleted", SinkRefused, "half a minute"),
        (409, "BlobImmutableDueToPolicy", ObjectRejected, "immutability"),
        (412, "LeaseIdMissing", ObjectRejected, "lease"),
        (400, "InvalidUri", ObjectRejected, ""),
        (413, "RequestBodyTooLarge", ObjectRejected, ""),
        (400, "NobodyKnowsThis", SinkUnavailable, ""),
    ],
)
async def test_what_the_service_says(
    behind: AzureStore, proxy: Proxy, status: int, code: str, kind: type[SinkError], hint: str
) -> None:
    proxy.fault = answers(status, **({"x-ms-error-code": code} if code else {}))
    for call in (
        lambda: behind.put("a", b"x", PLAIN),
        lambda: behind.delete("a"),
        lambda: behind.head("a"),
        lambda: anext(behind.get("a")),
    ):
        with pytest.raises(kind) as caught:
            await call()
        assert type(caught.value) is kind
        assert code in str(caught.value)
        assert hint in caught.value.hint


async def test_a_clock_that_is_wrong_is_told(behind: AzureStore, proxy: Proxy) -> None:
    xml = (
        "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate.</Message>"
        "<AuthenticationErrorDetail>Request date header too old</AuthenticationErrorDetail></Error>"
    )
    proxy.fault = answers(403, xml, "application/xml")
    with pytest.raises(SinkRefused) as caught:
        await behind.page("")
    assert "clock" in caught.value.hint

    proxy.fault = answers(
        403,
        xml.replace("too old", "odd"),
        "application/xml",
        Date=formatdate(time.time() + 3600, usegmt=True),
    )
    with pytest.raises(SinkRefused) as caught:
        await behind.page("")
    assert "3600 s off" in caught.value.hint or "3599 s off" in caught.value.hint


async def test_the_line_breaks(behind: AzureStore, proxy: Proxy) -> None:
    proxy.fault = hangs_up
    for call in (
        lambda: behind.put("a", b"x", PLAIN),
        lambda: behind.page(""),
        lambda: anext(behind.get("a")),
        lambda: behind.delete_bulk(["a"]),
    ):
        with pytest.raises(SinkUnavailable):
            await call()


async def test_the_line_breaks_under_the_sdk(behind: AzureStore, proxy: Proxy) -> None:
    await behind.put("a", b"x", PLAIN)
    head = await behind.head("a")
    assert head is not None
    proxy.fault = hangs_up
    with pytest.raises(SinkUnavailable):
        await behind.copy(head, "b", PLAIN)
    proxy.fault = answers(503, **{"x-ms-error-code": "ServerBusy"})
    with pytest.raises(SinkThrottled):
        await behind.copy(head, "b", PLAIN)


async def test_a_server_that_says_nothing(
    behind: AzureStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (http, shared):
        monkeypatch.setattr(module, "STALL_S", 0.2)
    released = asyncio.Event()

    async def silent(_request: web.Request, _body: bytes) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async def one() -> AsyncIterator[bytes]:
        yield b"data"

    proxy.fault = silent
    with pytest.raises(SinkUnavailable):
        await behind.put_part("a", "00" * 12, 1, 4, one(), lambda: b"\0" * 16)
    with pytest.raises(SinkUnavailable):
        await behind.put("a", b"x", PLAIN)
    released.set()


async def test_a_closed_store(settings: MakeSettings) -> None:
    store = AzureStore(settings())
    with pytest.raises(SinkUnavailable):
        await store.head("a")
    await store.open()
    await store.open()
    await store.close()
    await store.close()


async def test_accounts_have_identities_of_their_own(settings: MakeSettings) -> None:
    one = azure_sink(settings()).identity
    two = azure_sink(replace(settings(), endpoint="https://blobs.example.com", account_name="a")).identity
    three = azure_sink(replace(settings(), endpoint="https://blobs.example.com", account_name="b")).identity
    assert len({one, two, three}) == 3
    assert ACCOUNT in one.endpoint


class _Credential:
    """Gives a new token each time, or an error."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return AccessToken(f"token-{self.asked}", int(time.time()) + 3600)

    async def close(self) -> None:
        pass


async def test_a_token_that_ran_out_is_renewed_once(proxy: Proxy) -> None:
    credential = _Credential()
    good = {"Bearer token-2"}
    seen = []

    async def service(request: web.Request, body: bytes) -> web.StreamResponse:
        seen.append((request.headers["Authorization"], body))
        if seen[-1][0] in good:
            return web.Response(headers={"x-ms-version": "1"})
        xml = (
            "<Error><Code>InvalidAuthenticationInfo</Code><Message>Server failed to authenticate the request."
            "</Message><AuthenticationErrorDetail>Lifetime validation failed. The token is expired."
            "</AuthenticationErrorDetail></Error>"
        )
        return web.Response(status=401, text=xml, content_type="application/xml")

    proxy.fault = service
    async with aiohttp.ClientSession() as session:
        client = ContainerHttp(session, Bearer(Tokens(credential)), f"{proxy.endpoint}/box", None)
        async with client.request("PUT", "a", body=b"data"):
            pass
        assert seen == [("Bearer token-1", b"data"), ("Bearer token-2", b"data")]
        good.clear()
        with pytest.raises(Exception, match="401"):
            async with client.request("PUT", "a", body=b"data"):
                pass
        assert len(seen) == 4


async def test_one_token_for_all_who_wait() -> None:
    credential = _Credential()
    tokens = Tokens(credential)
    assert {await each for each in asyncio.as_completed([tokens.token() for _ in range(20)])} == {"token-1"}


async def test_no_identity_at_all() -> None:
    credential = _Credential()
    credential.error = ClientAuthenticationError(
        "DefaultAzureCredential failed to retrieve a token\nlong story"
    )
    with pytest.raises(Unanswered) as caught:
        await Tokens(credential).token()
    assert caught.value.refused
    assert "account_key" in caught.value.hint
    assert "\n" not in caught.value.reason
