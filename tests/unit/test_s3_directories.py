"""What a service answers never keeps the search for empty directories going."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest

from filerbackup.sinks.objects.store import Page
from filerbackup.sinks.s3.answers import Answer
from filerbackup.sinks.s3.bucket import Bucket
from filerbackup.sinks.s3.directories import clear_directories


class Directories:
    """A bucket of empty directories; `below` gives those in one."""

    def __init__(self, below: Callable[[str], Sequence[str]]) -> None:
        self._below = below
        self.asked = 0
        self.removed: list[str] = []

    async def head(self, name: str) -> Answer | None:
        assert name.endswith("/")
        self.asked += 1
        return Answer(0, "", opaque_etag=False)

    async def page(self, prefix: str, *, delimiter: str) -> Page:
        assert delimiter == "/"
        return Page([], list(self._below(prefix)), truncated=False, token="")

    async def delete(self, name: str) -> None:
        self.removed.append(name)


async def clear(bucket: Directories) -> bool:
    return await clear_directories(cast("Bucket", bucket), "a")


async def test_what_is_below_goes_first() -> None:
    tree = {"a/": ["a/1/", "a/2/"], "a/1/": ["a/1/x/"]}
    bucket = Directories(lambda prefix: tree.get(prefix, []))
    assert await clear(bucket)
    assert sorted(bucket.removed) == ["a/", "a/1/", "a/1/x/", "a/2/"]
    assert bucket.removed[-1] == "a/"
    assert bucket.removed.index("a/1/x/") < bucket.removed.index("a/1/")


@pytest.mark.parametrize(
    "below",
    [
        lambda prefix: [prefix + "x/"],
        lambda prefix: [f"{prefix}{number}/" for number in range(10)],
        lambda prefix: [prefix],
        lambda _: ["another/"],
        lambda _: ["/"],
    ],
)
async def test_directories_without_an_end_and_elsewhere(below: Callable[[str], Sequence[str]]) -> None:
    bucket = Directories(below)
    assert not await clear(bucket)
    assert bucket.removed == []
    assert bucket.asked <= 1000
