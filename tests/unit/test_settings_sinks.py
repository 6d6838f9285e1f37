"""The sinks' sections: every key, every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.model import S3Settings
from tests.support.settings import LOCAL, S3, Loader


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
        """
    )
    (sink,) = settings.sinks
    assert isinstance(sink, S3Settings)
    assert sink.secret_access_key.reveal() == "hunter22"
    assert "hunter22" not in repr(settings)
    assert sink == S3Settings(
        name="s3", directory="/a/b", is_incremental=True, timezone="Europe/Berlin", concurrency=7,
        weed_identity=("s3", "http://elsewhere:8333/", "backup", "a/b/"), bucket="backup",
        region="eu-central-1",
        endpoint="http://elsewhere:8333", access_key_id="AKIA", secret_access_key=sink.secret_access_key,
        force_path_style=False, storage_class="STANDARD_IA", acl="private", part_size_bytes=16 << 20,
        part_concurrency=3,
    )  # fmt: skip
    assert settings.warnings == ()


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


@pytest.mark.parametrize("kind", ["google_cloud_storage", "azure", "backblaze", "filer"])
def test_sinks_that_are_not_there_yet(load: Loader, kind: str) -> None:
    text = LOCAL + f"[sink.{kind}]\nenabled = %s\nis_incremental = true\n"
    assert load(text % "false").warnings == ()
    problem = rf"sink\.{kind}\.enabled: .*not supported by this version yet; supported: local, s3"
    with pytest.raises(UsageError, match=problem):
        load(text % "true")
    with pytest.raises(UsageError, match=f"WEED_SINK_{kind.upper()}_ENABLED: .*not supported"):
        load(LOCAL, environ={f"WEED_SINK_{kind.upper()}_ENABLED": "true"})


def test_a_sink_that_nobody_knows_must_not_be_enabled(load: Loader) -> None:
    with pytest.raises(UsageError, match=r"sink\.gcs\.enabled: there is no sink of this kind"):
        load(LOCAL + "[sink.gcs]\nenabled = true\n")


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
    ],
)
def test_bad_sinks(load: Loader, cwd: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        load(text)
    assert str(caught.value).startswith(str(cwd / "replication.toml"))
    assert "hunter22" not in str(caught.value) + caught.value.hint
