"""All sinks at once, and rclone alone brings each of them back as the source is."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import azurite, rclone
from tests.support.azurite import AzuriteServer
from tests.support.b2 import Running as B2Server
from tests.support.configs import general, local_sink, sink
from tests.support.daemon import Daemon, daemon
from tests.support.every_kind import (
    Kept,
    Shape,
    differences,
    every_kind,
    filer_shape,
    local_shape,
    without,
)
from tests.support.gcs import GcsServer, gcs_peer
from tests.support.moto import MotoServer
from tests.support.rclone import RcloneError, Remote
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, peer_of
from tests.support.s3_tree import make_bucket
from tests.support.weed import WeedServer

MILLISECOND, SECOND = 10**6, 10**9
EMPTY = hashlib.sha256(b"").hexdigest()[:24]
CATCHUP_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Copy:
    """One sink: its section of the configuration, and how rclone reaches it.

    `flags` are for restoring. What rclone cannot bring back from a service is false here, and the
    maker of the copy says why; `time_unit_ns` is how fine its times are. Directories are brought back
    as "names", with their "modes", or not at all when they are empty. `look` sees all there is.
    """

    name: str
    section: str
    remote: Remote
    flags: tuple[str, ...] = ()
    look: Callable[[], Shape] | None = None
    modes: bool = True
    directories: str = "none"
    links: bool = True
    time_unit_ns: int = 1

    def differs(self, source: Shape, target: Path) -> str:
        """Restore it to a directory that is not there yet, and compare; empty when all is as it should be."""
        try:
            self.remote.restore(target, *self.flags)
            listed = self.remote.lsl(*self.flags)
        except RcloneError as error:
            return str(error)
        wanted = {key: self._restored(item) for key, item in source.items()}
        return (
            differences(self._shown(wanted), self._shown(local_shape(target)))
            or differences(_listing(wanted), listed)
            or (differences(source, self.look()) if self.look is not None else "")
        )

    def _restored(self, item: Kept) -> Kept:
        if item.kind == "link" and not self.links:
            item = Kept("file", EMPTY, mtime_ns=item.mtime_ns)
        return without(item, time_unit_ns=self.time_unit_ns)

    def _shown(self, shape: Shape) -> Shape:
        shown = {}
        for key, item in shape.items():
            if item.kind != "directory":
                shown[key] = without(item, mode=not self.modes)
            elif self.directories != "none":
                shown[key] = without(item, mode=self.directories != "modes")
        return shown


def _listing(shape: Shape) -> Shape:
    """Files as `lsl` shows them; a symlink is an object with its target as content."""
    listed = {}
    for key, item in shape.items():
        if item.kind == "file":
            listed[key] = Kept("listed", size=item.size, mtime_ns=item.mtime_ns)
        elif item.kind == "link":
            size = len(item.digest.encode())
            listed[f"{key}.rclonelink"] = Kept("listed", size=size, mtime_ns=item.mtime_ns)
    return listed


def local_copy(directory: Path) -> Copy:
    return Copy("local", local_sink(directory), rclone.local(directory), directories="modes")


def s3_copy(endpoint: str, bucket: str) -> Copy:
    async def make_bucket() -> None:
        async with peer_of(endpoint, bucket):
            pass

    asyncio.run(make_bucket())
    section = sink(
        "s3",
        bucket=bucket,
        endpoint=endpoint,
        region="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        directory="/the/copy",
        directory_markers=True,
    )
    remote = rclone.s3(endpoint, f"{bucket}/the/copy", access=ACCESS_KEY, secret=SECRET_KEY)
    # Listed folder by folder, weed's gateway shows directories too of which no object is left.
    flags = ("--s3-directory-markers", "--fast-list")
    return Copy("s3", section, remote, flags, directories="names")


def gcs_copy(server: GcsServer, bucket: str) -> Copy:
    with gcs_peer(server, bucket):
        section = sink(
            "google_cloud_storage",
            bucket=bucket,
            endpoint=server.endpoint,
            directory="/the/copy",
            directory_markers=True,
        )
    # rclone 1.75.2 reads no metadata there, but for the time: "ReadMetadata": false.
    flags = ("--gcs-directory-markers",)
    remote = rclone.gcs(server.endpoint, f"{bucket}/the/copy")
    return Copy("gcs", section, remote, flags, modes=False, directories="names")


def azure_copy(server: AzuriteServer, container: str) -> Copy:
    async def make_container() -> None:
        async with azurite.peer_of(server, container):
            pass

    asyncio.run(make_container())
    section = sink(
        "azure",
        account_name=azurite.ACCOUNT,
        account_key=azurite.KEY,
        endpoint=server.blob_endpoint,
        container=container,
        directory="/the/copy",
        directory_markers=True,
    )
    remote = rclone.azure(
        server.blob_endpoint, f"{container}/the/copy", account=azurite.ACCOUNT, key=azurite.KEY
    )
    flags = (
        "--azureblob-directory-markers",
        # Else rclone takes the dot at the end of a name for one that it wrote another character for.
        "--azureblob-encoding=Slash,BackSlash,Del,Ctl,InvalidUtf8",
    )
    return Copy("azure", section, remote, flags, directories="names")


def b2_copy(server: B2Server, bucket: str) -> Copy:
    server.make_bucket(bucket)
    keys = (server.account_id, server.application_key)
    section = sink(
        "backblaze",
        b2_account_id=keys[0],
        b2_master_application_key=keys[1],
        bucket=bucket,
        endpoint=server.endpoint,
        directory="/the/copy",
    )
    remote = rclone.b2(server.endpoint, f"{bucket}/the/copy", account=keys[0], key=keys[1])
    # rclone 1.75.2 reads no metadata there, and times in milliseconds; no name can end in a slash.
    return Copy("b2", section, remote, modes=False, time_unit_ns=MILLISECOND)


def filer_copy(target: WeedServer, bucket: str) -> Copy:
    make_bucket(target, bucket)
    folder = f"/buckets/{bucket}/the/copy"
    section = sink("filer", grpcAddress=target.filer_grpc, directory=folder)
    remote = rclone.s3(target.s3_endpoint, f"{bucket}/the/copy", access="any", secret="any-secret")
    # The gateway shows of entries what S3 knows: whole seconds, no modes, symlinks as empty objects.
    # So this copy is looked at through the filer too.
    return Copy(
        "filer",
        section,
        remote,
        modes=False,
        links=False,
        time_unit_ns=SECOND,
        look=lambda: filer_shape(target, folder),
    )


@pytest.fixture
def copies(
    guarded_weed: WeedServer,
    gcs: GcsServer,
    azurite: AzuriteServer,
    b2: B2Server,
    own_weed: WeedServer,
    tmp_path: Path,
) -> list[Copy]:
    """One of each kind, every one an empty place on its server."""
    name = f"six-{secrets.token_hex(4)}"
    return [
        local_copy(tmp_path / "copy"),
        s3_copy(guarded_weed.s3_endpoint, name),
        gcs_copy(gcs, name),
        azure_copy(azurite, name),
        b2_copy(b2, name),
        filer_copy(own_weed, name),
    ]


def catch_up(process: Daemon) -> None:
    started = process.start(command="catchup").process
    assert started is not None
    try:
        code = started.wait(CATCHUP_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still catching up: {process.log[-6000:]}") from None
    assert code == 0, process.log[-6000:]


def assert_they_come_back(weed: WeedServer, copies: list[Copy], directory: Path) -> None:
    """Fill the copies from a tree with every kind of file, restore each, change the tree, and again."""
    with every_kind(weed, f"source-{secrets.token_hex(4)}") as tree:
        config = general(weed, tree.folder) + "".join(copy.section for copy in copies)
        with daemon(directory / "d", config) as process:
            for look in ("first", "second"):
                catch_up(process)
                source = filer_shape(weed, tree.folder)
                said = []
                for copy in copies:
                    target = directory / look / copy.name
                    if text := copy.differs(source, target):
                        said.append(f"{copy.name}, {look} look:\n{text}")
                    else:
                        copy.remote.check(target, *copy.flags)
                assert not said, "\n".join(said)
                if look == "first":
                    tree.make_changes()


def test_all_sinks_at_once_come_back_by_rclone_alone(
    weed: WeedServer, copies: list[Copy], tmp_path: Path
) -> None:
    assert_they_come_back(weed, copies, tmp_path)


def test_s3_of_another_make_comes_back_too(weed: WeedServer, moto: MotoServer, tmp_path: Path) -> None:
    copy = s3_copy(moto.endpoint, f"six-{secrets.token_hex(4)}")
    assert_they_come_back(weed, [copy], tmp_path)
