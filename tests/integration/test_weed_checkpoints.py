"""Where `weed filer.backup` keeps its offset for each kind of sink, as a running weed shows it."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import grpc
import pytest

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from filerbackup.settings.load import load_settings
from filerbackup.state.pair import weed_checkpoint_keys
from tests.support.gcs import GcsServer, gcs_peer
from tests.support.weed import WeedServer
from tests.support.weed_backup import run_weed_backup


def weed_identity(config: Path) -> tuple[str, ...]:
    settings = load_settings(
        config=str(config),
        flags={"path": "/unlike/any"},
        environ={},
        home=config,
        cwd=config.parent,
        system=[],
    )
    (sink,) = settings.sinks
    return sink.weed_identity


def offset_ns(weed: WeedServer, key: bytes) -> int:
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        raw: bytes = SeaweedFilerStub(channel).KvGet(pb.KvGetRequest(key=key)).value
    return int(struct.unpack(">Q", raw)[0]) if raw else 0


def check(weed: WeedServer, directory: Path, section: str, folder: str) -> None:
    config = directory / "replication.toml"
    config.write_text(section)
    weed.put(f"{folder}/f", b"x")
    log = directory / "weed-backup.log"
    run_weed_backup(weed, config, folder, until=lambda: "starting from" in log.read_text())
    newest, *_ = weed_checkpoint_keys(folder, weed_identity(config))
    assert abs(offset_ns(weed, newest) / 1e9 - time.time()) < 600


def test_of_a_filer_sink(weed: WeedServer, tmp_path: Path) -> None:
    section = f'[sink.filer]\nenabled = true\ngrpcAddress = "{weed.filer_grpc}"\ndirectory = "/weeds-copy/"\n'
    check(weed, tmp_path, section, "/weeds-filer")


def test_of_a_bucket_of_google(
    weed: WeedServer, gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint)
    section = '[sink.google_cloud_storage]\nenabled = true\nbucket = "weeds-copy"\ndirectory = "a/"\n'
    with gcs_peer(gcs, "weeds-copy"):
        check(weed, tmp_path, section, "/weeds-google")
