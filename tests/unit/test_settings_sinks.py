"""The sinks' sections: every key, every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings import keys
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    FilerSinkSettings,
    GcsSettings,
    LocalSettings,
    S3Settings,
)
from tests.support.settings import AZURE, B2, FILER, GCS, LOCAL, S3, Loader


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def cwd(load: Loader) -> Path:
    return load.cwd


def test_every_key_of_the_s3_sink(load: Loader) -> None:
    settings = load(
        S3
        + """
        aws_access_key_id = "AKIA"
        aws_secret_access_key = "hunter22"
        region = "eu-central-1"
        directory = "a/b/"
        endpoint = "http://elsewhere:8333/"
        is_incremental = true
        acl = "private"
        keep_part_size = false
        uploader_max_upload_parts = 500
        uploader_part_size = 16
        uploader_concurrency = 3
        s3_disable_content_md5_validation = false
        s3_force_path_style = false
        timezone = "Europe/Berlin"
        concurrency = 7
        storage_class = "STANDARD_IA"
        symlinks = "skip"
        directory_markers = true
        aws_session_token = "token22"
        server_side_encryption = "aws:kms"
        sse_kms_key_id = "arn:aws:kms:x"
        """
    )
    (sink,) = settings.sinks
    assert isinstance(sink, S3Settings)
    assert sink.secret_access_key.reveal() == "hunter22"
    assert sink.session_token.reveal() == "token22"
    assert "hunter22" not in repr(settings)
    assert "token22" not in repr(settings)
    assert sink == S3Settings(
        name="s3", directory="/a/b", is_incremental=True, timezone="Europe/Berlin", concurrency=7,
        weed_identity=("s3", "http://elsewhere:8333/", "backup", "a/b/"), bucket="backup",
        region="eu-central-1",
        endpoint="http://elsewhere:8333", access_key_id="AKIA", secret_access_key=sink.secret_access_key,
        force_path_style=False, storage_class="STANDARD_IA", acl="private", part_size_bytes=16 << 20,
        part_concurrency=3, symlinks="skip", directory_markers=True, session_token=sink.session_token,
        server_side_encryption="aws:kms", sse_kms_key_id="arn:aws:kms:x",
    )  # fmt: skip
    (warning,) = settings.warnings
    assert "sink.s3.server_side_encryption: http://elsewhere:8333 is not https" in warning


def test_encryption_by_the_service_without_a_warning(load: Loader) -> None:
    for endpoint in ("", "https://s3.example.com"):
        for chosen in ("", "AES256", "aws:kms"):
            settings = load(S3 + f'endpoint = "{endpoint}"\nserver_side_encryption = "{chosen}"\n')
            (sink,) = settings.sinks
            assert isinstance(sink, S3Settings)
            assert sink.server_side_encryption == chosen
            assert settings.warnings == ()


def test_an_authority_of_ones_own(load: Loader, cwd: Path) -> None:
    (cwd / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (sink,) = load(S3 + 'ca_file = "ca.pem"').sinks
    assert isinstance(sink, S3Settings)
    assert sink.ca_file == str(cwd / "ca.pem")
    (warning,) = load(S3 + 'ca_file = "ca.pem"\nendpoint = "http://host:8333"').warnings
    assert "sink.s3.ca_file: not used, since http://host:8333 is not https" in warning
    with pytest.raises(UsageError, match=r"sink\.s3\.ca_file: no such file: .*/cwd/nowhere\.pem"):
        load(S3 + 'ca_file = "nowhere.pem"')
    (cwd / "ca.pem").write_bytes(b"\x30\x82")
    with pytest.raises(UsageError, match=r"ca\.pem holds no certificate in PEM form"):
        load(S3 + 'ca_file = "ca.pem"')


def test_files_beside_the_configuration_come_first(load: Loader, tmp_path: Path, cwd: Path) -> None:
    for place in (tmp_path / "conf", cwd, tmp_path / "home"):
        place.mkdir(exist_ok=True)
        (place / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")

    def ca_file(name: str) -> str:
        (tmp_path / "conf" / "replication.toml").write_text(S3 + f'ca_file = "{name}"')
        (sink,) = load(config="../conf").sinks
        assert isinstance(sink, S3Settings)
        return str(Path(sink.ca_file).resolve())

    assert ca_file("ca.pem") == str(tmp_path / "conf" / "ca.pem")
    assert ca_file("~/ca.pem") == str(tmp_path / "home" / "ca.pem")
    (tmp_path / "conf" / "ca.pem").unlink()
    assert ca_file("ca.pem") == str(cwd / "ca.pem")


def test_our_keys_for_parts_win_over_weeds(load: Loader) -> None:
    (sink,) = load(
        S3 + 'uploader_part_size = 16\nuploader_concurrency = 3\npart_size = "6MiB"\npart_concurrency = 2\n'
    ).sinks
    assert isinstance(sink, S3Settings)
    assert (sink.part_size_bytes, sink.part_concurrency) == (6 << 20, 2)


def test_parts_stay_within_the_memory(load: Loader) -> None:
    settings = load(S3 + "uploader_part_size = 32\nuploader_concurrency = 8\n")
    (sink,) = settings.sinks
    assert isinstance(sink, S3Settings)
    assert (sink.part_size_bytes, sink.part_concurrency) == (32 << 20, 3)
    assert "uploader_concurrency: 3 instead of 8" in settings.warnings[0]
    with pytest.raises(UsageError, match=r"sink\.s3\.part_size: 128MiB do not fit into a memory of 96MiB"):
        load(S3 + 'part_size = "128MiB"')
    assert load(S3, flags={"memory": "8MiB"}).warnings == ()


def test_all_sinks_at_once(load: Loader) -> None:
    settings = load(FILER + B2 + AZURE + GCS + S3 + LOCAL)
    assert settings.warnings == ()
    assert [(sink.name, type(sink)) for sink in settings.sinks] == [
        ("local", LocalSettings), ("s3", S3Settings), ("google_cloud_storage", GcsSettings),
        ("azure", AzureSettings), ("backblaze", BackblazeSettings), ("filer", FilerSinkSettings),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", keys.SINKS)
def test_a_sink_that_is_off_is_not_looked_at(load: Loader, kind: str) -> None:
    wrong = f'[sink.{kind}]\nenabled = false\ndirectory = "/../"\nconcurrency = -1\n'
    text = wrong + (S3 if kind == "local" else LOCAL)
    assert len(load(text).sinks) == 1


def test_a_sink_that_nobody_knows_must_not_be_enabled(load: Loader) -> None:
    with pytest.raises(
        UsageError, match=r"sink\.gcs\.enabled: there is no sink of this kind; there are: local, s3, google"
    ):
        load(LOCAL + "[sink.gcs]\nenabled = true\n")
    assert load(LOCAL + "[sink.gcs]\nenabled = false\n").warnings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[sink.local]\nenabled = "yes"', r"sink\.local\.enabled: must be true or false, not 'yes'"),
        ("[sink.local]\nenabled = true", r"sink\.local\.directory: must name the directory to copy into"),
        ('[sink.local]\nenabled = true\ndirectory = ""', "must name the directory"),
        ('[sink.local]\nenabled = true\ndirectory = "data"', r"must be an absolute path .*not 'data'"),
        ('[sink.local]\nenabled = true\ndirectory = "/"', "must be a directory of its own"),
        ('[sink.local]\nenabled = true\ndirectory = "/a/../b"', "must not hold"),
        ("[sink.local]\nenabled = true\ndirectory = 5", r"must be text in quotes .*not a number"),
        (LOCAL + 'timezone = "Mars"', r"sink\.local\.timezone: must be a time zone such as .* not 'Mars'"),
        (
            LOCAL + "concurrency = 0",
            r"sink\.local\.concurrency: must be a whole number from 1 to 4096, not 0",
        ),
        ("[sink.s3]\nenabled = true", r"sink\.s3\.bucket: must name an existing bucket"),
        (
            S3 + 'aws_access_key_id = "x"',
            r"sink\.s3\.aws_secret_access_key: missing, while .*aws_access_key_id",
        ),
        (S3 + 'aws_secret_access_key = "hunter22"', r"sink\.s3\.aws_access_key_id: missing"),
        (S3 + 'acl = "everybody"', r"sink\.s3\.acl: must be one of private, .* not 'everybody'"),
        (S3 + 'part_size = "1MiB"', r"sink\.s3\.part_size: must be from 5MiB to 5GiB, not '1MiB'"),
        (S3 + 'endpoint = "ftp://x"', r"sink\.s3\.endpoint: must be a URL"),
        (S3 + 'directory = "a/../b"', r"sink\.s3\.directory: must not hold"),
        (S3 + 'storage_class = "A B"', r"sink\.s3\.storage_class: must be a storage class"),
        (S3 + "uploader_part_size = -1", r"sink\.s3\.uploader_part_size: must be a whole number"),
        (S3 + 'keep_part_size = "maybe"', r"sink\.s3\.keep_part_size: must be true or false"),
        (S3 + 'symlinks = "follow"', r"sink\.s3\.symlinks: must be one of rclonelink, follow-metadata, skip"),
        (S3 + 'directory_markers = "/"', r"sink\.s3\.directory_markers: must be true or false"),
        (
            S3 + 'aws_session_token = "hunter22"',
            r"sink\.s3\.aws_access_key_id: missing, while sink\.s3\.aws_session_token is set",
        ),
        (
            S3 + 'server_side_encryption = "aes"',
            r"sink\.s3\.server_side_encryption: must be one of AES256, aws:kms, not 'aes'",
        ),
        (S3 + 'sse_kms_key_id = "x"', r'sink\.s3\.sse_kms_key_id: acts only with .* = "aws:kms", .* not set'),
        (
            S3 + 'sse_kms_key_id = "x"\nserver_side_encryption = "AES256"',
            r'sink\.s3\.sse_kms_key_id: acts only with .* = "aws:kms", which is AES256',
        ),
        (S3 + 'endpoint = "https://a:hunter22@host"', r"sink\.s3\.endpoint: must be a URL .*password"),
    ],
)
def test_bad_sinks(load: Loader, cwd: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        load(text)
    assert str(caught.value).startswith(str(cwd / "replication.toml"))
    assert "hunter22" not in str(caught.value) + caught.value.hint
