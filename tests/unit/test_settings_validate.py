"""Sinks that would write into each other, or back into the folder that is watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    FilerSinkSettings,
    GcsSettings,
    LocalSettings,
    S3Settings,
    Settings,
    SinkSettings,
    SourceSettings,
)
from filerbackup.settings.validate import (
    check_sinks,
    check_target_filer,
    local_writes_into_source,
    s3_writes_into_source,
)


def local(directory: str, name: str = "local") -> LocalSettings:
    return LocalSettings(name=name, directory=directory)


def s3(directory: str = "/", *, bucket: str = "b", endpoint: str = "http://localhost:8333") -> S3Settings:
    return S3Settings(name="s3", directory=directory, bucket=bucket, endpoint=endpoint)


def gcs(directory: str = "/", *, bucket: str = "b", endpoint: str = "") -> GcsSettings:
    return GcsSettings(name="google_cloud_storage", directory=directory, bucket=bucket, endpoint=endpoint)


def azure(
    directory: str = "/", *, account: str = "a", container: str = "b", endpoint: str = ""
) -> AzureSettings:
    return AzureSettings(
        name="azure", directory=directory, account_name=account, container=container, endpoint=endpoint
    )


def b2(directory: str = "/", *, bucket: str = "b", key_id: str = "id") -> BackblazeSettings:
    return BackblazeSettings(name="backblaze", directory=directory, bucket=bucket, key_id=key_id)


def filer(directory: str = "/backup", address: str = "localhost:18888") -> FilerSinkSettings:
    return FilerSinkSettings(name="filer", directory=directory, grpc_address=address)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (local("/data/a"), local("/data/a/b")),
        (s3("/"), s3("/a")),
        (s3("/a"), s3("/a/b")),
        (gcs("/"), gcs("/a")),
        (azure("/a"), azure("/a/b")),
        (azure("/"), azure("/a", endpoint="https://a.blob.core.windows.net")),
        (b2("/a"), b2("/a/b", key_id="other")),
        (filer("/backup", "127.0.0.1:18888"), filer("/backup/x", "localhost:18888")),
    ],
)
def test_one_sink_inside_another(one: SinkSettings, other: SinkSettings) -> None:
    for pair in ([one, other], [other, one]):
        with pytest.raises(UsageError, match="would write into each other"):
            check_sinks(pair)


@pytest.mark.parametrize("sink", [local("/data"), s3("/a"), gcs(), azure("/a"), b2(), filer()])
def test_the_same_sink_twice(sink: SinkSettings) -> None:
    with pytest.raises(UsageError, match="are the same place"):
        check_sinks([sink, sink])


def test_the_same_directory_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(UsageError, match="would write into each other"):
        check_sinks([local(f"{tmp_path}/real"), local(f"{tmp_path}/link/below")])


@pytest.mark.parametrize(
    "sinks",
    [
        [local("/data/a"), local("/data/ab")],
        [s3("/a"), s3("/ab")],
        [s3("/a"), s3("/a", bucket="c")],
        [s3("/a"), s3("/a", endpoint="http://elsewhere:8333")],
        [s3("/data"), local("/data")],
        [gcs(), gcs(bucket="c"), gcs(endpoint="http://localhost:4443"), s3(), b2(), azure(), filer()],
        [azure(), azure(account="c"), azure(container="c"), azure(endpoint="http://localhost:10000/a")],
        [filer(), filer("/backups"), filer(address="localhost:18889"), filer(address="elsewhere:18888")],
        [],
    ],
)
def test_sinks_apart(sinks: list[SinkSettings]) -> None:
    check_sinks(sinks)


@pytest.mark.parametrize(
    ("path", "directory", "warned"),
    [
        ("/", "/", True),
        ("/buckets", "/x", True),
        ("/buckets/b", "/", True),
        ("/buckets/b", "/x", True),
        ("/buckets/b/x", "/x", True),
        ("/buckets/b/x/y", "/x", True),
        ("/buckets/b/x", "/", True),
        ("/buckets/b/x", "/xy", False),
        ("/buckets/bb", "/", False),
        ("/buckets/other", "/", False),
        ("/home", "/", False),
    ],
)
def test_an_s3_sink_that_is_a_bucket_of_the_watched_filer(path: str, directory: str, warned: bool) -> None:
    settings = Settings(source=SourceSettings(path=path), sinks=(s3(directory),))
    warning = s3_writes_into_source(settings)
    assert (warning is not None) is warned
    assert warning is None or "every copy would be copied again" in warning


@pytest.mark.parametrize(
    ("filer", "endpoint", "warned"),
    [
        ("127.0.0.1:8888", "http://localhost:8333", True),
        ("[::1]:8888.18888", "https://127.0.0.1", True),
        ("Filer.Example.com:8888", "https://filer.example.com:8333", True),
        ("filer.example.com:8888", "https://s3.example.com", False),
        ("localhost:8888", "", False),
    ],
)
def test_the_host_decides(filer: str, endpoint: str, warned: bool) -> None:
    settings = Settings(source=SourceSettings(filers=("other:1", filer)), sinks=(s3(endpoint=endpoint),))
    assert (s3_writes_into_source(settings) is not None) is warned


@pytest.mark.parametrize(
    ("exclude", "warned"),
    [
        ("/buckets/b", False), ("/buckets/", False), ("/buckets/b/x", True), ("/buckets/c", True),
        ("b", True),
        ("/buckets/?", True),
    ],
)  # fmt: skip
def test_excluding_the_bucket_settles_it(exclude: str, warned: bool) -> None:
    settings = Settings(source=SourceSettings(exclude_paths=(exclude,)), sinks=(s3(),))
    assert (s3_writes_into_source(settings) is not None) is warned


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
localhost:8888:/ /mnt/weed fuse.seaweedfs rw,nosuid 0 0
a:8888+b:8888:/buckets/photos /mnt/my\\040photos fuse.seaweedfs rw 0 0
tmpfs /mnt/weed/tmp tmpfs rw 0 0
not a mount
"""


@pytest.mark.parametrize(
    ("path", "directory", "filer", "warned"),
    [
        ("/", "/mnt/weed/backup", "127.0.0.1:8888", True),
        ("/backup", "/mnt/weed/backup/x", "localhost:8888", True),
        ("/home", "/mnt/weed/backup", "localhost:8888", False),
        ("/", "/mnt/weed/tmp/backup", "localhost:8888", False),
        ("/", "/mnt/weed/backup", "elsewhere:8888", False),
        ("/", "/mnt/weedy", "localhost:8888", False),
        ("/buckets/photos", "/mnt/my photos/backup", "b:8888", True),
        ("/buckets/other", "/mnt/my photos/backup", "b:8888", False),
    ],
)
def test_a_local_sink_in_a_mount_of_the_watched_filer(
    path: str, directory: str, filer: str, warned: bool
) -> None:
    settings = Settings(source=SourceSettings(filers=(filer,), path=path), sinks=(local(directory),))
    warning = local_writes_into_source(settings, MOUNTS)
    assert (warning is not None) is warned
    assert warning is None or "lies in a mount of the filer" in warning


@pytest.mark.parametrize(
    ("path", "directory", "address", "exclude", "refused"),
    [
        ("/", "/backup", "localhost:18888", "", True),
        ("/backup", "/backup", "127.0.0.1:18888", "", True),
        ("/backup", "/backup/x", "[::1]:18888", "", True),
        ("/backup/x", "/backup", "localhost:18888", "", True),
        ("/photos", "/backup", "localhost:18888", "", False),
        ("/photos", "/photos2", "localhost:18888", "", False),
        ("/", "/backup", "localhost:18889", "", False),
        ("/", "/backup", "localhost:8888", "", False),
        ("/", "/backup", "elsewhere:18888", "", False),
        ("/", "/backup", "second:7777", "", True),
        ("/", "/backup", "localhost:18888", "/backup", False),
        ("/", "/backup", "localhost:18888", "/backup/x", True),
        ("/backup/x", "/backup", "localhost:18888", "/backup", True),
    ],
)
def test_a_filer_sink_in_the_watched_folder(
    path: str, directory: str, address: str, exclude: str, refused: bool
) -> None:
    source = SourceSettings(
        filers=("localhost:8888", "second:8888.7777"), path=path, exclude_paths=(exclude,) if exclude else ()
    )
    settings = Settings(source=source, sinks=(filer(directory, address),))
    if not refused:
        check_target_filer(settings)
        return
    with pytest.raises(UsageError, match="is on the watched filer and overlaps the watched folder"):
        check_target_filer(settings)
