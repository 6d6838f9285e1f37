"""The example files: what the scaffold writes, and what lies ready in `config/`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import tomli

from filerbackup.settings import files, keys
from filerbackup.settings.load import load_settings
from filerbackup.settings.model import LocalSettings, S3Settings, Settings
from filerbackup.settings.scaffold import scaffold
from tests.support.weed import weed_binary

CONFIG = Path(__file__).parents[2] / "config"


def load(config: Path, *, require_sinks: bool = True) -> Settings:
    nowhere = Path("/nonexistent")
    return load_settings(
        config=str(config),
        flags={},
        environ={},
        home=nowhere,
        cwd=nowhere,
        system=[],
        require_sinks=require_sinks,
    )


def test_the_scaffold_is_the_example() -> None:
    assert (CONFIG / "replication.toml").read_text() == scaffold()


def test_the_scaffold_loads_and_changes_nothing() -> None:
    settings = load(CONFIG / "replication.toml", require_sinks=False)
    assert settings.warnings == ()
    assert settings.sinks == ()


def test_the_scaffold_holds_what_weeds_does(tmp_path: Path) -> None:
    (tmp_path / "weed.toml").write_text(
        subprocess.run(
            [weed_binary(), "scaffold", "-config=replication"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
    )
    weeds = files.read(tmp_path / "weed.toml").raw
    ours = files.read(CONFIG / "replication.toml").raw
    for key, raw in weeds.items():
        if not key.startswith("source."):
            assert ours[key].value == raw.value, key


def test_what_the_scaffold_shows_behind_a_hash_are_the_defaults(tmp_path: Path) -> None:
    """Taking away the hashes of everything but the exclusions must change nothing, and cover every key."""
    on = re.sub(r"(?m)^# ((?!exclude_)[a-z0-9_]+ = .*)$", r"\1", scaffold())
    enable = on.replace("[sink.local]\nenabled = false", "[sink.local]\nenabled = true")
    enable = enable.replace("[sink.s3]\nenabled = false", "[sink.s3]\nenabled = true").replace(
        "your_bucket_name", "backup"
    )
    (tmp_path / "replication.toml").write_text(enable)
    settings = load(tmp_path / "replication.toml")
    assert settings.warnings == ()
    assert settings.source == Settings().source
    assert settings.pipeline == Settings().pipeline
    assert settings.log == Settings().log
    assert settings.sinks == (
        LocalSettings(name="local", directory="/data", concurrency=64, weed_identity=("local", "/data")),
        S3Settings(name="s3", bucket="backup", concurrency=64, weed_identity=("s3", "", "backup", "/")),
    )
    shown = set(files.read(tmp_path / "replication.toml").raw)
    new = {key for key in keys.NEW_KEYS if key.startswith(("filerbackup.", "sink.local.", "sink.s3."))}
    assert new - shown == {"filerbackup.exclude_paths", "filerbackup.exclude_names", "filerbackup.dry_run"}


@pytest.mark.parametrize("name", ["local-mirror.toml", "s3-dated.toml", "local-and-s3.toml"])
def test_ready_examples_load_without_a_warning(name: str) -> None:
    settings = load(CONFIG / name)
    assert settings.warnings == ()
    assert settings.sinks


def test_the_examples_say_what_their_names_say() -> None:
    (mirror,) = load(CONFIG / "local-mirror.toml").sinks
    assert isinstance(mirror, LocalSettings)
    assert not mirror.is_incremental
    (dated,) = load(CONFIG / "s3-dated.toml").sinks
    assert isinstance(dated, S3Settings)
    assert dated.is_incremental
    assert [sink.name for sink in load(CONFIG / "local-and-s3.toml").sinks] == ["local", "s3"]


def test_the_security_example_holds_every_key_that_is_read_and_no_secret() -> None:
    text = (CONFIG / "security.toml").read_text()
    shown = set(files.read(CONFIG / "security.toml").raw)
    assert shown <= set(keys.SECURITY_KEYS)
    hidden = {"grpc.client.client_cert", "grpc.client.client_key", "https.client.insecure_skip_verify"}
    assert set(keys.SECURITY_KEYS) - shown == hidden
    assert not tomli.loads(text)["jwt"]["signing"]["read"]["key"]


def test_every_file_in_config_is_covered() -> None:
    assert {path.name for path in CONFIG.iterdir()} == {
        "replication.toml", "security.toml", "local-mirror.toml", "s3-dated.toml", "local-and-s3.toml",
    }  # fmt: skip
