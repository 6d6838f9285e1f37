"""State kept in memory, which survives a crash of what uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from filerbackup.state.base import Checkpoint, DeadLetter, DeleteWish, GuardRecord, HeldDelete


class ModelCheckpoints:
    """Satisfies `CheckpointStore`; `check` is called with every checkpoint before it is stored."""

    def __init__(self, check: Callable[[Checkpoint], None] = lambda _: None) -> None:
        self.stored: Checkpoint | None = None
        self.check = check
        self.saves = 0

    async def load(self) -> Checkpoint | None:
        return self.stored

    async def take_over(self, holder: str) -> None:
        """There is but one holder."""

    async def confirm(self) -> None:
        """There is but one holder."""

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
        self.puts = 0

    async def put(self, letter: DeadLetter) -> None:
        self.puts += 1
        self.letters[letter.letter_id] = letter

    async def remove(self, letter_id: str) -> bool:
        return self.letters.pop(letter_id, None) is not None

    async def all(self) -> Sequence[DeadLetter]:
        return list(self.letters.values())


class ModelHeld:
    """Satisfies `HeldStore`."""

    def __init__(self) -> None:
        self.record = GuardRecord()
        self.stored: dict[int, Sequence[HeldDelete]] = {}
        self.wished: DeleteWish | None = None
        self.puts = 0

    @property
    def keys(self) -> set[str]:
        """Everything that is recorded."""
        return {delete.key for deletes in self.stored.values() for delete in deletes}

    async def load(self) -> GuardRecord:
        return self.record

    async def save(self, record: GuardRecord) -> None:
        self.record = record

    async def batches(self) -> AsyncIterator[tuple[int, Sequence[HeldDelete]]]:
        for number in sorted(self.stored):
            yield number, self.stored[number]

    async def read(self, number: int) -> Sequence[HeldDelete]:
        return self.stored.get(number, ())

    async def put(self, number: int, deletes: Sequence[HeldDelete]) -> None:
        self.puts += 1
        self.stored[number] = tuple(deletes)

    async def remove(self, number: int) -> None:
        self.stored.pop(number, None)

    async def wish(self) -> DeleteWish | None:
        return self.wished

    async def ask(self, wish: DeleteWish) -> None:
        self.wished = wish

    async def forget_wish(self) -> None:
        self.wished = None
