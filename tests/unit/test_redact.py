"""What looks like a token is blanked wherever a text leaves the process; ordinary words are not."""

from __future__ import annotations

import base64
import dataclasses
import logging
import re
import subprocess
import sys
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filerbackup.errors import SinkRefused
from filerbackup.pipeline.watcher import Watcher
from filerbackup.redact import BLANK, without_tokens
from filerbackup.settings import keys, model
from filerbackup.settings.environment import secrets_of_chains
from filerbackup.settings.model import GcsSettings
from filerbackup.settings.secret import Redactor, Secret, secrets_in
from filerbackup.sinks.objects.errors import one_line

SECRET = "c0ffee5ecre7c0ffee5ecre7"
HEX = SECRET.replace("r", "a").replace("s", "b")


@pytest.mark.parametrize(
    "text",
    [
        f"https://h/b/k?X-Amz-Credential=AKIA/2026&X-Amz-Signature={SECRET}&x=1",
        f"https://h/b/k?x-amz-security-token={SECRET}",
        f"https://acc.blob.core.windows.net/c?sv=2021&se=2026&sp=rw&sig={SECRET}",
        f"AWS4-HMAC-SHA256 Credential=AKIA/s3, SignedHeaders=host, Signature={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': '{SECRET}', 'Host': 'h'}}",
        "{'Authorization': 'short', 'Host': 'h'}".replace("short", SECRET[:4]),
        f"'Authorization': 'SharedKey account:{SECRET}='",
        f"authorization: Basic {SECRET}",
        f"sent Basic {base64.b64encode(f'4a48fe:{SECRET}'.encode()).decode()}, got 401",
        f"Basic {base64.b64encode(f'4a48fe:{SECRET}x'.encode()).decode()}",
        f"Basic Basic {base64.b64encode(f'4a48fe:{SECRET}x'.encode()).decode().rstrip('=')}",
        f"Basic eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
        f"SharedKeyLite account:{SECRET}=",
        f"<URL>https://h/c/b?sv=2021&amp;sig={SECRET}</URL>",
        f'{{"message": "https://h/c/b?sv=2021\\u0026sig={SECRET}"}}',
        f"x-amz-date:20260101T000000Z\nx-amz-security-token:{SECRET}\n",
        f"Authorization: Bearer {SECRET[:9]}",
        f"the request had Signature={HEX}{HEX}{HEX[:16]}",
        f"client_secret={SECRET}&grant_type=refresh_token",
        f"called with token='{SECRET}'",
        f"sent Bearer {SECRET}, got 401",
        f'{{"refresh_token": "{SECRET}", "client_secret": "{SECRET}"}}',
        f"grant_type=jwt-bearer&assertion={SECRET}",
        f"http://user:{SECRET}@proxy:3128/",
        f"a token eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET} of a volume server",
        f"ya29.{SECRET}",
        f"4_{HEX}_acct",
        f"4_0022623512fc8f80000000001_0186e431_d18d02_acct_{SECRET}=",
        f"4_0022623512fc8f80000000001_0186e431_d18d02_upld_{SECRET}-{SECRET}=",
        f"2_20150807002553_{HEX}_{HEX}_acct",
        f"3_20160803004041_{HEX}_{HEX}_000_20160804004041_0006_dnld",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----\nrest",
        f"-----BEGIN PRIVATE KEY-----\\n{SECRET}",
    ],
)
def test_what_looks_like_a_token_is_blanked(text: str) -> None:
    shown = without_tokens(text)
    assert BLANK in shown
    for secret in (SECRET, HEX):
        assert secret[:4] not in shown
        assert secret[-8:] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "no token: invalid_grant: Invalid JWT Signature.",
        "HTTP 403 SignatureDoesNotMatch: check the secret key and the signing method",
        "the authorization header is malformed; the region 'us-east-1' is wrong",
        "Basic authentication is required",
        "a chunk 3,01637037d6 of http://10.0.0.1:8080/3,01637037d6 is gone",
        "metadata that S3 cannot take was left out: meta:sig, meta:token",
        "expected 4_z27c88f1d182b150646ff0b16_f200ec6f274fe0bb_d20260101",
        "/buckets/photos/signature.jpg: password.txt and token=short",
        "thumbs/3_d41d8cd98f00b204e9800998ecf8427e.jpg",
        "thumbs/3_20240101000000_d41d8cd98f00b204e9800998ecf8427e_upload.jpg",
        "exports/1_20240101_upld.csv",
        "courses/Basic Electronics101/intro.mp4",
        "courses/Basic QmFzaWMgRWxlY3Ryb25pY3M=",
        "plants/Bearer Plants2024.jpg",
        "a/token=production-2024/part-0.parquet",
        "'token=production-2024/part-0.parquet': no such volume",
        "a/signature=production-2024/password=production-2024/part-0.parquet",
        "a/access_token=production-2024/authorization=production-2024-2025/part-0.parquet",
    ],
)
def test_ordinary_words_and_names_of_files_stay(text: str) -> None:
    assert without_tokens(text) == text


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_looked_through(text: str) -> None:
    assert len(without_tokens(text)) <= len(text) + 3 * len(text)


def test_errors_and_texts_of_services_are_looked_through() -> None:
    error = SinkRefused(f"refused: Bearer {SECRET}", hint=f"?sig={SECRET}")
    assert SECRET not in str(error) + error.hint + repr(error)
    assert SECRET not in one_line(f"you sent {{'Authorization': '{SECRET}'}}")


@given(
    st.text(st.characters(codec="utf-8"), min_size=9, max_size=60),
    st.binary(max_size=5),
    st.binary(max_size=5),
)
@settings(deadline=None)
def test_a_known_secret_is_blanked_in_every_form(secret: str, before: bytes, after: bytes) -> None:
    redactor = Redactor()
    redactor.register(Secret(secret))
    inside = base64.b64encode(before + secret.encode() + after).decode()
    for text in (secret, quote(secret, safe=""), repr(secret), inside, inside.translate({43: "-", 47: "_"})):
        assert BLANK in redactor.clean(f"<{text}>")


def test_a_line_of_a_key_is_blanked_alone() -> None:
    redactor = Redactor()
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"
    redactor.register(Secret(f"first\n{line}\nlast\n"))
    assert redactor.clean(f"at {line}: bad") == f"at {BLANK}: bad"


def test_secrets_of_a_credentials_file_and_of_the_chains_are_known() -> None:
    known = GcsSettings("google_cloud_storage", credentials_file="/key.json", in_file=(Secret("planted-1"),))
    assert [secret.reveal() for secret in secrets_in(known)] == ["planted-1"]
    environ = {"AWS_SESSION_TOKEN": "planted-2", "AZURE_CLIENT_SECRET": "planted-3", "PATH": "/bin"}
    assert {secret.reveal() for secret in secrets_of_chains(environ)} == {"planted-2", "planted-3"}


def test_what_goes_to_the_filer_is_looked_through() -> None:
    """`status` shows a sink's error to whoever can ask the filer."""
    redactor = Redactor()
    redactor.register(Secret(SECRET))
    watcher = Watcher(logging.getLogger("filerbackup.quiet"), clean=redactor.clean)
    watcher.trouble("sink-error", SinkRefused(f"the service says {SECRET}", hint=f"not {SECRET}"))
    assert watcher.error == f"the service says {BLANK} (not {BLANK})"


_SOUNDS_SECRET = re.compile(r"secret|token|password|passphrase|credentials$|(?<!access_)(?<!kms_)key$|kek$")
_NO_SECRETS = {"key"}
"""`ClientTls.key` is the path of a file."""


def test_settings_that_are_secrets_cannot_be_shown() -> None:
    found = 0
    for kind in vars(model).values():
        if not (dataclasses.is_dataclass(kind) and isinstance(kind, type)):
            continue
        for field in dataclasses.fields(kind):
            if _SOUNDS_SECRET.search(field.name) and field.name not in _NO_SECRETS:
                assert str(field.type).startswith(("Secret", "tuple[Secret")), f"{kind.__name__}.{field.name}"
                found += 1
    assert found >= 5


def test_no_flag_takes_a_secret() -> None:
    assert [option.flag for option in keys.OPTIONS if _SOUNDS_SECRET.search(option.name)] == []
    named = {key for key in keys.REPLICATION_KEYS if _SOUNDS_SECRET.search(key)}
    assert named - keys.SECRET_KEYS == set()


CRASH = """
import logging, sys, threading
from filerbackup.observe.crashes import show_crashes_without_secrets
from filerbackup.observe.logs import configure
from filerbackup.settings.secret import Secret
configure("text", "debug", sys.stderr).register_secret(Secret("planted-secret"))
show_crashes_without_secrets()
class Broken:
    def __del__(self):
        raise ValueError("finalizer planted-secret")
def work():
    raise ValueError("thread planted-secret \\x1b[2J")
thread = threading.Thread(target=work)
thread.start(); thread.join()
Broken()
raise ValueError("main planted-secret and Bearer 0123456789abcdef")
"""


def test_a_crash_shows_no_secret_either() -> None:
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for said in ("thread ***", "finalizer ***", "main *** and Bearer ***"):
        assert f"ValueError: {said}" in done.stderr
    for hidden in ("planted-secret", "0123456789abcdef", "\x1b"):
        assert hidden not in done.stderr
