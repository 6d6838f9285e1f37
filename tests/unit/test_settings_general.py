"""The `[filerbackup]` section, its variables and its flags, and which of them wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from filerbackup.cli.parser import parse
from filerbackup.errors import UsageError
from filerbackup.settings import keys
from filerbackup.settings.model import DeleteGuard, PipelineSettings, SourceSettings
from filerbackup.settings.values import as_bool
from tests.support.settings import FILER, LOCAL, Loader


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def cwd(load: Loader) -> Path:
    return load.cwd


def test_every_key_of_the_filerbackup_section(load: Loader) -> None:
    settings = load(
        LOCAL
        + """
        [filerbackup]
        filer = ["a:8888", "b:8888.18888"]
        path = "/buckets/x/"
        read_via = "filer"
        connect_timeout = "5s"
        exclude_paths = ["/a,b", ".snapshot"]
        exclude_names = "*.tmp, ._*"
        concurrency = 8
        memory = "1GB"
        start = 2026-01-31T20:00:00Z
        adopt_weed_checkpoint = true
        no_delete = true
        claim = true
        dry_run = true
        grace = "5s"
        reconcile_every = "0"
        versions = "all"
        remote_entries = "skip"
        delete_guard = 10_000
        delete_guard_window = "30m"
        log_format = "json"
        log_level = "debug"
        """
    )
    assert settings.warnings == ()
    assert settings.source == SourceSettings(
        filers=("a:8888", "b:8888.18888"), path="/buckets/x", read_via="filer", connect_timeout_s=5.0,
        exclude_paths=("/a,b", ".snapshot"), exclude_names=("*.tmp", "._*"), versions="all",
        remote_entries="skip",
    )  # fmt: skip
    assert settings.pipeline == PipelineSettings(
        concurrency=8, memory_bytes=10**9, start="2026-01-31T20:00:00+00:00", adopt_weed_checkpoint=True,
        no_delete=True, claim=True, dry_run=True, grace_s=5.0, reconcile_every_s=0.0,
        delete_guard=DeleteGuard(limit=10_000, share=0.0, window_s=1800.0),
    )  # fmt: skip
    assert (settings.log.format, settings.log.level) == ("json", "debug")


def test_every_option_reaches_the_settings(load: Loader) -> None:
    """Each key of the table changes something, whether it comes from a variable or a flag."""
    written = {
        "filer": "x:1", "path": "/x", "read_via": "filer", "connect_timeout": "1s", "exclude_paths": "/x",
        "exclude_names": "x", "concurrency": "3", "memory": "32MiB", "start": "now",
        "adopt_weed_checkpoint": "1",
        "no_delete": "true", "claim": "true", "dry_run": "true", "grace": "1s", "reconcile_every": "1h",
        "versions": "all", "remote_entries": "skip", "delete_guard": "10%", "delete_guard_window": "2h",
        "log_format": "json", "log_level": "error", "sse_kek_from_filer": "true",
    }  # fmt: skip
    assert written.keys() == {option.name for option in keys.OPTIONS}
    default = load(LOCAL)
    for name, value in written.items():
        by_flag = load(LOCAL, flags={name: value})
        by_variable = load(LOCAL, environ={f"FILERBACKUP_{name.upper()}": value})
        assert by_flag == by_variable != default
        option = next(option for option in keys.OPTIONS if option.name == name)
        assert by_flag.origins[f"filerbackup.{name}"] == f"flag {option.flag}"
        assert (
            by_variable.origins[f"filerbackup.{name}"] == f"environment variable FILERBACKUP_{name.upper()}"
        )


@pytest.mark.parametrize(
    ("written", "guard"),
    [
        ("'50%'", DeleteGuard(share=0.5)),
        ("'2.5 %'", DeleteGuard(share=0.025)),
        ("10000", DeleteGuard(limit=10_000)),
        ("'7'", DeleteGuard(limit=7)),
        ("0", DeleteGuard()),
        ("'0%'", DeleteGuard()),
        ("'off'", DeleteGuard()),
        ("false", DeleteGuard()),
    ],
)
def test_the_delete_guard(load: Loader, written: str, guard: DeleteGuard) -> None:
    assert load(LOCAL).pipeline.delete_guard == DeleteGuard(share=0.5, window_s=3600)
    text = LOCAL + f"[filerbackup]\ndelete_guard = {written}\n"
    assert load(text).pipeline.delete_guard == guard
    with_window = load(text, flags={"delete_guard_window": "60"}).pipeline.delete_guard
    assert with_window == replace(guard, window_s=60.0)


def test_every_option_is_a_flag_of_the_command() -> None:
    for option in keys.OPTIONS:
        value = {"read_via": "filer", "versions": "all", "remote_entries": "skip"}.get(option.name)
        value = value or {"log_format": "json", "log_level": "debug"}.get(option.name, "1")
        is_switch = option.parse is as_bool
        _, options = parse(["run", option.flag, *(() if is_switch else (value,))])
        assert getattr(options, option.name) in (True, value, [value])


def test_flags_win_over_the_environment_and_that_over_files(load: Loader, cwd: Path) -> None:
    text = LOCAL + "[filerbackup]\nconcurrency = 1\n"
    environ = {"FILERBACKUP_CONCURRENCY": "2", "WEED_SINK_LOCAL_DIRECTORY": "/env"}
    assert load(text).pipeline.concurrency == 1
    assert load(text, environ=environ).pipeline.concurrency == 2
    assert load(text, environ=environ).sinks[0].directory == "/env"
    settings = load(text, environ=environ, flags={"concurrency": 3, "memory": None})
    assert settings.pipeline.concurrency == 3
    assert settings.origins == {
        "filerbackup.concurrency": "flag --concurrency",
        "sink.local.directory": "environment variable WEED_SINK_LOCAL_DIRECTORY",
        "sink.local.enabled": str(cwd / "replication.toml"),
    }


def test_an_empty_variable_is_not_set(load: Loader) -> None:
    environ = {"WEED_SINK_LOCAL_DIRECTORY": "", "FILERBACKUP_CONCURRENCY": ""}
    assert load(LOCAL, environ=environ) == load(LOCAL)


def test_repeated_flags_and_flags_with_commas(load: Loader) -> None:
    flags = {"exclude_names": ["*.tmp,._*", "x"], "filer": ["a:1", "b:2,c:3"], "no_delete": True}
    settings = load(LOCAL, flags=flags)
    assert settings.source.exclude_names == ("*.tmp", "._*", "x")
    assert settings.source.filers == ("a:1", "b:2", "c:3")
    assert settings.pipeline.no_delete is True


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("memory", "lots", r"must be a size such as"),
        ("memory", "1MiB", r"must be from 8MiB to 16TiB, not '1MiB'"),
        ("concurrency", "many", r"must be a whole number from 1 to 4096"),
        (
            "start",
            "yesterday",
            r"must be one of auto, snapshot, log, now, or a time such as .* not 'yesterday'",
        ),
        ("start", "2026-01-31T20:00:00", r"must be one of auto"),
        ("filer", "localhost", r"must be host:port"),
        ("path", "x", r"must be an absolute path on the filer"),
        ("read_via", "pigeon", r"must be one of volume, filer, not 'pigeon'"),
        ("grace", "5 parsecs", r"must be a duration"),
        ("connect_timeout", "0", r"must be from 0.1s"),
        ("reconcile_every", "10ms", r"must be from 1s"),
        ("log_level", "LOUD", r"must be one of debug, info, warning, error"),
        ("no_delete", "perhaps", r"must be true or false"),
        ("versions", "newest", r"must be one of current, all, not 'newest'"),
        ("remote_entries", "copy", r"must be one of fetch, skip, not 'copy'"),
        ("delete_guard", "many", r"must be a number such as 10000, a share .* or \"off\", not 'many'"),
        ("delete_guard", "101%", r"must be a number .* not '101%'"),
        ("delete_guard_window", "0", r"must be from 1s"),
    ],
)
def test_bad_options_name_where_they_came_from(
    load: Loader, cwd: Path, name: str, value: str, problem: str
) -> None:
    option = next(option for option in keys.OPTIONS if option.name == name)
    with pytest.raises(UsageError, match=f"^{option.flag}: {problem}"):
        load(LOCAL, flags={name: value})
    with pytest.raises(UsageError, match=f"^environment variable FILERBACKUP_{name.upper()}: {problem}"):
        load(LOCAL, environ={f"FILERBACKUP_{name.upper()}": value})
    with pytest.raises(UsageError, match=f"^{cwd}/replication.toml: filerbackup.{name}: {problem}"):
        load(LOCAL + f'[filerbackup]\n{name} = "{value}"\n')


def test_a_flag_without_an_option_is_refused(load: Loader) -> None:
    with pytest.raises(UsageError, match='no such setting: memroy; did you mean "memory"'):
        load(LOCAL, flags={"memroy": "1GB"})


def test_a_copy_into_the_watched_filer_is_refused_where_something_is_copied(load: Loader) -> None:
    text = FILER.replace("elsewhere", "localhost")
    with pytest.raises(UsageError, match=r"sink\.filer: /backup is on the watched filer"):
        load(text)
    assert load(text, require_sinks=False).sinks
    assert load(text, flags={"path": "/photos"}).sinks


def test_each_key_has_one_variable_of_its_own() -> None:
    everything = [*keys.REPLICATION_KEYS, *keys.SECURITY_KEYS]
    assert len({keys.variable(key) for key in everything}) == len(everything)
    assert keys.variable("sink.s3.bucket") == "WEED_SINK_S3_BUCKET"
    assert keys.variable("jwt.signing.read.key") == "WEED_JWT_SIGNING_READ_KEY"
    assert keys.variable("sink.s3.storage_class") == "FILERBACKUP_SINK_S3_STORAGE_CLASS"
    assert keys.variable("filerbackup.no_delete") == "FILERBACKUP_NO_DELETE"
