"""Answers of any length: read so far and no further."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.http import read_body


class Endless:
    """An answer without an end; `given` counts its bytes."""

    def __init__(self, end: int | None = None) -> None:
        self.content = self
        self.end = end
        self.given = 0

    async def iter_any(self) -> AsyncIterator[bytes]:
        while self.end is None or self.given < self.end:
            self.given += 1000
            yield bytes(1000)


async def test_an_answer_that_does_not_end_is_given_up() -> None:
    answer = Endless()
    with pytest.raises(Unanswered, match="longer than 9 KiB"):
        await read_body(answer, 10_000)  # type: ignore[arg-type]
    assert answer.given == 11_000


async def test_an_answer_of_the_longest_length_is_read() -> None:
    assert await read_body(Endless(10_000), 10_000) == bytes(10_000)  # type: ignore[arg-type]
