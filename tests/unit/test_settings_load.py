"""Loading as a whole: files, environment and flags, and what is said when they are wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.model import LocalSettings, PipelineSettings, SourceSettings
from tests.support.settings import LOCAL, S3, Loader
from tests.support.weed import weed_binary


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def cwd(load: Loader) -> Path:
    return load.cwd


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weeds_scaffold() -> str:
    command = [weed_binary(), "scaffold", "-config=replication"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_weeds_own_scaffold_is_taken_unchanged(load: Loader, weeds_scaffold: str) -> None:
    settings = load(weeds_scaffold, require_sinks=False)
    assert settings.warnings == ()
    assert settings.sinks == ()
    assert settings.source == SourceSettings()
    assert settings.pipeline == PipelineSettings()


def test_weeds_scaffold_with_sinks_switched_on_by_the_environment(load: Loader, weeds_scaffold: str) -> None:
    environ = {
        "WEED_SINK_LOCAL_ENABLED": "true",
        "WEED_SINK_S3_ENABLED": "1",
        "WEED_SINK_S3_BUCKET": "backup",
    }
    settings = load(weeds_scaffold, environ=environ)
    assert settings.warnings == ()
    assert [sink.name for sink in settings.sinks] == ["local", "s3"]
    assert settings.sinks[0].directory == "/data"


def test_the_bucket_of_weeds_scaffold_is_no_bucket(load: Loader, weeds_scaffold: str) -> None:
    with pytest.raises(
        UsageError, match=r"replication\.toml: sink\.s3\.bucket: must name an existing bucket"
    ):
        load(weeds_scaffold, environ={"WEED_SINK_S3_ENABLED": "true"})


def test_search_order(load: Loader, tmp_path: Path, cwd: Path) -> None:
    places = [tmp_path / "etc", tmp_path / "usr", tmp_path / "home" / ".seaweedfs", cwd]
    for number, place in enumerate(places):
        place.mkdir(parents=True, exist_ok=True)
        (place / "replication.toml").write_text(LOCAL.replace("/data", f"/data{number}"))
        assert load().sinks[0].directory == f"/data{number}"


def test_config_is_a_file_or_a_directory_or_from_the_environment(load: Loader, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.toml").write_text(LOCAL.replace("/data", "/one"))
    (tmp_path / "conf" / "replication.toml").write_text(LOCAL.replace("/data", "/two"))
    assert load(LOCAL, config=str(tmp_path / "conf" / "mine.toml")).sinks[0].directory == "/one"
    assert load(LOCAL, config="../conf").sinks[0].directory == "/two"
    assert load(LOCAL, environ={"FILERBACKUP_CONFIG": "../conf/mine.toml"}).sinks[0].directory == "/one"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "h.toml").write_text(LOCAL.replace("/data", "/three"))
    assert load(LOCAL, config="~/h.toml").sinks[0].directory == "/three"


def test_security_toml_is_looked_for_beside_the_named_file_first(
    load: Loader, tmp_path: Path, cwd: Path
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "replication.toml").write_text(LOCAL)
    (tmp_path / "conf" / "security.toml").write_text('[jwt.signing.read]\nkey = "beside"')
    (cwd / "security.toml").write_text('[jwt.signing.read]\nkey = "in the working directory"')
    key = load(config="../conf").security.volume_read_key
    assert key is not None
    assert key.reveal() == "beside"


def test_no_file_lists_where_it_was_looked_for(load: Loader, tmp_path: Path, cwd: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load()
    for place in (cwd, tmp_path / "home" / ".seaweedfs", tmp_path / "usr", tmp_path / "etc"):
        assert str(place / "replication.toml") in str(caught.value)
    assert "WEED_SINK_LOCAL_DIRECTORY" in caught.value.hint


def test_no_file_is_fine_with_sinks_from_the_environment(load: Loader) -> None:
    settings = load(environ={"WEED_SINK_LOCAL_ENABLED": "true", "WEED_SINK_LOCAL_DIRECTORY": "/data"})
    assert settings.sinks == (
        LocalSettings(name="local", directory="/data", weed_identity=("local", "/data")),
    )
    assert settings.origins["sink.local.directory"] == "environment variable WEED_SINK_LOCAL_DIRECTORY"


def test_no_sink_can_be_allowed(load: Loader) -> None:
    assert load(require_sinks=False).sinks == ()
    with pytest.raises(UsageError, match=r"replication\.toml: no sink is enabled"):
        load("[sink.local]\nenabled = false\n")


@pytest.mark.parametrize("config", ["nowhere.toml", "nowhere/", "a\0b"])
def test_a_named_file_must_exist(load: Loader, config: str) -> None:
    with pytest.raises(UsageError, match=r"no such file|cannot be looked at"):
        load(LOCAL, config=config)


def test_a_named_directory_must_hold_the_file(load: Loader, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: holds no replication\.toml"):
        load(LOCAL, config="../empty")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[sink.local]\nenabled = \n", r"replication\.toml: line 2, column 11: Invalid value"),
        (b"a = 1\na = 2\n", r"replication\.toml: line 2"),
        (b"a = 1\nb = '\xff'\n", r"replication\.toml: line 2: not valid UTF-8"),
        (b"a = " + b"[" * 5000, r"replication\.toml: not usable as TOML: RecursionError"),
        (b".".join([b"a"] * 40) + b" = 1", r"nested more than 16 deep"),
        (b"#" * (1 << 21), r"surely not a configuration file"),
        (b"sink = 3", r"replication\.toml: sink: must be a section, \[sink\], not a value"),
        (b"[sink]\nlocal = true", r"replication\.toml: sink\.local: must be a section"),
        (b"[sink.local.directory]\nx = 1", r"sink\.local\.directory: must be a value, not a section"),
        (b'[sink.s3]\nbucket = "a"\nBucket = "b"', r"sink\.s3\.Bucket: given twice"),
    ],
)
def test_broken_files(load: Loader, cwd: Path, data: bytes, problem: str) -> None:
    (cwd / "replication.toml").write_bytes(data)
    with pytest.raises(UsageError, match=problem):
        load()


def test_a_syntax_error_does_not_repeat_the_line(load: Loader) -> None:
    with pytest.raises(UsageError) as caught:
        load('[sink.s3]\naws_secret_access_key = "hunter22" oops\n')
    assert "line 2" in str(caught.value)
    assert "hunter22" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_unreadable_file(load: Loader, cwd: Path) -> None:
    (cwd / "replication.toml").mkdir()
    with pytest.raises(UsageError, match=r"replication\.toml: cannot be read: Is a directory"):
        load()


def test_capitals_and_windows_line_ends_do_not_matter(load: Loader, cwd: Path) -> None:
    (cwd / "replication.toml").write_bytes(
        b'\xef\xbb\xbf[Sink.Local]\r\nEnabled = true\r\nDirectory = "/data"\r\n'
    )
    settings = load()
    assert settings.sinks[0].directory == "/data"
    assert settings.warnings == ()


# -- warnings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ('[sink.s3]\nbukcet = "x"', 'sink.s3.bukcet: unknown key, ignored; did you mean "sink.s3.bucket"?'),
        ("[filerbackup]\nconcurency = 5", 'did you mean "filerbackup.concurrency"?'),
        ("[filerbakup]\nmemory = 5", 'did you mean "filerbackup.memory"?'),
        ("[sink.lokal]\nenabled = false", 'unknown sink, ignored; did you mean "sink.local"?'),
        ("[notification]\nx = 1", "notification.x: unknown key, ignored"),
        ("[filerbackup]\n\"a\\u001bb\\nc\" = 1", "filerbackup.a\\x1bb\\nc: unknown key, ignored"),
    ],
)  # fmt: skip
def test_unknown_keys_are_a_warning(load: Loader, cwd: Path, line: str, warning: str) -> None:
    (found,) = load(LOCAL + line).warnings
    assert found.startswith(str(cwd / "replication.toml"))
    assert warning in found


def test_unknown_variables_are_a_warning(load: Loader) -> None:
    environ = {
        "WEED_SINK_S3_BUKCET": "x",
        "FILERBACKUP_CONCURENCY": "5",
        "FILERBACKUP_SINK_S3_BUCKET": "x",
        "WEED_SINK_S3_STORAGE_CLASS": "x",
        "WEED_MASTER_SEQUENCER": "weed's own",
        "FILERBACKUP_SERVICE_HOST": "10.0.0.1",
        "FILERBACKUP_PORT_9090_TCP_ADDR": "10.0.0.1",
        "FILERBACKUP_EMPTY": "",
    }
    assert load(LOCAL, environ=environ).warnings == (
        "environment variable FILERBACKUP_CONCURENCY: unknown, ignored; did you mean "
        '"FILERBACKUP_CONCURRENCY"?',
        "environment variable FILERBACKUP_SINK_S3_BUCKET: unknown, ignored; did you mean "
        '"WEED_SINK_S3_BUCKET"?',
        'environment variable WEED_SINK_S3_BUKCET: unknown, ignored; did you mean "WEED_SINK_S3_BUCKET"?',
        "environment variable WEED_SINK_S3_STORAGE_CLASS: unknown, ignored; did you mean "
        '"FILERBACKUP_SINK_S3_STORAGE_CLASS"?',
    )


def test_a_secret_in_a_file_that_others_can_read_is_a_warning(load: Loader, cwd: Path) -> None:
    path = cwd / "replication.toml"
    path.write_text(S3 + 'aws_access_key_id = "id"\naws_secret_access_key = "hunter22"\n')
    for mode, warned in ((0o644, True), (0o640, True), (0o600, False)):
        path.chmod(mode)
        warnings = load().warnings
        assert bool(warnings) is warned
        assert all(f"{path}: holds a secret but is open to others (mode {mode:04o})" in w for w in warnings)
    path.write_text(S3)
    path.chmod(0o644)
    assert load().warnings == ()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("s3", "aws_secret_access_key"),
        ("s3", "aws_session_token"),
        ("azure", "account_key"),
        ("backblaze", "b2_master_application_key"),
        ("google_cloud_storage", "google_application_credentials"),
    ],
)
def test_every_secret_is_kept_from_others(load: Loader, cwd: Path, section: str, key: str) -> None:
    load(LOCAL + f"[sink.{section}]\n{key} = '{{hunter22}}'\n")
    (cwd / "replication.toml").chmod(0o604)
    (warning,) = load().warnings
    assert "replication.toml: holds a secret" in warning
