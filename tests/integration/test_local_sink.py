"""The local sink on real file systems: what the contract suite, which knows no file system, cannot ask."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import ObjectRejected, SinkRefused, SinkUnavailable, UsageError
from filerbackup.events import Chunk, EntryKind
from filerbackup.settings.model import LocalSettings, S3Settings, SinkSettings
from filerbackup.sinks.local import LocalSink
from filerbackup.sinks.registry import create_sink
from tests.contract.contents import (
    MTIME_NS,
    NOTHING,
    directory_entry,
    file_entry,
    symlink_entry,
)
from tests.integration.local_support import (
    files_below,
    keys,
    mode_of,
    needs_root,
    only,
    opened,
    ordinary_user,
    tmpfs,
    write,
)

__all__ = ["ordinary_user"]
MIB = 1 << 20


# -- opening --------------------------------------------------------------------------------------


async def test_the_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "some" / "where") as sink:
        assert str(sink.identity) == f"local:{tmp_path}/some/where"

    assert mode_of(tmp_path / "some" / "where") == 0o700
    assert os.listdir(tmp_path / "some" / "where" / ".filerbackup" / "tmp") == []


@pytest.mark.parametrize("directory", ["", "/", "//", "a\0b"])
def test_a_directory_must_be_named(directory: str) -> None:
    with pytest.raises(UsageError, match="directory"):
        LocalSink(LocalSettings("local", directory=directory))


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ("copies", "file"),
        ("copies/.filerbackup", "file"),
        ("copies/.filerbackup", "symlink"),
        ("copies/.filerbackup/tmp", "file"),
        ("copies/.filerbackup/tmp", "symlink"),
    ],
)
async def test_a_place_that_is_no_directory_is_refused(tmp_path: Path, planted: str, what: str) -> None:
    path = tmp_path / planted
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "target").mkdir()
    if what == "file":
        path.write_bytes(b"")
    else:
        path.symlink_to(tmp_path / "target")

    with pytest.raises(SinkRefused) as caught:
        async with opened(tmp_path / "copies"):
            pass
    assert caught.value.hint
    assert os.listdir(tmp_path / "target") == []


async def test_a_directory_of_another_user_is_refused(ordinary_user: Path) -> None:
    (ordinary_user / "theirs").mkdir(mode=0o500)
    for directory in (ordinary_user / "theirs", ordinary_user / "theirs" / "below", Path("/root/below")):
        with pytest.raises(SinkRefused, match="ermission denied") as caught:
            async with opened(directory):
                pass
        assert "write" in caught.value.hint


@needs_root
async def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "ro", "size=1m,ro") as directory, pytest.raises(SinkRefused) as caught:
        async with opened(directory):
            pass
    assert "Read-only" in str(caught.value)
    assert "mount" in caught.value.hint


async def test_nothing_works_before_open_and_after_close(tmp_path: Path) -> None:
    sink = LocalSink(LocalSettings("local", directory=str(tmp_path / "copies")))
    await sink.close()
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="not open"):
            await write(sink, "file")
        with pytest.raises(SinkUnavailable, match="not open"):
            await sink.flush()
        await sink.open()
        await write(sink, "file")
        await sink.close()


def test_the_registry_makes_a_local_sink(tmp_path: Path) -> None:
    sink = create_sink(LocalSettings("local", directory=str(tmp_path)))

    assert sink.identity.kind == "local"
    with pytest.raises(UsageError, match="no kind"):
        create_sink(SinkSettings("carrier-pigeon"))


def test_help_needs_no_client_library() -> None:
    script = (
        "import sys, filerbackup.sinks.registry; "
        "print([name for name in sys.modules if 'boto' in name or 'obstore' in name])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_missing_client_library_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filerbackup.sinks.s3", None)
    with pytest.raises(ModuleNotFoundError):
        create_sink(S3Settings("s3"))

    def missing(name: str) -> None:
        raise ModuleNotFoundError("no module", name="aiobotocore")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(UsageError, match="aiobotocore") as caught:
        create_sink(S3Settings("s3"))
    assert "filerbackup[s3]" in caught.value.hint


# -- modes, owners, times -------------------------------------------------------------------------


async def test_parents_are_private_until_the_source_says_otherwise(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "a/b/file")
        assert mode_of(tmp_path / "copies" / "a") == 0o700
        assert mode_of(tmp_path / "copies" / "a" / "b") == 0o700

        await sink.write("a", directory_entry("a", mode=0o755), NOTHING)
        assert mode_of(tmp_path / "copies" / "a") == 0o755


@needs_root
async def test_root_gives_copies_to_their_owners(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory, keep_set_id=True) as sink:
        for mode in (0o640, 0o4755, 0o2755):
            entry = dataclasses.replace(file_entry("f", 4, mode=mode), uid=1234, gid=4321)
            await write(sink, "f", entry=entry)
            status = (directory / "f").stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, mode)
            assert await sink.matches(await only(sink, "f"), entry)
            assert not await sink.matches(await only(sink, "f"), dataclasses.replace(entry, uid=1))
        link = dataclasses.replace(symlink_entry("l", "f"), uid=1234, gid=4321)
        await sink.write("l", link, NOTHING)
        assert (directory / "l").lstat().st_uid == 1234
        folder = dataclasses.replace(directory_entry("d", mode=0o500), uid=1234, gid=4321)
        await sink.write("d", folder, NOTHING)
        await write(sink, "d/below")
        assert ((directory / "d").stat().st_gid, mode_of(directory / "d")) == (4321, 0o500)


@needs_root
async def test_an_owner_that_cannot_be_given_gets_no_set_id_bits(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies", keep_set_id=True) as sink:
        entry = dataclasses.replace(file_entry("f", 4, mode=0o6755), uid=0xFFFFFFFF, gid=0)
        await write(sink, "f", entry=entry)

    assert mode_of(tmp_path / "copies" / "f") == 0o755


async def test_without_roots_rights_copies_stay_ours(ordinary_user: Path) -> None:
    async with opened(ordinary_user / "copies") as sink:
        entry = dataclasses.replace(file_entry("d/f", 4, mode=0o6751), uid=4711, gid=4711)
        await sink.write("d", dataclasses.replace(directory_entry("d", mode=0o555), uid=4711), NOTHING)
        await write(sink, "d/f", entry=entry)
        await write(sink, "d/f", b"more", entry=entry)
        assert mode_of(ordinary_user / "copies" / "d" / "f") == 0o751
        assert mode_of(ordinary_user / "copies" / "d") == 0o755
        assert await sink.matches(await only(sink, "d/f"), entry)
        assert await sink.matches(await only(sink, "d"), directory_entry("d", mode=0o555))
        await sink.delete_tree("d")
        assert await keys(sink) == []


async def test_without_roots_rights_foreign_files_in_the_way_are_a_clear_error(ordinary_user: Path) -> None:
    async with opened(ordinary_user / "copies") as sink:
        closed = ordinary_user / "copies" / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(ObjectRejected, match="ermission denied"):
            await write(sink, "closed/file")
        await write(sink, "open/file")
        closed.chmod(0o700)


async def test_a_directory_keeps_its_own_time(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        await sink.write("d", directory_entry("d"), NOTHING)
        await write(sink, "d/one")
        await sink.flush()
        assert (directory / "d").stat().st_mtime_ns == MTIME_NS

        await write(sink, "d/two")
        await sink.delete("d/one")
        assert (directory / "d").stat().st_mtime_ns != MTIME_NS
        await sink.flush()
        assert (directory / "d").stat().st_mtime_ns == MTIME_NS


async def test_a_copy_by_another_hand_matches_only_when_its_time_is_exact(tmp_path: Path) -> None:
    """Such a copy has no version; a time in whole seconds then proves nothing."""
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        for mtime_ns, expected in ((MTIME_NS, True), (MTIME_NS - MTIME_NS % 10**9, False)):
            path = directory / "copy"
            path.write_bytes(b"data")
            path.chmod(0o644)
            os.utime(path, ns=(mtime_ns, mtime_ns))
            entry = dataclasses.replace(
                file_entry("copy", 4, mtime_ns=mtime_ns),
                chunks=(Chunk("1,01", 0, 4, 1),),
                uid=os.geteuid(),
                gid=os.getegid(),
            )
            assert await sink.matches(await only(sink, "copy"), entry) is expected


# -- names ----------------------------------------------------------------------------------------


async def test_a_name_of_255_bytes_fits_and_256_do_not(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "x" * 255)
        for key in ("x" * 256, "é" * 128, "x" * 256 + "/file", "d/" + "x" * 256 + "/file"):
            with pytest.raises(ObjectRejected, match=r"256 bytes long.*allows 255"):
                await write(sink, key)
        assert await keys(sink) == ["x" * 255]


async def test_a_path_may_be_longer_than_the_system_takes_at_once(tmp_path: Path) -> None:
    key = "/".join(["x" * 200] * 40)
    async with opened(tmp_path / "copies") as sink:
        await write(sink, key)
        assert key in await keys(sink)
        assert b"".join([block async for block in sink.read(key)]) == b"data"
        assert await sink.move(key, key + "2", file_entry(key, 4))
        await sink.delete_tree("x" * 200)
        assert await keys(sink) == []


async def test_names_do_not_depend_on_the_locale(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys
        from filerbackup.content import InlineContent
        from filerbackup.events import Entry, EntryKind
        from filerbackup.settings.model import LocalSettings
        from filerbackup.sinks.local import LocalSink

        async def main():
            print(sys.getfilesystemencoding())
            sink = LocalSink(LocalSettings("local", directory=sys.argv[1]))
            await sink.open()
            key = "\\u00e9/\\U0001f600"
            await sink.write(key, Entry("/" + key, EntryKind.FILE, size=1), InlineContent(b"x"))
            print(ascii([found.key async for found in sink.list()]))
            await sink.close()

        asyncio.run(main())
        """
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", script, str(tmp_path / "copies")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)

    encoding, listed = result.stdout.splitlines()
    assert encoding != "utf-8"
    assert listed == ascii(["é", "é/\U0001f600"])
    assert (tmp_path / "copies" / "é" / "\U0001f600").read_bytes() == b"x"


async def test_names_that_are_not_utf_8_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "d/file")
        odd = os.fsencode(tmp_path / "copies" / "d") + b"/\xff\xfe"
        for name in (odd, odd + b"2"):
            os.mkdir(name)
        assert await keys(sink) == ["d", "d/file"]
        assert len([record for record in caplog.records if "not UTF-8" in record.message]) == 1

        await sink.delete_tree("d")
        assert await keys(sink) == []
        assert not (tmp_path / "copies" / "d").exists()


# -- what is in the directory ---------------------------------------------------------------------


async def test_a_large_directory_is_listed_in_steps(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    async with opened(directory) as sink:
        (directory / "large").mkdir()
        names = [f"{number:05d}" for number in range(5000)]
        for name in names:
            (directory / "large" / name).touch()
        longest, seen, last = 0.0, [], time.monotonic()
        async for found in sink.list("large/"):
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            seen.append(found.key.removeprefix("large/"))
        assert seen == names
        assert longest < 2


async def test_a_directory_that_goes_away_while_listed_is_no_error(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        for number in range(2000):
            (tmp_path / "copies" / "d").mkdir(exist_ok=True)
            (tmp_path / "copies" / "d" / f"{number:04d}").touch()
        await write(sink, "e")
        seen = []
        async for found in sink.list():
            seen.append(found.key)
            if len(seen) == 10:
                await sink.delete_tree("d")
        assert seen[-1] == "e"
        assert len(seen) < 1500


async def test_files_that_go_away_while_listed_are_no_error(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        (tmp_path / "copies" / "d").mkdir()
        for number in range(1500):
            (tmp_path / "copies" / "d" / f"{number:04d}").touch()
        seen = []
        async for found in sink.list("d/"):
            if not seen:
                for number in range(1000, 1500):
                    (tmp_path / "copies" / "d" / f"{number:04d}").unlink()
            seen.append(found.key)
        assert seen == [f"d/{number:04d}" for number in range(1000)]


async def test_unfinished_copies_are_not_listed(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        await write(sink, "d/file")
        (tmp_path / "copies" / "d" / ".filerbackup-tmp-0123-1").touch()
        assert await keys(sink) == ["d", "d/file"]


async def test_hard_links_of_a_copy_keep_the_old_version(tmp_path: Path) -> None:
    """Cheap snapshots (cp -al) of the directory must not change with it."""
    async with opened(tmp_path / "copies") as sink:
        entry = await write(sink, "file", b"one")
        os.link(tmp_path / "copies" / "file", tmp_path / "snapshot")
        os.link(tmp_path / "copies" / "file", tmp_path / "copies" / "second")
        assert not await sink.move("file", "second", entry)
        await write(sink, "file", b"two")

    assert (tmp_path / "snapshot").read_bytes() == b"one"
    assert files_below(tmp_path / "copies")["file"] == b"two"


async def test_a_device_in_the_way_is_listed_and_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path / "copies") as sink:
        os.mkfifo(tmp_path / "copies" / "pipe")
        found = await only(sink, "pipe")
        assert found.kind is EntryKind.SPECIAL
        assert not await sink.matches(found, file_entry("pipe"))
        with pytest.raises(FileNotFoundError):
            await asyncio.wait_for(anext(sink.read("pipe")), 10)
        await write(sink, "pipe", b"file now")
        assert (tmp_path / "copies" / "pipe").read_bytes() == b"file now"
        await sink.write("empty", file_entry("empty"), InlineContent(b""))


async def test_what_another_hand_changed_does_not_pass_for_the_content(tmp_path: Path) -> None:
    """An edit in place keeps the size and the version that was noted, but not the modified time."""
    entry = dataclasses.replace(file_entry("file", 5), chunks=(Chunk("3,01", 0, 5, 7),))
    newer = dataclasses.replace(entry, mode=stat.S_IFREG | 0o600, mtime_ns=MTIME_NS + 10**9)
    async with opened(tmp_path) as sink:
        await sink.write("file", entry, InlineContent(b"right"))
        with (tmp_path / "file").open("r+b") as file:
            file.write(b"wrong")
        assert not await sink.update("file", entry)
        assert not await sink.update("file", newer)
        await sink.write("file", newer, InlineContent(b"right"))
        assert await sink.update("file", entry)
        assert await sink.update("file", newer)
