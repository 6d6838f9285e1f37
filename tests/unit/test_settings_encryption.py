"""Keys of the S3 gateway's encryption in `security.toml`: where they come from, and that none is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.load import load_settings
from filerbackup.settings.model import ClientTls, KmsSettings, Settings, SseSettings
from filerbackup.settings.secret import Secret, secrets_in

KEK = "0a" * 32
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def run(text: str = "", environ: Mapping[str, str] | None = None, mode: int = 0o600) -> Settings:
        file = tmp_path / "security.toml"
        file.write_text(text)
        file.chmod(mode)
        return load_settings(
            config=None, flags={}, environ=environ or {}, home=tmp_path / "home", cwd=tmp_path,
            system=[], require_sinks=False,
        )  # fmt: skip

    return run


def test_nothing(load: Load) -> None:
    for text in ("", '[s3.sse]\nkek = ""\nkey = ""\n[kms]\ndefault_provider = "x"\n', "[kms.providers.x]\n"):
        settings = load(text)
        assert settings.security.sse == SseSettings()
        assert settings.warnings == ()
    assert not settings.source.sse_kek_from_filer


def test_keys_of_sse_s3(load: Load) -> None:
    assert load(f'[s3.sse]\nkek = "{KEK}"\n').security.sse == SseSettings(kek=Secret(KEK))
    assert load('[s3.sse]\nkey = " any "\n').security.sse == SseSettings(key=Secret(" any "))
    assert load('[s3.sse.kek]\npassphrase = "p"\n').security.sse == SseSettings(kek_passphrase=Secret("p"))
    environ = {"WEED_S3_SSE_KEK": KEK, "WEED_S3_SSE_KEK_PASSPHRASE": "p"}
    assert load(environ=environ).security.sse == SseSettings(kek=Secret(KEK), kek_passphrase=Secret("p"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[s3.sse]\nkek = "secret-but-no-hex"\n', "s3.sse.kek: must be 32 bytes as 64 hexadecimal digits"),
        (f'[s3.sse]\nkek = "{KEK}00"\n', "s3.sse.kek: must be 32 bytes"),
        ("[s3.sse]\nkey = 5\n", "s3.sse.key: must be text in quotes"),
        (f'[s3.sse]\nkek = "{KEK}"\nkey = "secret"\n', "s3.sse.key: set while s3.sse.kek is set too"),
        (
            '[kms.providers.a]\ntype = "aws"\nsecret_key = "secret"\n',
            "kms.providers.a.access_key: missing, while secret_key is set",
        ),
        (
            '[kms.providers.a]\ntype = "vault"\ntoken = "secret"\nclient_cert = "c.pem"\n',
            "kms.providers.a.client_key: missing, while client_cert is set",
        ),
        (
            '[kms.providers.a]\ntype = "vault"\ntoken = "secret"\nclient_key = "k.pem"\n',
            "kms.providers.a.client_cert: missing, while client_key is set",
        ),
        ('[kms.providers.a]\ntype = "vault"\nrole_id = "r"\n', "kms.providers.a.token: missing"),
        (
            '[kms.providers.a]\ntype = "vault"\ntoken = "secret"\nca_cert = "missing.pem"\n',
            "kms.providers.a.ca_cert: no such file",
        ),
        (
            '[kms.providers.a]\ntype = "aws"\nendpoint = "ftp://x"\n',
            "kms.providers.a.endpoint: must be a URL",
        ),
    ],
)
def test_mistakes_name_the_key_and_no_secret(load: Load, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path}/security.toml: {said}")
    assert "secret-but" not in str(caught.value)
    assert KEK not in str(caught.value)


def test_services(load: Load, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("pem")
    settings = load(
        """
        [kms]
        default_provider = "Main"
        [kms.buckets.some]
        provider = "main"
        [kms.providers.bao]
        type = "OpenBao"
        address = "https://bao:8200"
        token = "hush-token"
        ca_cert = "ca.pem"
        cache_ttl = "1h"
        [kms.providers.main]
        type = "aws"
        region = "eu-central-1"
        access_key = "AK"
        secret_key = "hush-secret"
        """
    )
    assert settings.warnings == ()
    assert settings.security.sse.kms == (
        KmsSettings(
            "main", "aws", region="eu-central-1", access_key_id="AK", secret_access_key=Secret("hush-secret")
        ),
        KmsSettings(
            "bao", "openbao", endpoint="https://bao:8200", token=Secret("hush-token"),
            tls=ClientTls(ca=str(tmp_path / "ca.pem")),
        ),
    )  # fmt: skip
    # What keeps secrets out of logs and tracebacks finds them by this.
    assert {secret.reveal() for secret in secrets_in(settings)} >= {"hush-secret", "hush-token"}
    assert "hush" not in repr(settings)


def test_the_environment_wins(load: Load) -> None:
    settings = load(
        '[kms.providers.my-bao]\ntype = "vault"\ntoken = "old"\n', {"WEED_KMS_PROVIDERS_MY_BAO_TOKEN": "new"}
    )
    assert settings.security.sse.kms == (
        KmsSettings("my-bao", "vault", endpoint="http://localhost:8200", token=Secret("new")),
    )
    variable = "environment variable WEED_KMS_PROVIDERS_MY_BAO_TOKEN"
    assert settings.origins["kms.providers.my-bao.token"] == variable


def test_warnings(load: Load, tmp_path: Path) -> None:
    settings = load(
        '[kms.providers.a]\ntype = "gcp"\nproject_id = "p"\n'
        '[kms.providers.b]\ntype = "vault"\ntoken = "t"\ntls_skip_verify = true\nnamespace = "n"\n',
        mode=0o644,
    )
    file = f"{tmp_path}/security.toml"
    assert settings.warnings == (
        f"{file}: kms.providers.a.type: 'gcp' cannot be asked: "
        "what is encrypted with it becomes dead letters",
        f"{file}: kms.providers.b.namespace: not supported, ignored",
        f"{file}: kms.providers.b.tls_skip_verify: not supported, server certificates are always checked",
        f"{file}: holds a secret but is open to others (mode 0644): chmod 600 {file}",
    )
    assert [(kms.name, kms.kind) for kms in settings.security.sse.kms] == [("a", "gcp"), ("b", "vault")]
    assert load(f'[s3.sse]\nkek = "{KEK}"\n', mode=0o640).warnings
