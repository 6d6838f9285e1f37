"""Asking a key management service: what it says, and what that means for the object."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from filerbackup.errors import (
    FilerBackupError,
    KeyMissing,
    SourceRefused,
    SourceUnreachable,
    Unreadable,
    UsageError,
)
from filerbackup.settings.model import ClientTls, KmsSettings, SseSettings
from filerbackup.settings.secret import Secret
from filerbackup.source.kms import AwsKms, Envelope, TransitKms, envelope_of, make_kms
from filerbackup.source.sse import Kind, SealedKey
from filerbackup.source.sse_keys import SseKeys
from tests.support.certificates import Authority
from tests.support.ports import free_port

PLAIN = b"p" * 32
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def wrapped(provider: str = "test", ciphertext: str = "c") -> bytes:
    return json.dumps({"provider": provider, "key_id": "k", "ciphertext": ciphertext, "version": 1}).encode()


def sealed(blob: bytes, **context: str) -> SealedKey:
    return SealedKey(Kind.KMS, blob, bytes(16), context=context)


class FakeKms:
    """Answers slowly; `refuses` as long as that is set."""

    providers = frozenset({"test"})

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked: list[str] = []

    async def decrypt(self, envelope: Envelope, context: Mapping[str, str]) -> bytes:
        self.asked.append(envelope.ciphertext)
        await asyncio.sleep(0)
        if self.refuses:
            raise KeyMissing("not mine")
        return PLAIN

    async def close(self) -> None:
        self.asked.append("closed")


# -- which service, and how often ---------------------------------------------------------------------


async def test_a_data_key_is_asked_for_once() -> None:
    """Chunks of a part have the same, and several are under way at a time."""
    kms = FakeKms()
    keys = SseKeys(SseSettings(), kms=[kms])
    found = await asyncio.gather(*(keys.unwrap(sealed(wrapped())) for _ in range(5)))
    assert found == [PLAIN] * 5
    assert kms.asked == ["c"]
    # Another context is another question: the service checks it.
    await keys.unwrap(sealed(wrapped(), a="b"))
    assert kms.asked == ["c", "c"]
    await keys.close()
    assert kms.asked[-1] == "closed"


async def test_a_refusal_is_not_kept_and_the_next_service_is_asked() -> None:
    first, second = FakeKms(refuses=True), FakeKms(refuses=True)
    keys = SseKeys(SseSettings(), kms=[first, second])
    with pytest.raises(KeyMissing, match="not mine"):
        await keys.unwrap(sealed(wrapped()))
    second.refuses = False
    assert await keys.unwrap(sealed(wrapped())) == PLAIN
    assert len(first.asked) == len(second.asked) == 2


@pytest.mark.parametrize(
    ("blob", "error", "said"),
    [
        (wrapped("gcp"), KeyMissing, r"provider 'gcp', and no \[kms.providers\]"),
        (b'{"keyId":"some-key","encryptedData":"AA==","nonce":"AA=="}', KeyMissing, "local provider"),
        (b"raw bytes of another form", Unreadable, "no form"),
        (b"{}", Unreadable, "no form"),
        (b'{"provider":1,"key_id":"k","ciphertext":"c"}', Unreadable, "no form"),
        (b"[" * 20_000, Unreadable, "no form"),
        (b" " * 40_000 + wrapped(), Unreadable, "no form"),
    ],
)
async def test_who_cannot_be_asked(blob: bytes, error: type[FilerBackupError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        await SseKeys(SseSettings(), kms=[FakeKms()]).unwrap(sealed(blob))
    assert type(caught.value) is error


def test_an_envelope_does_not_show_what_is_in_it() -> None:
    assert "secret" not in repr(envelope_of(wrapped(ciphertext="secret")))


def test_types() -> None:
    assert isinstance(make_kms(KmsSettings("a", "aws")), AwsKms)
    assert isinstance(make_kms(KmsSettings("a", "vault")), TransitKms)
    assert make_kms(KmsSettings("a", "azure")) is None


# -- OpenBao and Vault --------------------------------------------------------------------------------


class Transit:
    """The transit engine's answers; `status` instead of the right one when set."""

    def __init__(self) -> None:
        self.status = 0
        self.tokens = {"good"}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.text = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append((request.raw_path, body))
        if request.path == "/v1/auth/approle/login":
            if body != {"role_id": "role", "secret_id": "hush"}:
                return web.json_response({}, status=400)
            self.tokens = {f"token-{len(self.seen)}"}
            return web.json_response({"auth": {"client_token": next(iter(self.tokens))}})
        if self.status or request.headers.get("X-Vault-Token") not in self.tokens:
            return web.json_response({"errors": ["no"]}, status=self.status or 403)
        if self.text:
            return await _in_pieces(request, self.text)
        return web.json_response({"data": {"plaintext": base64.b64encode(PLAIN).decode()}})


async def _in_pieces(request: web.Request, text: str) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for piece in (text[:10], text[10:]):
        await response.write(piece.encode())
        await asyncio.sleep(0.02)
    return response


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The endpoint of a service that answers each POST with this."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def transit() -> AsyncIterator[tuple[Transit, str]]:
    server = Transit()
    async with serving(server.handle) as url:
        yield server, url


async def ask(kms: TransitKms, **context: str) -> bytes:
    try:
        return await kms.decrypt(Envelope("openbao", "my/key", "vault:v1:x"), context)
    finally:
        await kms.close()
        kms._session = None


async def test_the_transit_engine(transit: tuple[Transit, str]) -> None:
    server, url = transit
    kms = TransitKms(KmsSettings("bao", "openbao", endpoint=url, token=Secret("good")))
    assert await ask(kms) == PLAIN
    assert server.seen == [("/v1/transit/decrypt/my%2Fkey", {"ciphertext": "vault:v1:x"})]
    await ask(kms, b="<&>\u2028ä", a="1")
    context = base64.b64decode(server.seen[-1][1]["context"])
    assert context == '{"a":"1","b":"\\u003c\\u0026\\u003e\\u2028ä"}'.encode(), "as Go writes it"


async def test_an_approle_signs_in_again_when_its_token_has_expired(transit: tuple[Transit, str]) -> None:
    server, url = transit
    kms = TransitKms(
        KmsSettings(
            "bao", "vault", endpoint=url, role_id="role", secret_id=Secret("hush"), transit_path="/t/"
        )
    )
    assert await ask(kms) == PLAIN
    assert await ask(kms) == PLAIN
    assert [path.split("/")[2] for path, _ in server.seen] == ["auth", "t", "t"]
    server.tokens = set()
    assert await ask(kms) == PLAIN
    assert [path.split("/")[2] for path, _ in server.seen[3:]] == ["t", "auth", "t"]


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "", KeyMissing),
        (404, "", KeyMissing),
        (403, "", SourceRefused),
        (429, "", SourceUnreachable),
        (503, "", SourceUnreachable),
        (0, "not json", SourceUnreachable),
        (0, "[" * 60_000, SourceUnreachable),
        (0, "[]", SourceUnreachable),
        (0, '{"data": {"plaintext": "' + "A" * 70_000 + '"}}', SourceUnreachable),
        (0, '{"data": {"plaintext": 7}}', SourceUnreachable),
        (0, '{"data": {"plaintext": "%"}}', Unreadable),
    ],
)
async def test_what_its_answers_mean(
    transit: tuple[Transit, str], status: int, text: str, error: type[FilerBackupError]
) -> None:
    server, url = transit
    server.status, server.text = status, text
    with pytest.raises(error) as caught:
        await ask(TransitKms(KmsSettings("bao", "openbao", endpoint=url, token=Secret("good"))))
    assert type(caught.value) is error
    assert "good" not in str(caught.value)


async def test_an_answer_that_comes_in_pieces(transit: tuple[Transit, str]) -> None:
    server, url = transit
    server.text = json.dumps({"data": {"plaintext": base64.b64encode(PLAIN).decode()}})
    assert await ask(TransitKms(KmsSettings("bao", "openbao", endpoint=url, token=Secret("good")))) == PLAIN


# -- TLS ----------------------------------------------------------------------------------------------


def transit_with(tls: ClientTls, url: str = "https://h") -> TransitKms:
    return TransitKms(KmsSettings("bao", "openbao", endpoint=url, token=Secret("good"), tls=tls))


async def test_a_client_certificate(tmp_path: Path) -> None:
    authority, server = Authority(tmp_path, "authority"), Transit()
    own, served = authority.issue("client"), authority.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(served.cert, served.key)
    context.verify_mode = ssl.CERT_REQUIRED
    async with serving(server.handle, context) as url:
        files = ClientTls(str(authority.ca), str(own.cert), str(own.key))
        assert await ask(transit_with(files, url)) == PLAIN
        with pytest.raises(SourceUnreachable):
            await ask(transit_with(ClientTls(str(authority.ca)), url))


def test_tls_files_are_looked_at_when_it_is_made(tmp_path: Path) -> None:
    """A key with a password, too: OpenSSL would ask for it on the terminal."""
    authority = Authority(tmp_path, "authority")
    own, ca = authority.issue("client"), str(authority.ca)
    ended, locked = authority.issue("ended", ended=True), authority.issue("locked", password=b"not asked for")
    for files, said in (
        (
            ClientTls(ca, str(locked.cert), str(locked.key)),
            "client_key: .* not a PEM key without",
        ),
        (ClientTls(ca, str(ended.cert), str(ended.key)), "client_cert: .* is good from"),
        (ClientTls(ca, str(own.cert), str(ended.key)), "client_key: .* is not the key of"),
        (ClientTls(str(own.key)), "ca_cert: .* cannot be used"),
    ):
        with pytest.raises(UsageError, match=rf"^kms\.providers\.bao\.{said}"):
            transit_with(files)


# -- nobody is there ----------------------------------------------------------------------------------


async def test_nobody_answers() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    aws = AwsKms(KmsSettings("a", "aws", endpoint=url, access_key_id="a", secret_access_key=Secret("b")))
    for kms in (aws, TransitKms(KmsSettings("b", "vault", endpoint=url, token=Secret("t")))):
        with pytest.raises(SourceUnreachable):
            await kms.decrypt(Envelope("aws", "k", base64.b64encode(b"c").decode()), {})
        await kms.close()


WRAPPED = Envelope("aws", "k", base64.b64encode(b"c").decode())


def aws(url: str) -> AwsKms:
    return AwsKms(
        KmsSettings(
            "a", "aws", endpoint=url, access_key_id="a", secret_access_key=Secret("hidden"),
            session_token=Secret("hidden token"),
        )
    )  # fmt: skip


async def test_what_aws_means() -> None:
    said: list[tuple[str, int]] = []

    async def refuse(_: web.Request) -> web.Response:
        code, status = said[-1]
        body = json.dumps({"__type": code, "message": "m"})
        return web.Response(status=status, text=body, content_type="application/x-amz-json-1.1")

    async with serving(refuse) as url:
        kms = aws(url)
        for code, status, error in (
            ("InvalidCiphertextException", 400, KeyMissing),
            ("AccessDeniedException", 400, KeyMissing),
            ("UnrecognizedClientException", 400, SourceRefused),
            ("ThrottlingException", 400, SourceUnreachable),
            ("KeyUnavailableException", 500, SourceUnreachable),
            ("InternalFailure", 500, SourceUnreachable),
        ):
            said.append((code, status))
            with pytest.raises(error) as caught:
                await kms.decrypt(WRAPPED, {})
            assert type(caught.value) is error
            assert "hidden" not in str(caught.value)
        await kms.close()


async def test_aws_is_not_followed_elsewhere() -> None:
    """A signed question, perhaps with a session token, is for the endpoint alone."""
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.headers["X-Amz-Security-Token"])
        return web.json_response({"Plaintext": base64.b64encode(PLAIN).decode()})

    async with serving(elsewhere) as other:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": other})

        async with serving(redirect) as url:
            kms = aws(url)
            with pytest.raises(SourceRefused):
                await kms.decrypt(WRAPPED, {})
            await kms.close()
    assert asked == []
