"""State for a dry run: read from the filer, never written."""

from __future__ import annotations

from collections.abc import Sequence

from filerbackup.state.base import Checkpoint, DeadLetter, DeleteWish, GuardRecord, HeldDelete, Status
from filerbackup.state.checkpoints import FilerCheckpoints, FilerStatus
from filerbackup.state.held import FilerHeldDeletes


class DryRunCheckpoints(FilerCheckpoints):
    """Loads, and forgets what it is told to save."""

    async def take_over(self, holder: str) -> None:
        """Nothing."""

    async def save(self, checkpoint: Checkpoint) -> None:
        """Nothing."""

    async def delete(self) -> None:
        """Nothing."""


class DryRunStatus(FilerStatus):
    """Says nothing of itself."""

    async def save(self, status: Status) -> None:
        """Nothing."""


class DryRunBoot:
    """Asks nothing, as the answer would be kept. Satisfies `filerbackup.state.base.Boot`."""

    name = ""

    async def ask(self) -> str:
        """Not known."""
        return ""


class DryRunLetters:
    """Keeps nothing. Satisfies `filerbackup.state.base.DeadLetterStore`."""

    async def put(self, letter: DeadLetter) -> None:
        """Nothing."""

    async def remove(self, letter_id: str) -> bool:
        """Nothing."""
        return False

    async def all(self) -> Sequence[DeadLetter]:
        """None."""
        return ()


class DryRunHeld(FilerHeldDeletes):
    """Loads what is held, and forgets what it is told to keep; nobody's wish is carried out."""

    async def save(self, record: GuardRecord) -> None:
        """Nothing."""

    async def put(self, number: int, deletes: Sequence[HeldDelete]) -> None:
        """Nothing."""

    async def remove(self, number: int) -> None:
        """Nothing."""

    async def wish(self) -> DeleteWish | None:
        """None."""
        return None

    async def ask(self, wish: DeleteWish) -> None:
        """Nothing."""

    async def forget_wish(self) -> None:
        """Nothing."""
