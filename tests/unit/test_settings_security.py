"""`security.toml`: TLS files, signing keys, and the rest of the file that is for servers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.load import load_settings
from filerbackup.settings.model import ClientTls, SecuritySettings, Settings
from tests.support.weed import weed_binary

GRPC = '[grpc]\nca = "ca.pem"\n[grpc.client]\ncert = "cert.pem"\nkey = "key.pem"\n'

Load = Callable[..., Settings]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    for name in ("ca.pem", "cert.pem", "key.pem", "own-cert.pem", "own-key.pem"):
        (directory / name).write_text("pem")
        (directory / name).chmod(0o600)
    return directory


@pytest.fixture
def load(tmp_path: Path, etc: Path) -> Load:
    (tmp_path / "cwd").mkdir()

    def run(text: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        if text is not None:
            (etc / "security.toml").write_text(text)
            (etc / "security.toml").chmod(0o600)
        return load_settings(
            config=None, flags={}, environ=environ or {}, home=tmp_path / "home", cwd=tmp_path / "cwd",
            system=[etc], require_sinks=False,
        )  # fmt: skip

    return run


def test_weeds_own_scaffold_asks_for_nothing(load: Load) -> None:
    command = [weed_binary(), "scaffold", "-config=security"]
    settings = load(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert settings.security == SecuritySettings()
    assert settings.warnings == ()


def test_everything(load: Load, etc: Path) -> None:
    settings = load(
        f"""
        surprise = "servers have keys of their own"
        [grpc]
        ca = "{etc}/ca.pem"
        [grpc.client]
        cert = "cert.pem"
        key = "key.pem"
        [https.client]
        enabled = true
        ca = "ca.pem"
        cert = "cert.pem"
        key = "key.pem"
        [jwt.signing]
        key = "for servers"
        [jwt.signing.read]
        key = "volume secret"
        [jwt.filer_signing.read]
        key = "filer secret"
        """
    )
    tls = ClientTls(ca=f"{etc}/ca.pem", cert=f"{etc}/cert.pem", key=f"{etc}/key.pem")
    security = settings.security
    assert security.grpc == security.https == tls
    assert security.volume_read_key is not None
    assert security.filer_read_key is not None
    assert security.volume_read_key.reveal() == "volume secret"
    assert security.filer_read_key.reveal() == "filer secret"
    assert "secret" not in repr(settings).replace("Secret", "").replace("jwt.", "")
    assert settings.warnings == ()
    assert settings.origins["grpc.ca"] == f"{etc}/security.toml"
    assert "surprise" not in settings.origins


def test_a_pair_for_clients_alone_is_preferred(load: Load, etc: Path) -> None:
    text = GRPC + "%s"
    own = 'client_cert = "own-cert.pem"\nclient_key = "own-key.pem"'
    assert load(text % own).security.grpc == ClientTls(
        ca=f"{etc}/ca.pem", cert=f"{etc}/own-cert.pem", key=f"{etc}/own-key.pem"
    )
    settings = load(text % 'client_cert = "own-cert.pem"')
    assert settings.security.grpc == ClientTls(
        ca=f"{etc}/ca.pem", cert=f"{etc}/cert.pem", key=f"{etc}/key.pem"
    )
    assert "grpc.client.client_cert: ignored" in settings.warnings[0]


def test_the_name_in_the_filers_certificate(load: Load) -> None:
    tls = load(GRPC + 'server_name = "filer01"').security.grpc
    assert tls is not None
    assert tls.server_name == "filer01"
    tls = load(environ={"WEED_GRPC_CLIENT_SERVER_NAME": "filer02"}).security.grpc
    assert tls is not None
    assert tls.server_name == "filer02"


def test_the_environment_overrides(load: Load, tmp_path: Path) -> None:
    (tmp_path / "cwd" / "here.pem").write_text("pem")
    environ = {"WEED_JWT_SIGNING_READ_KEY": "from env", "WEED_HTTPS_CLIENT_CA": "here.pem"}
    settings = load('[https.client]\nenabled = true\nca = "ca.pem"\n[jwt.signing.read]\nkey = "x"', environ)
    assert settings.security.https == ClientTls(ca=str(tmp_path / "cwd" / "here.pem"))
    assert settings.security.volume_read_key is not None
    assert settings.security.volume_read_key.reveal() == "from env"


def test_a_signing_key_is_taken_to_the_letter(load: Load) -> None:
    key = load(environ={"WEED_JWT_SIGNING_READ_KEY": " with space\n"}).security.volume_read_key
    assert key is not None
    assert key.reveal() == " with space\n"


def test_https_that_is_off_needs_no_files(load: Load) -> None:
    assert load('[https.client]\nenabled = false\nca = "nowhere.pem"').security.https is None


def test_https_with_the_authorities_of_the_machine(load: Load) -> None:
    assert load("[https.client]\nenabled = true").security.https == ClientTls()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GRPC.replace("ca.pem", "no.pem"), r"grpc\.ca: no such file: .*no\.pem"),
        (GRPC.replace("cert.pem", "no.pem"), r"grpc\.client\.cert: no such file"),
        (GRPC.replace("ca.pem", "x" * 300), r"grpc\.ca: .* cannot be read: File name too long"),
        (GRPC.replace("key.pem", "."), r"grpc\.client\.key: .* cannot be read: Is a directory"),
        (GRPC.replace("key.pem", ""), r"grpc\.client\.key: missing, while grpc\.client\.cert is set"),
        (GRPC.replace("ca.pem", ""), r"grpc\.ca: missing, while grpc\.client\.cert is set"),
        ('[https.client]\nenabled = true\nkey = "key.pem"', r"https\.client\.cert: missing, while https"),
        ("[https.client]\nenabled = 5", r"https\.client\.enabled: must be true or false"),
        ("[jwt.signing.read]\nkey = 12345", r"jwt\.signing\.read\.key: must be text in quotes"),
        ("[jwt", r"line 1, column"),
    ],
)  # fmt: skip
def test_errors_name_file_and_key(load: Load, etc: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        load(text)
    assert str(caught.value).startswith(str(etc / "security.toml"))
    assert "12345" not in str(caught.value)


def test_a_certificate_authority_alone_is_plain_text_as_with_weed(load: Load) -> None:
    settings = load('[grpc]\nca = "ca.pem"')
    assert settings.security.grpc is None
    assert "grpc.ca: not used" in settings.warnings[0]
    assert "plain text" in settings.warnings[0]


def test_skipping_verification_is_not_on_offer(load: Load) -> None:
    settings = load("[https.client]\nenabled = true\ninsecure_skip_verify = true")
    assert "insecure_skip_verify: not supported" in settings.warnings[0]


def test_secrets_that_others_can_read_are_a_warning(load: Load, etc: Path) -> None:
    text = GRPC + '[jwt.signing.read]\nkey = "x"'
    assert load(text).warnings == ()
    (etc / "security.toml").chmod(0o644)
    (etc / "key.pem").chmod(0o640)
    (etc / "cert.pem").chmod(0o644)
    warnings = load().warnings
    assert len(warnings) == 2
    assert warnings[0].startswith(f"{etc}/key.pem: holds a secret but is open to others (mode 0640)")
    assert warnings[1].startswith(f"{etc}/security.toml: holds a secret but is open to others (mode 0644)")
