"""State kept in memory, which survives a crash of what uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from filerbackup.state.base import Checkpoint, DeadLetter


class ModelCheckpoints:
    """Satisfies `CheckpointStore`; `check` is called with every checkpoint before it is stored."""

    def __init__(self, check: Callable[[Checkpoint], None] = lambda _: None) -> None:
        self.stored: Checkpoint | None = None
        self.check = check
        self.saves = 0

    async def load(self) -> Checkpoint | None:
        return self.stored

    async def save(self, checkpoint: Checkpoint) -> None:
        self.check(checkpoint)
        self.stored = checkpoint
        self.saves += 1

    async def delete(self) -> None:
        self.stored = None

    async def weed_offset_ns(self) -> int | None:
        return None


class ModelLetters:
    """Satisfies `DeadLetterStore`."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}

    async def put(self, letter: DeadLetter) -> None:
        self.letters[letter.letter_id] = letter

    async def remove(self, letter_id: str) -> bool:
        return self.letters.pop(letter_id, None) is not None

    async def all(self) -> Sequence[DeadLetter]:
        return list(self.letters.values())
