"""The sections of Google, Azure, Backblaze and the filer sink: every key, every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    FilerSinkSettings,
    GcsSettings,
    ObjectSettings,
    Settings,
)
from filerbackup.settings.secret import secrets_in
from tests.support.settings import AZURE, B2, FILER, GCS, Loader, google_account, inline

ACCOUNT = google_account("hunter22")
KEY = "aHVudGVyMjJodW50ZXIyMg=="


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def cwd(load: Loader) -> Path:
    return load.cwd


def gcs(settings: Settings) -> GcsSettings:
    (sink,) = settings.sinks
    assert isinstance(sink, GcsSettings)
    return sink


def azure(settings: Settings) -> AzureSettings:
    (sink,) = settings.sinks
    assert isinstance(sink, AzureSettings)
    return sink


def b2(settings: Settings) -> BackblazeSettings:
    (sink,) = settings.sinks
    assert isinstance(sink, BackblazeSettings)
    return sink


# -- what object stores share ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "storage_class", "spelled"),
    [
        (GCS, "nearline", "NEARLINE"),
        (GCS, "source", "source"),
        (AZURE, "COLD", "Cold"),
        (AZURE, "source", "source"),
        (B2, "", ""),
    ],
)
def test_every_key_of_an_object_store(load: Loader, section: str, storage_class: str, spelled: str) -> None:
    (sink,) = load(
        section
        + f"""
        directory = "a/b/"
        is_incremental = true
        timezone = "Europe/Berlin"
        concurrency = 7
        symlinks = "follow-metadata"
        directory_markers = {"false" if section == B2 else "true"}
        storage_class = "{storage_class}"
        part_size = "16MiB"
        part_concurrency = 3
        """
    ).sinks
    assert isinstance(sink, ObjectSettings)
    assert (sink.directory, sink.is_incremental, sink.timezone) == ("/a/b", True, "Europe/Berlin")
    assert (sink.concurrency, sink.symlinks, sink.directory_markers) == (7, "follow-metadata", section != B2)
    assert (sink.storage_class, sink.part_size_bytes, sink.part_concurrency) == (spelled, 16 << 20, 3)
    assert sink.weed_identity[-1] == "a/b/"


@pytest.mark.parametrize("section", [GCS, AZURE, B2])
def test_parts_stay_within_the_memory(load: Loader, section: str) -> None:
    settings = load(section + 'part_size = "32MiB"\npart_concurrency = 8\n')
    (sink,) = settings.sinks
    assert isinstance(sink, ObjectSettings)
    assert sink.part_concurrency == 3
    assert "part_concurrency: 3 instead of 8" in settings.warnings[0]
    with pytest.raises(UsageError, match="part_size: 128MiB do not fit into a memory of 96MiB"):
        load(section + 'part_size = "128MiB"')


# -- Google ----------------------------------------------------------------------------------------


def test_credentials_of_google_in_a_file(load: Loader, cwd: Path, tmp_path: Path) -> None:
    for where, written in ((cwd / "gcs.json", "gcs.json"), (tmp_path / "home" / "g.json", "~/g.json")):
        where.parent.mkdir(exist_ok=True)
        where.write_text(json.dumps(ACCOUNT))
        where.chmod(0o600)
        settings = load(GCS + f'google_application_credentials = "{written}"')
        assert gcs(settings).credentials_file == str(where)
        assert not gcs(settings).credentials
        assert settings.warnings == ()
        where.chmod(0o644)
        (warning,) = load().warnings
        assert f"{where}: holds a secret but is open to others" in warning


def test_credentials_of_google_inline(load: Loader, cwd: Path) -> None:
    settings = load(GCS + inline(ACCOUNT))
    assert json.loads(gcs(settings).credentials.reveal()) == ACCOUNT
    assert not gcs(settings).credentials_file
    assert settings.warnings == ()
    assert "hunter22" not in repr(settings)
    assert ACCOUNT["private_key"] in {secret.reveal() for secret in secrets_in(settings)}
    (cwd / "replication.toml").chmod(0o640)
    (warning,) = load().warnings
    assert "replication.toml: holds a secret" in warning


def test_the_path_of_credentials_is_no_secret(load: Loader, cwd: Path) -> None:
    (cwd / "gcs.json").write_text('{"type": "external_account"}')
    load(GCS + 'google_application_credentials = "gcs.json"')
    (cwd / "replication.toml").chmod(0o644)
    assert load().warnings == ()


def test_credentials_of_google_from_the_operators_variable(load: Loader, cwd: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS_JSON": json.dumps(ACCOUNT)}
    settings = load(GCS, environ=environ)
    assert json.loads(gcs(settings).credentials.reveal()) == ACCOUNT
    key = "sink.google_cloud_storage.google_application_credentials"
    assert settings.origins[key] == "environment variable GOOGLE_APPLICATION_CREDENTIALS_JSON"
    placeholder = GCS + 'google_application_credentials = "/path/to/x.json"'
    assert gcs(load(placeholder, environ=environ)).credentials
    (cwd / "mine.json").write_text('{"type": "external_account"}')
    mine = GCS + 'google_application_credentials = "mine.json"'
    assert gcs(load(mine, environ=environ)).credentials_file == str(cwd / "mine.json")
    with pytest.raises(UsageError, match=r"^environment variable GOOGLE_\w+_JSON: not JSON"):
        load(GCS, environ={"GOOGLE_APPLICATION_CREDENTIALS_JSON": "{hunter22"})


def test_no_credentials_of_google_are_those_of_the_machine(load: Loader) -> None:
    settings = load(GCS + 'google_application_credentials = ""')
    assert gcs(settings) == GcsSettings(
        name="google_cloud_storage", bucket="backup", weed_identity=("google_cloud_storage", "backup", "")
    )
    assert settings.warnings == ()


def test_the_endpoint_of_google(load: Loader) -> None:
    assert gcs(load(GCS + 'endpoint = "storage.example.com/"')).endpoint == "https://storage.example.com"
    with pytest.raises(UsageError, match=r"storage\.endpoint: must be https, or without .*://elsewhere:4443"):
        load(GCS + 'endpoint = "http://elsewhere:4443"\n' + inline(ACCOUNT))
    assert load(GCS + 'endpoint = "http://elsewhere:4443"').warnings == ()
    assert load(GCS + 'endpoint = "http://127.0.0.1:4443"\n' + inline(ACCOUNT)).warnings == ()


@pytest.mark.parametrize("value", ["http://localhost:4443", "localhost:4443", "http://localhost:4443/"])
def test_the_emulator_of_google(load: Loader, value: str) -> None:
    settings = load(GCS, environ={"STORAGE_EMULATOR_HOST": value})
    assert gcs(settings).endpoint == "http://localhost:4443"
    (warning,) = settings.warnings
    assert "STORAGE_EMULATOR_HOST: copies go to the emulator at http://localhost:4443" in warning
    own = load(GCS + 'endpoint = "https://h"', environ={"STORAGE_EMULATOR_HOST": value})
    assert gcs(own).endpoint == "https://h"


def test_a_bad_emulator_of_google(load: Loader) -> None:
    with pytest.raises(UsageError, match=r"^environment variable STORAGE_EMULATOR_HOST: must be a URL"):
        load(GCS, environ={"STORAGE_EMULATOR_HOST": "a b"})


# -- Azure -----------------------------------------------------------------------------------------


def test_every_key_of_the_azure_sink(load: Loader) -> None:
    settings = load(
        AZURE
        + f"""
        account_key = "{KEY}"
        endpoint = "https://account.blob.core.usgovcloudapi.net/"
        directory = "x/"
        """
    )
    sink = azure(settings)
    assert sink.account_key.reveal() == KEY
    assert KEY not in repr(settings)
    assert KEY in {secret.reveal() for secret in secrets_in(settings)}
    assert sink == AzureSettings(
        name="azure", directory="/x", account_name="account", account_key=sink.account_key,
        endpoint="https://account.blob.core.usgovcloudapi.net", container="backup",
        weed_identity=(
            "azure", "account", "https://account.blob.core.usgovcloudapi.net/", "backup", "x/",
        ),
    )  # fmt: skip
    assert settings.warnings == ()


def test_azure_with_an_identity(load: Loader) -> None:
    settings = load(AZURE + 'client_id = "11111111-2222"')
    assert azure(settings).client_id == "11111111-2222"
    assert settings.warnings == ()
    (warning,) = load(AZURE + f'client_id = "1"\naccount_key = "{KEY}"').warnings
    assert "sink.azure.client_id: not used, since there is an account_key" in warning


def test_azure_from_its_own_variables(load: Loader) -> None:
    section = '[sink.azure]\nenabled = true\naccount_name = ""\naccount_key = ""\ncontainer = "backup"\n'
    environ = {"AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_ACCOUNT_KEY": KEY}
    sink = azure(load(section, environ=environ))
    assert (sink.account_name, sink.account_key.reveal()) == ("account", KEY)
    assert sink.weed_identity[1] == "account"
    assert azure(load(AZURE, environ=environ)).account_key
    del environ["AZURE_STORAGE_ACCOUNT"]
    assert azure(load(AZURE, environ=environ)).account_key


def test_the_key_of_another_account_is_not_taken(load: Loader) -> None:
    environ = {"AZURE_STORAGE_ACCOUNT": "other", "AZURE_STORAGE_ACCOUNT_KEY": KEY}
    assert not azure(load(AZURE, environ=environ)).account_key


def test_azure_in_plain_text(load: Loader) -> None:
    """Azurite has the account as a path; a token never goes there."""
    local = AZURE + f'endpoint = "http://127.0.0.1:10000/account/"\naccount_key = "{KEY}"\n'
    settings = load(local)
    assert azure(settings).endpoint == "http://127.0.0.1:10000/account"
    assert settings.warnings == ()
    (warning,) = load(local.replace("127.0.0.1", "elsewhere")).warnings
    assert "sink.azure.endpoint: http://elsewhere:10000/account is not https" in warning
    with pytest.raises(UsageError, match=r"sink\.azure\.endpoint: must be https without an account_key"):
        load(AZURE + 'endpoint = "http://127.0.0.1:10000"')


# -- Backblaze -------------------------------------------------------------------------------------


def test_every_key_of_the_backblaze_sink(load: Loader) -> None:
    settings = load(
        B2 + 'b2_region = "us-west-002"\nhard_delete = true\nendpoint = "https://api.example.com/"'
    )
    sink = b2(settings)
    assert sink.application_key.reveal() == "hunter22"
    assert "hunter22" not in repr(settings)
    assert sink == BackblazeSettings(
        name="backblaze", bucket="backup", key_id="id", application_key=sink.application_key,
        region="us-west-002", endpoint="https://api.example.com", hard_delete=True,
        weed_identity=("backblaze", "backup", ""),
    )  # fmt: skip
    assert settings.warnings == ()
    with pytest.raises(UsageError, match=r"backblaze\.endpoint: must be https: http://elsewhere would get"):
        load(B2 + 'endpoint = "http://elsewhere"')
    assert load(B2 + 'endpoint = "http://localhost:1"').warnings == ()


BUCKET = '[sink.backblaze]\nenabled = true\nbucket = "backup"\n'
NEW = {"B2_APPLICATION_KEY_ID": "new", "B2_APPLICATION_KEY": "newkey"}
OLD = {"B2_ACCOUNT_ID": "old", "B2_MASTER_APPLICATION_KEY": "oldkey"}


@pytest.mark.parametrize(
    ("written", "environ", "pair"),
    [
        ("", NEW, ("new", "newkey")),
        ("", OLD, ("old", "oldkey")),
        ("", OLD | NEW, ("new", "newkey")),
        ('b2_account_id = "old"', OLD | NEW, ("old", "oldkey")),
        ('b2_account_id = "new"', {"B2_APPLICATION_KEY": "newkey"}, ("new", "newkey")),
        ('b2_master_application_key = "oldkey"', OLD | NEW, ("old", "oldkey")),
        ('b2_account_id = "x"\nb2_master_application_key = "y"', OLD | NEW, ("x", "y")),
    ],
)
def test_backblaze_from_its_own_variables(
    load: Loader, written: str, environ: dict[str, str], pair: tuple[str, str]
) -> None:
    """An id and a key of different pairs are never mixed."""
    sink = b2(load(BUCKET + written, environ=environ))
    assert (sink.key_id, sink.application_key.reveal()) == pair


def test_half_a_pair_of_backblaze(load: Loader) -> None:
    environ = {"B2_APPLICATION_KEY_ID": "new", "B2_MASTER_APPLICATION_KEY": "oldkey", "B2_ACCOUNT_ID": "old"}
    with pytest.raises(UsageError, match=r"b2_master_application_key: missing, while .*b2_account_id is set"):
        load(BUCKET, environ=environ)


# -- filer --------------------------------------------------------------------------------------


def test_every_key_of_the_filer_sink(load: Loader) -> None:
    settings = load(
        FILER
        + """
        replication = "001"
        collection = "backup"
        ttlSec = 3600
        dataCenter = "dc1"
        disk = "ssd"
        is_incremental = true
        timezone = "Asia/Tokyo"
        concurrency = 9
        """
    )
    assert settings.sinks == (
        FilerSinkSettings(
            name="filer", directory="/backup", is_incremental=True, timezone="Asia/Tokyo", concurrency=9,
            weed_identity=("filer", "elsewhere:18888", "/backup"), grpc_address="elsewhere:18888",
            replication="001", collection="backup", ttl_s=3600, data_center="dc1", disk="ssd",
        ),
    )  # fmt: skip
    assert settings.warnings == ()


def test_variables_of_weed_for_every_sink(load: Loader) -> None:
    environ = {
        "WEED_SINK_GOOGLE_CLOUD_STORAGE_ENABLED": "true",
        "WEED_SINK_GOOGLE_CLOUD_STORAGE_BUCKET": "backup",
        "WEED_SINK_AZURE_ENABLED": "true",
        "WEED_SINK_AZURE_ACCOUNT_NAME": "account",
        "WEED_SINK_AZURE_CONTAINER": "backup",
        "WEED_SINK_BACKBLAZE_ENABLED": "true",
        "WEED_SINK_BACKBLAZE_BUCKET": "backup",
        "WEED_SINK_BACKBLAZE_B2_ACCOUNT_ID": "id",
        "WEED_SINK_BACKBLAZE_B2_MASTER_APPLICATION_KEY": "key",
        "WEED_SINK_FILER_ENABLED": "true",
        "WEED_SINK_FILER_GRPCADDRESS": "h:18888",
        "WEED_SINK_FILER_DIRECTORY": "/backup",
        "FILERBACKUP_SINK_BACKBLAZE_HARD_DELETE": "true",
        "FILERBACKUP_SINK_AZURE_SYMLINKS": "skip",
        "FILERBACKUP_SINK_GOOGLE_CLOUD_STORAGE_ENDPOINT": "https://h",
    }
    settings = load(environ=environ)
    assert settings.warnings == ()
    google, microsoft, backblaze, filer = settings.sinks
    assert isinstance(google, GcsSettings)
    assert isinstance(microsoft, AzureSettings)
    assert isinstance(backblaze, BackblazeSettings)
    assert isinstance(filer, FilerSinkSettings)
    assert (google.endpoint, microsoft.symlinks, backblaze.hard_delete) == ("https://h", "skip", True)
    assert filer.grpc_address == "h:18888"
