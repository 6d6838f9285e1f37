"""Large files in many chunks, and that no chunk stays behind of a file that never came to be."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import secrets
import time
from collections.abc import AsyncGenerator, Iterator

import pytest

from filerbackup.content import InlineContent
from filerbackup.errors import ObjectRejected, SinkUnavailable, SourceUnreachable
from filerbackup.settings.model import SecuritySettings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.filer import FilerSink
from filerbackup.sinks.filer.uploads import Sizes
from tests.contract.contents import NOTHING, BreakingContent, StreamedContent, file_entry
from tests.integration.filer.conftest import SMALL_CHUNKS, live_needles, opened, settings_for
from tests.support.daemon import wait_until
from tests.support.filer_looks import Looks
from tests.support.split_weed import SplitWeed, running_split_weed
from tests.support.victim import kill_while_writing
from tests.support.weed import WeedServer, running_weed

KIB, MIB = 1 << 10, 1 << 20


class Halting:
    """Content that comes up to a point, and then no more until it is told to."""

    md5 = b""
    memory_bytes = MIB

    def __init__(self, data: bytes, good: int) -> None:
        self.size = len(data)
        self._data, self._good = data, good
        self.halted, self.go_on = asyncio.Event(), asyncio.Event()

    async def read(self) -> bytes:
        return b"".join([block async for block in self.stream()])

    async def stream(self) -> AsyncGenerator[bytes, None]:
        for at in range(0, self.size, 64 * KIB):
            if at >= self._good:
                self.halted.set()
                await self.go_on.wait()
            yield self._data[at : at + 64 * KIB]


async def read(sink: FilerSink, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in sink.read(key, offset, length)])


async def test_more_chunks_than_an_entry_lists(weed: WeedServer, looks: Looks, folder: str) -> None:
    size = 230 * 64 * KIB + 17
    content = StreamedContent(size)
    data = await content.read()
    async with opened(weed, folder, sizes=SMALL_CHUNKS) as sink:
        await sink.write("big", file_entry("big", size), content)

        kept = looks.entry(f"{folder}/big")
        assert kept is not None
        kinds = [chunk.is_chunk_manifest for chunk in kept.chunks]
        assert kinds == [True] * 4 + [False] * 31
        assert kept.attributes.md5 == content.md5
        assert looks.content(f"{folder}/big") == data
        assert await read(sink, "big") == data
        for _ in range(20):
            offset = random.randrange(size)
            length = random.randrange(1, 5 * MIB)
            assert await read(sink, "big", offset, length) == data[offset : offset + length]
        assert looks.children(f"{folder}/.filerbackup/tmp") == []


async def test_a_file_with_manifests_goes_with_all_its_chunks(weed: WeedServer, folder: str) -> None:
    collection = f"c{secrets.token_hex(4)}"
    size = 120 * 64 * KIB
    async with opened(weed, folder, sizes=SMALL_CHUNKS, collection=collection) as sink:
        await sink.write("big", file_entry("big", size), StreamedContent(size))
        wait_until(lambda: live_needles(weed, collection) == 122)
        await sink.write("big", file_entry("big", 3), InlineContent(b"new"))
        wait_until(lambda: live_needles(weed, collection) == 1)


@pytest.mark.parametrize("size", [1000, 400 * KIB, 120 * 64 * KIB])
async def test_content_that_breaks_leaves_no_chunk(weed: WeedServer, folder: str, size: int) -> None:
    collection = f"c{secrets.token_hex(4)}"
    error = SourceUnreachable("the volume server is down")
    async with opened(weed, folder, sizes=SMALL_CHUNKS, collection=collection) as sink:
        await sink.write("file", file_entry("file", 3), InlineContent(b"old"))
        with pytest.raises(SourceUnreachable):
            content = BreakingContent(size, good_bytes=size - 100, error=error)
            await sink.write("file", file_entry("file", size), content)
        wait_until(lambda: live_needles(weed, collection) == 1)
        assert await read(sink, "file") == b"old"


@pytest.mark.parametrize("size", [10, 400 * KIB])
async def test_an_entry_that_is_refused_leaves_no_chunk(weed: WeedServer, folder: str, size: int) -> None:
    collection = f"c{secrets.token_hex(4)}"
    key = "n" * 300
    async with opened(weed, folder, collection=collection) as sink:
        with pytest.raises(ObjectRejected, match="longer than the target"):
            await sink.write(key, file_entry(key, size), InlineContent(b"x" * size))
        wait_until(lambda: live_needles(weed, collection) == 0)


async def test_a_cancelled_upload_leaves_no_chunk(weed: WeedServer, looks: Looks, folder: str) -> None:
    collection = f"c{secrets.token_hex(4)}"
    content = Halting(bytes(5 * MIB), 3 * MIB)
    async with opened(weed, folder, sizes=SMALL_CHUNKS, collection=collection) as sink:
        task = asyncio.create_task(sink.write("file", file_entry("file", content.size), content))
        await content.halted.wait()
        await asyncio.to_thread(wait_until, lambda: live_needles(weed, collection) > 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until, lambda: live_needles(weed, collection) == 0)
    assert looks.children(f"{folder}/.filerbackup/tmp") == []
    assert looks.entry(f"{folder}/file") is None


async def test_a_small_write_that_is_cancelled_anywhere_is_whole_or_absent(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    collection = f"c{secrets.token_hex(4)}"
    async with opened(weed, folder, collection=collection) as sink:
        for number in range(60):
            key = f"f{number}"
            task = asyncio.create_task(sink.write(key, file_entry(key, 4), InlineContent(b"data")))
            await asyncio.sleep(number * 0.0001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    written = [child for child in looks.children(folder) if child.name != ".filerbackup"]
    for child in written:
        assert looks.content(f"{folder}/{child.name}") == b"data"
    await asyncio.to_thread(wait_until, lambda: live_needles(weed, collection) == len(written))
    assert looks.children(f"{folder}/.filerbackup/tmp") == []


async def test_a_killed_process_leaves_chunks_until_the_next_start(weed: WeedServer, folder: str) -> None:
    collection = f"c{secrets.token_hex(4)}"
    settings = settings_for(weed, folder, collection=collection)
    await asyncio.to_thread(kill_while_writing, settings, "file", size=40 * MIB, good=20 * MIB)
    assert live_needles(weed, collection) >= 2

    async with opened(weed, folder, collection=collection) as sink:
        # Only with the first write is it sure that nobody else is at work.
        await sink.write("after", file_entry("after", 0), NOTHING)
        await asyncio.to_thread(wait_until, lambda: live_needles(weed, collection) == 0)
        assert await sink.stat("file") is None


async def test_what_a_file_holds_is_never_taken_for_a_leftover(
    weed: WeedServer, looks: Looks, folder: str
) -> None:
    """Killed between the entry's creation and the removal of the notes."""
    async with opened(weed, folder, sizes=SMALL_CHUNKS) as sink:
        content = StreamedContent(MIB)
        assert sink._opened is not None
        leftovers = sink._opened.leftovers
        keep = leftovers.keep
        leftovers.keep = lambda _upload: asyncio.sleep(0)  # type: ignore[method-assign]
        await sink.write("file", file_entry("file", MIB), content)
        leftovers.keep = keep  # type: ignore[method-assign]
    assert len(looks.children(f"{folder}/.filerbackup/tmp")) == 1

    async with opened(weed, folder) as sink:
        await sink.write("after", file_entry("after", 0), NOTHING)
        assert looks.children(f"{folder}/.filerbackup/tmp") == []
        # Longer than the filer takes to delete what it was told to.
        await asyncio.sleep(2.5)
        assert await read(sink, "file") == await content.read()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A cluster with tokens for writing and reading, whose filer wants its chunks encrypted."""
    directory = tmp_path_factory.mktemp("tokens")
    (directory / "security.toml").write_text(
        '[jwt.signing]\nkey = "write-key"\n[jwt.signing.read]\nkey = "read-key"\n'
    )
    with running_weed(directory, filer_args=["-filer.encryptVolumeData"]) as server:
        yield server


async def test_tokens_and_encryption(guarded: WeedServer, folder: str) -> None:
    security = SecuritySettings(volume_read_key=Secret("read-key"))
    looks = Looks(guarded)
    size = 120 * 64 * KIB
    content = StreamedContent(size)
    async with opened(guarded, folder, security=security, sizes=SMALL_CHUNKS) as sink:
        await sink.write("big", file_entry("big", size), content)
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                key = f"f{number}"
                group.create_task(sink.write(key, file_entry(key, 4), InlineContent(b"%04d" % number)))
        kept = looks.entry(f"{folder}/big")
        assert kept is not None
        assert all(len(chunk.cipher_key) == 32 for chunk in kept.chunks)
        assert len({chunk.cipher_key for chunk in kept.chunks}) == len(kept.chunks)
        assert looks.content(f"{folder}/big") == await content.read()
        assert await read(sink, "big") == await content.read()
        assert await read(sink, "big", 70_000, 100_000) == (await content.read())[70_000:170_000]
        for number in range(40):
            assert looks.content(f"{folder}/f{number}") == b"%04d" % number
    looks.close()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitWeed]:
    """A cluster whose servers can be stopped one by one."""
    with running_split_weed(tmp_path_factory.mktemp("split")) as server:
        yield server


async def test_the_volume_server_is_restarted_in_the_middle_of_an_upload(
    split: SplitWeed, folder: str
) -> None:
    looks = Looks(split)
    data = random.Random(1).randbytes(4 * MIB)
    async with opened(split, folder, sizes=Sizes(chunk_bytes=256 * KIB, concurrency=2)) as sink:
        content = Halting(data, MIB)
        task = asyncio.create_task(sink.write("file", file_entry("file", content.size), content))
        await content.halted.wait()
        split.kill_volume()
        content.go_on.set()
        await asyncio.sleep(0.3)
        assert not task.done()
        split.start_volume()
        await task
        assert await read(sink, "file") == data
        assert looks.children(f"{folder}/.filerbackup/tmp") == []
    looks.close()


async def test_the_filer_is_restarted(split: SplitWeed, folder: str) -> None:
    async with opened(split, folder) as sink:
        entry = dataclasses.replace(file_entry("file", 3), mtime_ns=5)
        await sink.write("file", entry, InlineContent(b"one"))
        await asyncio.to_thread(split.kill)
        for call in (
            lambda: sink.write("file", entry, InlineContent(b"two")),
            lambda: sink.stat("file"),
            lambda: anext(sink.list()),
            lambda: sink.delete("file"),
            lambda: sink.move("file", "new", entry),
        ):
            with pytest.raises(SinkUnavailable) as caught:
                await call()
            assert "\n" not in str(caught.value)

        split.start_filer()
        await asyncio.to_thread(split.wait_ready)
        deadline = time.monotonic() + 20
        while True:
            try:
                await sink.write("file", entry, InlineContent(b"two"))
                break
            except SinkUnavailable as error:
                assert "is the target's filer running" in error.hint
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        assert await read(sink, "file") == b"two"
