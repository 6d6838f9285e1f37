"""Bad targets: each one clear error that says what to do, and nothing is written where nothing should be."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import ObjectRejected, SinkFull, SinkRefused, SinkUnavailable, UsageError
from filerbackup.settings.model import FilerSinkSettings, SourceSettings
from filerbackup.sinks.filer import FilerSink
from tests.contract.contents import file_entry
from tests.integration.filer.conftest import opened, settings_for
from tests.support.filer_looks import Looks
from tests.support.ports import free_port
from tests.support.weed import WeedServer, running_weed


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A cluster with room for one volume."""
    with running_weed(tmp_path_factory.mktemp("tight"), volume_max=1) as server:
        yield server


async def refused(sink: FilerSink, error: type[Exception]) -> pytest.ExceptionInfo[Exception]:
    with pytest.raises(error) as caught:
        await sink.open()
    await sink.close()
    assert "\n" not in str(caught.value)
    assert type(caught.value) is error
    return caught


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":18888", "host:0", "host:70000", "host:1.2", "http://host:18888/"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="grpcAddress") as caught:
        FilerSink(FilerSinkSettings("filer", directory="/x", grpc_address=address))
    assert "18888" in caught.value.hint


async def test_the_http_port_is_given(weed: WeedServer, folder: str) -> None:
    for port in (weed.filer_port, weed.s3_port):
        sink = FilerSink(settings_for(weed, folder, grpc_address=f"127.0.0.1:{port}"))
        caught = await refused(sink, SinkRefused)
        assert "speaks HTTP/1" in str(caught.value)
        assert "+ 10000" in caught.value.hint  # type: ignore[attr-defined]


async def test_the_master_s_port_is_given(weed: WeedServer, folder: str) -> None:
    sink = FilerSink(settings_for(weed, folder, grpc_address=f"127.0.0.1:{weed.master_port + 10_000}"))
    assert "is no filer" in str((await refused(sink, SinkRefused)).value)


async def test_nobody_is_there(weed: WeedServer, folder: str) -> None:
    sink = FilerSink(settings_for(weed, folder, grpc_address=f"127.0.0.1:{free_port()}"))
    caught = await refused(sink, SinkUnavailable)
    assert "grpcAddress" in caught.value.hint  # type: ignore[attr-defined]


async def test_a_replication_that_is_none(weed: WeedServer, folder: str) -> None:
    sink = FilerSink(settings_for(weed, folder, replication="many"))
    assert "replication" in (await refused(sink, SinkRefused)).value.hint  # type: ignore[attr-defined]


async def test_a_disk_that_nobody_has(weed: WeedServer, folder: str) -> None:
    sink = FilerSink(settings_for(weed, folder, disk="tape"))
    assert "disk" in (await refused(sink, SinkRefused)).value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize("more", [{"collection": "another"}, {"replication": "100"}])
async def test_no_volume_is_left(tight: WeedServer, folder: str, more: dict[str, str]) -> None:
    caught = await refused(FilerSink(settings_for(tight, folder, **more)), SinkFull)
    hint = caught.value.hint  # type: ignore[attr-defined]
    assert "add volume servers" in hint
    assert ("`replication`" in hint) is ("replication" in more)


async def test_the_directory_is_a_file(weed: WeedServer, looks: Looks, folder: str) -> None:
    assert weed.put(folder, b"mine") == 201
    for directory in (folder, f"{folder}/below"):
        caught = await refused(FilerSink(settings_for(weed, directory)), SinkRefused)
        assert f"{folder} on the target" in str(caught.value)
    assert looks.content(folder) == b"mine"


async def test_a_path_that_may_not_be_written(tight: WeedServer, folder: str) -> None:
    rules = {"locations": [{"locationPrefix": f"{folder}/", "readOnly": True}]}
    assert tight.put("/etc/seaweedfs/filer.conf", json.dumps(rules).encode()) == 201
    caught = await refused(FilerSink(settings_for(tight, folder)), SinkRefused)
    assert "filer.conf" in caught.value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("watched", "directory"),
    [("/w", "/w"), ("/w", "/w/copies"), ("/w/deep", "/w"), ("/", "/copies"), ("/w", "/")],
)
async def test_a_target_inside_of_what_is_watched(
    weed: WeedServer, looks: Looks, folder: str, watched: str, directory: str
) -> None:
    watched, directory = (path if path == "/" else folder + path for path in (watched, directory))
    source = SourceSettings(filers=(weed.filer,), path=watched)
    caught = await refused(FilerSink(settings_for(weed, directory), source=source), SinkRefused)
    assert "without end" in str(caught.value)
    assert looks.entry(f"{directory.rstrip('/')}/.filerbackup") is None


async def test_the_proof_of_a_loop_is_what_both_see(weed: WeedServer, folder: str) -> None:
    """Filers with separate stores have other signatures: then what is written decides."""
    source = SourceSettings(filers=(weed.filer,), path=folder)
    sink = FilerSink(settings_for(weed, f"{folder}/copies"), source=source)
    from filerbackup.sinks.filer import loops

    async def nothing_known(*_: object) -> None:
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops.LoopCheck, "before_writing", nothing_known)
        assert "without end" in str((await refused(sink, SinkRefused)).value)


async def test_one_cluster_and_another_folder_is_fine(weed: WeedServer, looks: Looks, folder: str) -> None:
    source = SourceSettings(filers=(weed.filer,), path=f"{folder}/w")
    async with opened(weed, f"{folder}/w2", source=source) as sink:
        await sink.write("file", file_entry("file", 1), InlineContent(b"x"))
    assert looks.content(f"{folder}/w2/file") == b"x"


async def test_the_same_folder_of_another_cluster_is_fine(
    weed: WeedServer, tight: WeedServer, folder: str
) -> None:
    source = SourceSettings(filers=(tight.filer,), path="/")
    async with opened(weed, folder, source=source) as sink:
        await sink.write("file", file_entry("file", 1), InlineContent(b"x"))


async def test_the_target_s_own_folders_are_spared(weed: WeedServer, folder: str) -> None:
    async with opened(weed, "/") as sink:
        for key in ("topics/.system/log/x", "etc/filerbackup/cluster.json"):
            with pytest.raises(ObjectRejected):
                await sink.write(key, file_entry(key, 1), InlineContent(b"x"))
            with pytest.raises(ObjectRejected):
                await sink.delete_tree(key)
        assert not [found async for found in sink.list("topics/.system")]
