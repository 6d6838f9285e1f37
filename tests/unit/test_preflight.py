"""Trying out at the start whether files may be read."""

from __future__ import annotations

import asyncio

import pytest

from filerbackup.errors import ChunkGone, FilerBackupError, SourceRefused, SourceUnreachable
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.runtime import preflight
from filerbackup.runtime.preflight import require_reads

REFUSED = SourceRefused("refused", hint="a hint")


class Tree:
    """Directories, and what reading a chunk raises, by volume."""

    def __init__(self, tree: dict[str, list[str]], answers: dict[str, FilerBackupError]) -> None:
        self.tree, self.answers = tree, answers
        self.tried: list[str] = []

    async def list_some(self, directory: str, after: str, limit: int) -> tuple[list[pb.Entry], bool]:
        assert not after
        if directory not in self.tree:
            raise SourceUnreachable("down")
        entries = []
        for name in self.tree[directory][:limit]:
            if name.endswith("/"):
                entries.append(pb.Entry(name=name[:-1], is_directory=True))
            else:
                chunks = [pb.FileChunk(file_id=f"{name},0123456789", size=9)] if name != "empty" else []
                entries.append(pb.Entry(name=name, chunks=chunks))
        return entries, len(self.tree[directory]) <= limit

    async def try_out(self, file_id: str) -> None:
        volume = file_id.partition(",")[0]
        self.tried.append(volume)
        if volume == "hangs":
            await asyncio.Event().wait()
        if volume in self.answers:
            raise self.answers[volume]


@pytest.mark.parametrize(
    ("tree", "answers", "refused", "tried"),
    [
        ({"/r": []}, {}, False, []),
        ({"/r": ["empty"]}, {}, False, []),
        ({"/r": ["1", "1", "2"]}, {}, False, ["1"]),
        ({"/r": ["1", "2"]}, {"1": REFUSED, "2": REFUSED}, True, ["1", "2"]),
        ({"/r": ["1", "1", "2"]}, {"1": REFUSED}, False, ["1", "2"]),
        ({"/r": ["1", "2", "3", "4"]}, dict.fromkeys("1234", REFUSED), True, ["1", "2", "3"]),
        ({"/r": ["a/", "b/"], "/r/a": ["empty"], "/r/b": ["7"]}, {"7": REFUSED}, True, ["7"]),
        ({"/r": ["1"]}, {"1": ChunkGone("gone")}, False, ["1"]),
        ({"/r": ["1", "2"]}, {"1": REFUSED, "2": SourceUnreachable("down")}, True, ["1", "2"]),
        ({"/r": ["1", "2"]}, {"1": SourceUnreachable("down"), "2": REFUSED}, True, ["1", "2"]),
        ({"/r": ["1", "2", "3"]}, {"1": SourceUnreachable("down")}, False, ["1", "2"]),
        ({"/r": ["hangs", "2"]}, {"2": REFUSED}, True, ["hangs", "2"]),
        ({}, {}, False, []),
    ],
)
async def test_a_refusal_of_all_that_was_tried_is_an_error(
    tree: dict[str, list[str]],
    answers: dict[str, FilerBackupError],
    refused: bool,
    tried: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Tree(tree, answers)
    monkeypatch.setattr(preflight, "_TRY_S", 0.1)
    if refused:
        with pytest.raises(SourceRefused, match="refused") as caught:
            await require_reads(fake, fake, "/r")
        assert caught.value.hint == "a hint"
    else:
        await require_reads(fake, fake, "/r")
    assert fake.tried == tried
