"""What a flush of the local sink promises, and what is distrusted after a power loss."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from filerbackup.errors import SinkUnavailable
from filerbackup.sinks.local import LocalSink, durability, flushing
from filerbackup.sinks.local.durability import FlushRecord, record_at_start
from tests.contract.contents import (
    MTIME_NS,
    NOTHING,
    StreamedContent,
    directory_entry,
    file_entry,
    symlink_entry,
)
from tests.integration.local_support import keys, only, opened, write

RECORD = Path(".filerbackup/flushed.json")
SECOND = 10**9


async def trusted(sink: LocalSink, key: str) -> bool:
    return await sink.matches(await only(sink, key), file_entry(key, 4))


def edit_record(directory: Path, **values: object) -> None:
    path = directory / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


async def after_tick(directory: Path) -> None:
    """Return when the file system's clock has moved on."""
    probe = directory.parent / "probe"
    began = None
    while began is None or probe.stat().st_ctime_ns == began:
        began = began or (probe.touch() or probe.stat().st_ctime_ns)
        time.sleep(0.001)
        probe.touch()


# -- after a power loss ---------------------------------------------------------------------------


async def test_after_a_power_loss_only_what_was_flushed_is_trusted(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "flushed")
        await sink.write("d", directory_entry("d"), NOTHING)
        await sink.flush()
        flushed_ns = (directory / "flushed").stat().st_ctime_ns
        await after_tick(directory)
        await write(sink, "late")
    edit_record(directory, boot_id="another boot", flushed_ns=flushed_ns + 2 * SECOND + 1)

    async with opened(directory) as sink:
        assert await trusted(sink, "flushed")
        assert not await trusted(sink, "late")
        assert not await sink.move("late", "moved", file_entry("late", 4))
        assert await sink.matches(await only(sink, "d"), directory_entry("d"))
        await after_tick(directory)
        await write(sink, "new")
        assert await trusted(sink, "new")

    async with opened(directory) as sink:
        assert not await trusted(sink, "late")
        assert await trusted(sink, "new")
        await after_tick(directory)
        await write(sink, "late")
        assert await trusted(sink, "late")


async def test_after_a_kill_without_a_power_loss_everything_is_trusted(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "unflushed")

    async with opened(directory) as sink:
        assert await trusted(sink, "unflushed")


async def test_what_was_there_before_the_first_start_is_trusted(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "seeded")
    (directory / RECORD).unlink()

    async with opened(directory) as sink:
        assert await trusted(sink, "seeded")
        assert json.loads((directory / RECORD).read_text())["suspect"] == []


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b"[" * 100_000,
        b'{"version": 2}',
        b'{"version": 1, "boot_id": 1, "flushed_ns": 0, "suspect": []}',
        b'{"version": 1, "boot_id": "x", "flushed_ns": 0, "suspect": [1]}',
        b'{"version": 1, "boot_id": "x", "flushed_ns": 0, "suspect": [["a", "b"]]}',
        b'{"version": 1, "boot_id": "x", "flushed_ns": true, "suspect": [[1]]}',
    ],
    ids=range(9),
)
async def test_a_record_that_cannot_be_read_trusts_nothing(tmp_path: Path, record: bytes) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "file")
    (directory / RECORD).write_bytes(record)

    async with opened(directory) as sink:
        assert not await trusted(sink, "file")
        await after_tick(directory)
        await write(sink, "file")
        assert await trusted(sink, "file")


def test_spans_stay_few_and_lose_nothing() -> None:
    record = FlushRecord("boot", 0)
    for number in range(200):
        record = record_at_start(
            FlushRecord("other boot", number * 100 * SECOND, record.suspect).to_bytes(),
            number * 100 * SECOND + 50 * SECOND,
        )
    assert len(record.suspect) <= 64
    for number in range(200):
        assert not record.trusts(number * 100 * SECOND + 10 * SECOND)
    assert record.trusts(199 * 100 * SECOND + 60 * SECOND)


def test_without_a_boot_id_no_restart_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "_BOOT_ID", Path("/nonexistent/boot_id"))
    record = record_at_start(FlushRecord("", 100 * SECOND).to_bytes(), 200 * SECOND)

    assert not record.trusts(150 * SECOND)
    assert record.trusts(50 * SECOND)


# -- flushing -------------------------------------------------------------------------------------


class Syncs:
    """Counts the calls of syncfs, and lets them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.error: OSError | None = None
        self._original = flushing.sync_file_system
        monkeypatch.setattr(flushing, "sync_file_system", self)

    def __call__(self, fd: int) -> None:
        self.count += 1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self._original(fd)


async def test_a_flush_syncs_once_for_all_and_only_when_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch)
    async with opened(tmp_path / "copies") as sink:
        await sink.flush()
        assert syncs.count == 0
        for number in range(20):
            await write(sink, f"d{number}/file")
        await sink.flush()
        assert syncs.count == 1
        await sink.flush()
        assert syncs.count == 1
        entry = file_entry("x", 4)
        changes = (
            lambda: sink.write("e", directory_entry("e"), NOTHING),
            lambda: sink.write("l", symlink_entry("l", "x"), NOTHING),
            lambda: sink.write("big", file_entry("big", 1 << 20), StreamedContent(1 << 20)),
            lambda: sink.delete("d0/file"),
            lambda: sink.delete_tree("d1"),
            lambda: sink.move("d2/file", "moved", entry),
        )
        for number, change in enumerate(changes):
            await change()
            await sink.flush()
            assert syncs.count == number + 2


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_lost_data_is_never_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The system reports it once; a second flush would succeed and prove nothing."""
    syncs = Syncs(monkeypatch)
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "file")
        syncs.error = OSError(code, os.strerror(code))
        with pytest.raises(SinkUnavailable):
            await sink.flush()
        for call in (
            sink.flush,
            lambda: write(sink, "other"),
            lambda: sink.delete("file"),
            lambda: sink.stat("file"),
        ):
            with pytest.raises(SinkUnavailable, match="could not be stored"):
                await call()

        await sink.open()
        assert not await trusted(sink, "file")
        await after_tick(directory)
        await write(sink, "file")
        await sink.flush()
        assert await trusted(sink, "file")
    assert syncs.count == 2


async def test_lost_data_is_remembered_even_when_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch)
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "file")
        with monkeypatch.context() as patch:

            def fail(*_arguments: object) -> None:
                raise OSError(errno.EIO, "no more")

            patch.setattr(os, "fdatasync", fail)
            syncs.error = OSError(errno.EIO, "bad disk")
            with pytest.raises(SinkUnavailable):
                await sink.flush()
        await sink.open()
        assert not await trusted(sink, "file")


async def test_without_syncfs_each_file_and_directory_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    original = os.fsync

    def note(fd: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        original(fd)

    monkeypatch.setattr(flushing, "group_flush_works", lambda: False)
    monkeypatch.setattr(os, "fsync", note)
    syncs = Syncs(monkeypatch)
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "d/small")
        await sink.write("d/e/big", file_entry("big", 1 << 20), StreamedContent(1 << 20))
        temporary = [path for path in synced if "/.filerbackup/tmp/" in path]
        assert len(temporary) == 2
        await sink.flush()
        assert {str(directory), str(directory / "d"), str(directory / "d" / "e")} <= synced
        synced.clear()
        await sink.delete("d/small")
        await sink.flush()
        assert str(directory / "d") in synced
    assert syncs.count == 0


async def test_own_files_are_durable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    original = os.fsync

    def note(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        original(fd)

    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        monkeypatch.setattr(os, "fsync", note)
        await sink.write_own(".filerbackup/journal/one", b"1")

    own = directory / ".filerbackup"
    assert "/tmp/" in synced[0]
    assert synced[1:] == [str(own / "journal"), str(own), str(directory)]


async def test_a_directory_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    """The open descriptors would go on writing into what was moved away, or is not mounted any more."""
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "file")
        directory.rename(tmp_path / "moved away")
        with pytest.raises(SinkUnavailable, match="removed or replaced"):
            await sink.flush()
        directory.mkdir()
        with pytest.raises(SinkUnavailable, match="removed or replaced"):
            await sink.flush()

        await sink.open()
        assert await keys(sink) == []
        await write(sink, "file")
        await sink.flush()


async def test_a_removed_directory_is_an_outage(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await write(sink, "d/file")
        (directory / "d" / "file").unlink()
        (directory / "d").rmdir()
        for path in sorted((directory / ".filerbackup").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (directory / ".filerbackup").rmdir()
        directory.rmdir()
        with pytest.raises(SinkUnavailable):
            await write(sink, "d/file")
        with pytest.raises(SinkUnavailable):
            await sink.write("big", file_entry("big", 1 << 20), StreamedContent(1 << 20))

        await sink.open()
        await write(sink, "d/file")
        assert (directory / "d" / "file").stat().st_mtime_ns == MTIME_NS
