"""The local sink on full disks, on several file systems, and after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from filerbackup.errors import ObjectRejected, SinkUnavailable
from tests.contract.contents import (
    NOTHING,
    StreamedContent,
    directory_entry,
    file_entry,
    some_bytes,
    symlink_entry,
)
from tests.integration.local_support import (
    keys,
    mode_of,
    needs_root,
    only,
    opened,
    tmpfs,
    write,
)

MIB = 1 << 20


# -- full disks and other file systems ------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("size", [200_000, 4 * MIB])
async def test_a_full_disk_leaves_the_version_before_and_nothing_half_written(
    tmp_path: Path, size: int
) -> None:
    with tmpfs(tmp_path / "small", "size=1m") as directory:
        async with opened(directory / "copies") as sink:
            await write(sink, "ballast", some_bytes(600_000))
            await write(sink, "file", b"the version before")
            await write(sink, "filler", some_bytes(240_000))
            with pytest.raises(SinkUnavailable, match=r"is full .* bytes free"):
                await sink.write("file", file_entry("file", size), StreamedContent(size))
            with pytest.raises(SinkUnavailable, match="is full"):
                await sink.write("new", file_entry("new", size), StreamedContent(size))

            assert (directory / "copies" / "file").read_bytes() == b"the version before"
            assert await keys(sink) == ["ballast", "file", "filler"]
            (workspace,) = (directory / "copies" / ".filerbackup" / "tmp").iterdir()
            assert os.listdir(workspace) == ["lock"]

            await sink.delete("ballast")
            await write(sink, "file", some_bytes(200_000))
            await sink.flush()


@needs_root
async def test_a_disk_without_inodes_is_full_too(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "nr_inodes=40") as directory:
        async with opened(directory / "copies") as sink:
            with pytest.raises(SinkUnavailable, match=r"is full .no inodes"):
                for number in range(50):
                    await write(sink, f"f{number}")
            with pytest.raises(SinkUnavailable, match="is full"):
                await sink.write("d", directory_entry("d"), NOTHING)


@needs_root
async def test_a_file_system_mounted_below_is_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    with tmpfs(directory / "mounted", "size=4m"):
        async with opened(directory) as sink:
            entry = await write(sink, "mounted/d/small", b"one", file_entry("x", 3, mode=0o640))
            await write(sink, "mounted/d/small", b"two", entry)
            await sink.write("mounted/large", file_entry("x", 2 * MIB), StreamedContent(2 * MIB))
            await sink.write("mounted/link", symlink_entry("x", "target"), NOTHING)
            await sink.flush()
            assert (directory / "mounted" / "d" / "small").read_bytes() == b"two"
            assert mode_of(directory / "mounted" / "d" / "small") == 0o640
            assert await sink.matches(await only(sink, "mounted/d/small"), entry)
            assert os.readlink(directory / "mounted" / "link") == "target"
            assert not await sink.move("mounted/d/small", "elsewhere", entry)
            assert "elsewhere" not in await keys(sink)
            with pytest.raises(SinkUnavailable, match="is full"):
                await sink.write("mounted/huge", file_entry("x", 8 * MIB), StreamedContent(8 * MIB))
            listed = ["mounted", "mounted/d", "mounted/d/small", "mounted/large", "mounted/link"]
            assert await keys(sink) == listed
            assert [name for name in os.listdir(directory / "mounted") if name.startswith(".")] == []

            with pytest.raises(ObjectRejected, match="mount point"):
                await sink.delete_tree("mounted")
            assert await keys(sink) == ["mounted"]


@needs_root
async def test_an_unfinished_copy_on_a_mounted_file_system_is_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    with tmpfs(directory / "mounted", "size=4m"):
        killed_in(directory, "tree._copy", "mounted/file")
        (left,) = os.listdir(directory / "mounted")
        assert left.startswith(".filerbackup-tmp-")

        async with opened(directory) as sink:
            assert await keys(sink) == ["mounted"]
            assert os.listdir(directory / "mounted") == []


# -- killed processes -----------------------------------------------------------------------------


def killed_in(directory: Path, where: str, key: str) -> None:
    """Write in another process, which is killed right after it did `where`."""
    script = textwrap.dedent(
        f"""
        import asyncio, os, signal
        from filerbackup.content import InlineContent
        from filerbackup.events import Entry, EntryKind
        from filerbackup.settings.model import LocalSettings
        from filerbackup.sinks.local import LocalSink

        async def main():
            sink = LocalSink(LocalSettings("local", directory={str(directory)!r}))
            await sink.open()
            tree = sink._tree
            original = {where}
            def die(*arguments, **keywords):
                original(*arguments, **keywords)
                os.kill(os.getpid(), signal.SIGKILL)
            {where} = die
            entry = Entry("/x", EntryKind.FILE, size=4)
            await sink.write({key!r}, entry, InlineContent(b"data"))

        asyncio.run(main())
        """
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.parametrize("where", ["tree.workspace.create", "tree.metadata.put_on"])
async def test_what_a_killed_process_left_is_removed(tmp_path: Path, where: str) -> None:
    directory = tmp_path / "copies"
    killed_in(directory, where, "d/file")
    (left,) = (directory / ".filerbackup" / "tmp").iterdir()
    assert len(os.listdir(left)) == 2

    async with opened(directory) as sink:
        assert not left.exists()
        assert await keys(sink) == []


async def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "copies"
    size = 3 * MIB
    async with opened(directory) as first:
        content = StreamedContent(size, block_bytes=300_000)
        writing = asyncio.create_task(first.write("file", file_entry("file", size), content))
        await asyncio.sleep(0.005)
        for _ in range(5):
            async with opened(directory) as second:
                await write(second, "other")
        await writing

    assert (directory / "file").read_bytes() == await content.read()
