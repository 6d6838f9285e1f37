"""Mistakes in the sections of Google, Azure, Backblaze and the filer sink, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from tests.support.settings import AZURE, B2, FILER, GCS, LOCAL, Loader, google_account, inline

ACCOUNT = google_account("hunter22")
BUCKET = '[sink.backblaze]\nenabled = true\nbucket = "backup"\n'


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def cwd(load: Loader) -> Path:
    return load.cwd


_GCS, _AZURE, _B2, _FILER = (
    r"sink\.google_cloud_storage\.",
    r"sink\.azure\.",
    r"sink\.backblaze\.",
    r"sink\.filer\.",
)
_FILE = "google_application_credentials"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[sink.google_cloud_storage]\nenabled = true", _GCS + "bucket: must name an existing bucket"),
        (GCS.replace("backup", "your_bucket_seaweedfs"), _GCS + "bucket: must name an existing bucket"),
        (GCS.replace("backup", "gs://backup"), _GCS + "bucket: must be the name of a bucket alone .* gs://"),
        (GCS.replace("backup", "Backup"), _GCS + "bucket: must be the name of a bucket alone"),
        (GCS + 'storage_class = "STANDARD_IA"', _GCS + "storage_class: must be one of source, STANDARD, "),
        (GCS + 'part_size = "512KiB"', _GCS + "part_size: must be from 1MiB to 5GiB, not '512KiB'"),
        (GCS + 'endpoint = "https://h/storage/v1"', _GCS + "endpoint: must be a URL"),
        (GCS + f'{_FILE} = "/path/to/x.json"', _GCS + f"{_FILE}: no such file: /path/to/x.json"),
        (GCS + f'{_FILE} = "."', _GCS + f"{_FILE}: .* cannot be read: Is a directory"),
        (GCS + f'{_FILE} = "replication.toml"', _GCS + f"{_FILE}: .*/replication.toml: not JSON"),
        (GCS + f'{_FILE} = "{{hunter22"', _GCS + f"{_FILE}: not JSON"),
        (GCS + inline({"private_key": "hunter22"}), _GCS + f'{_FILE}: no credentials .* "type" is missing'),
        (GCS + inline({"type": 5}), '"type" is missing'),
        (GCS + inline(ACCOUNT | {"client_email": ""}), '"client_email" is missing from the service_account'),
        (GCS + inline({"type": "authorized_user"}), '"client_id" is missing from the authorized_user'),
        (AZURE.replace('account_name = "account"', ""), _AZURE + "account_name: must name the storage acc"),
        (AZURE.replace('"account"', '"My-Account"'), _AZURE + "account_name: must be .*3 to 24 lower-case"),
        (
            AZURE.replace('"account"', '"account.blob.core.windows.net"'),
            _AZURE + r"account_name: must be .* without \.blob\.core\.windows\.net",
        ),
        (AZURE.replace('container = "backup"', ""), _AZURE + "container: must name an existing container"),
        (AZURE.replace("backup", "ab"), _AZURE + "container: must be the name of a container"),
        (AZURE.replace("backup", "back--up"), _AZURE + "container: must be the name of a container"),
        (AZURE.replace("backup", "back/up"), _AZURE + "container: must be the name of a container"),
        (AZURE + 'account_key = "hunter22!"', _AZURE + "account_key: must be a key .* in base64"),
        (AZURE + 'account_key = "hunter22hunter22h"', _AZURE + "account_key: must be a key .* in base64"),
        (AZURE + 'endpoint = "https://h/a?sig=hunter22"', _AZURE + "endpoint: must be the URL .* a token in"),
        (AZURE + 'endpoint = "https://h/a/container"', _AZURE + "endpoint: must be .* without a container"),
        (AZURE + 'storage_class = "Lukewarm"', _AZURE + "storage_class: must be one of source, Hot, Cool"),
        (AZURE + 'part_size = "5GiB"', _AZURE + "part_size: must be from 1MiB to 4000MiB"),
        (B2.replace("backup", "mybucket"), _B2 + "bucket: must name an existing bucket"),
        (B2.replace("backup", "short"), _B2 + "bucket: must be the name of a bucket .6 to 63"),
        (B2.replace("backup", "b2-backup"), _B2 + "bucket: must be the name of a bucket"),
        (B2.replace('b2_account_id = "id"', ""), _B2 + "b2_account_id: missing, while .*application_key is"),
        (
            B2.replace('b2_master_application_key = "hunter22"', ""),
            _B2 + "b2_master_application_key: missing, while .*b2_account_id is set",
        ),
        (BUCKET, _B2 + "b2_account_id: must name the id of an application key; B2_APPLICATION_KEY_ID is"),
        (B2 + 'storage_class = "STANDARD"', _B2 + "storage_class: must be left out: B2 has no storage"),
        (B2 + 'part_size = "4999999"', _B2 + "part_size: must be from 5000000B to 5000000000B"),
        (B2 + "directory_markers = true", _B2 + "directory_markers: must be false: no name in B2"),
        (B2 + 'hard_delete = "yes"', _B2 + "hard_delete: must be true or false"),
        ("[sink.filer]\nenabled = true", _FILER + "grpcAddress: must name the target filer as host:grpcPort"),
        (FILER.replace("elsewhere:18888", "h"), _FILER + "grpcAddress: must be one host:grpcPort"),
        (FILER.replace("elsewhere:18888", "h:8888.18888"), _FILER + "grpcAddress: must be one host:grpcPort"),
        (FILER.replace("elsewhere:18888", "http://h:1"), _FILER + "grpcAddress: must be one host:grpcPort"),
        (FILER.replace("elsewhere:18888", "h:99999"), _FILER + "grpcAddress: a port must be from 1 to 65535"),
        (FILER.replace("elsewhere:18888", "[::z]:1"), _FILER + "grpcAddress: must be one host"),
        (FILER.replace('directory = "/backup"', ""), _FILER + "directory: must name the folder of"),
        (FILER.replace("/backup", "backup"), _FILER + "directory: must be an absolute path on the filer"),
        (FILER.replace("/backup", "/"), _FILER + "directory: must be a folder of its own, not the root"),
        (FILER + 'replication = "two"', _FILER + "replication: must be the replication of a volume"),
        (FILER + 'replication = "300"', _FILER + "replication: must be the replication of a volume"),
        (FILER + "ttlSec = -1", _FILER + "ttlSec: must be a whole number from 0"),
        (FILER + "collection = 5", _FILER + "collection: must be text in quotes"),
    ],
)  # fmt: skip
def test_bad_sinks(load: Loader, cwd: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        load(text)
    assert str(caught.value).startswith(str(cwd / "replication.toml"))
    assert "hunter22" not in str(caught.value) + caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("key", ["symlinks", "hard_delete", "storage_class"])
def test_keys_of_other_sinks_are_unknown(load: Loader, key: str) -> None:
    (warning,) = load(LOCAL + f'[sink.filer]\n{key} = "x"\n').warnings
    assert f"sink.filer.{key}: unknown key, ignored" in warning


def test_an_unreadable_key_file(load: Loader, cwd: Path) -> None:
    (cwd / "big.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(UsageError, match=r"big\.json: larger than 1048576 bytes"):
        load(GCS + f'{_FILE} = "big.json"')
    (cwd / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"bytes\.json: not JSON"):
        load(GCS + f'{_FILE} = "bytes.json"')
