"""The example files: what the scaffold writes, and what lies ready in `config/`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import tomli

from filerbackup.settings import files, keys
from filerbackup.settings.load import load_settings
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    DeleteGuard,
    FilerSinkSettings,
    GcsSettings,
    LocalSettings,
    S3Settings,
    Settings,
)
from filerbackup.settings.scaffold import scaffold
from filerbackup.settings.secret import Secret
from tests.support.weed import weed_binary

CONFIG = Path(__file__).parents[2] / "config"

READY = {
    "local-mirror.toml": ("local",),
    "local-and-s3.toml": ("local", "s3"),
    "s3-dated.toml": ("s3",),
    "minio.toml": ("s3",),
    "gcs-mirror.toml": ("google_cloud_storage",),
    "azure-mirror.toml": ("azure",),
    "backblaze-mirror.toml": ("backblaze",),
    "second-cluster.toml": ("filer",),
}

OWN_NAMES = {
    "your_bucket_name": "backup",
    "your_bucket_seaweedfs": "backup",
    "mybucket": "backup",
    'google_application_credentials = "/path/to/x.json"': 'google_application_credentials = ""',
    'account_name = ""': 'account_name = "account"',
    "localhost:18888": "elsewhere:18888",
}
"""What has to be filled in before the scaffold works with all sinks on."""


def load(config: Path, *, require_sinks: bool = True) -> Settings:
    nowhere = Path("/nonexistent")
    return load_settings(
        config=str(config),
        flags={},
        environ={"B2_APPLICATION_KEY_ID": "id", "B2_APPLICATION_KEY": "key"},
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
    on = re.sub(r"(?m)^# ((?!exclude_)[A-Za-z0-9_]+ = .*)$", r"\1", scaffold())
    enable = re.sub(r"(\[sink\.\w+\]\nenabled = )false", r"\1true", on)
    for written, instead in OWN_NAMES.items():
        assert enable.count(written) == 1
        enable = enable.replace(written, instead)
    (tmp_path / "replication.toml").write_text(enable)
    (tmp_path / "replication.toml").chmod(0o600)
    settings = load(tmp_path / "replication.toml")
    assert settings.warnings == ()
    assert settings.source == Settings().source
    assert settings.pipeline == Settings().pipeline
    assert settings.log == Settings().log
    assert settings.sinks == (
        LocalSettings(name="local", directory="/data", concurrency=64, weed_identity=("local", "/data")),
        S3Settings(name="s3", bucket="backup", concurrency=64, weed_identity=("s3", "", "backup", "/")),
        GcsSettings(
            name="google_cloud_storage", bucket="backup", concurrency=64,
            weed_identity=("google_cloud_storage", "backup", "/"),
        ),
        AzureSettings(
            name="azure", account_name="account", container="mycontainer", concurrency=64,
            weed_identity=("azure", "account", "", "mycontainer", "/"),
        ),
        BackblazeSettings(
            name="backblaze", bucket="backup", key_id="id", application_key=Secret("key"), concurrency=64,
            weed_identity=("backblaze", "backup", "/"),
        ),
        FilerSinkSettings(
            name="filer", directory="/backup", concurrency=64, grpc_address="elsewhere:18888",
            weed_identity=("filer", "elsewhere:18888", "/backup"),
        ),
    )  # fmt: skip
    shown = set(files.read(tmp_path / "replication.toml").raw)
    hidden = {"filerbackup.exclude_paths", "filerbackup.exclude_names", "filerbackup.dry_run"}
    assert keys.NEW_KEYS - shown == hidden
    without_effect = {"keep_part_size", "uploader_max_upload_parts", "s3_disable_content_md5_validation"}
    replaced = {"uploader_part_size", "uploader_concurrency"}
    assert {key for key in keys.WEED_KEYS - shown if key.startswith("sink.")} == {
        f"sink.s3.{name}" for name in without_effect | replaced
    }


@pytest.mark.parametrize("name", sorted(READY))
def test_ready_examples_load_without_a_warning(name: str) -> None:
    settings = load(CONFIG / name)
    assert settings.warnings == ()
    assert tuple(sink.name for sink in settings.sinks) == READY[name]


def test_the_examples_say_what_their_names_say() -> None:
    (mirror,) = load(CONFIG / "local-mirror.toml").sinks
    assert isinstance(mirror, LocalSettings)
    assert not mirror.is_incremental
    (dated,) = load(CONFIG / "s3-dated.toml").sinks
    assert isinstance(dated, S3Settings)
    assert dated.is_incremental
    assert load(CONFIG / "azure-mirror.toml").pipeline.delete_guard == DeleteGuard(limit=1000)
    (cluster,) = load(CONFIG / "second-cluster.toml").sinks
    assert isinstance(cluster, FilerSinkSettings)
    assert cluster.grpc_address.endswith(":18888")


def test_the_security_example_holds_every_key_that_is_read_and_no_secret() -> None:
    text = (CONFIG / "security.toml").read_text()
    shown = set(files.read(CONFIG / "security.toml").raw)
    assert shown <= set(keys.SECURITY_KEYS)
    hidden = {"grpc.client.client_cert", "grpc.client.client_key", "https.client.insecure_skip_verify"}
    hidden.add("s3.sse.kek.passphrase")
    assert set(keys.SECURITY_KEYS) - shown == hidden
    assert not tomli.loads(text)["jwt"]["signing"]["read"]["key"]


def test_every_file_in_config_is_covered() -> None:
    assert {path.name for path in CONFIG.iterdir()} == {"replication.toml", "security.toml", *READY}
