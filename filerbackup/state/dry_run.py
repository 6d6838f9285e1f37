"""State for a dry run: read from the filer, never written."""

from __future__ import annotations

from collections.abc import Sequence

from filerbackup.state.base import Checkpoint, DeadLetter, Status
from filerbackup.state.checkpoints import FilerCheckpoints, FilerStatus


class DryRunCheckpoints(FilerCheckpoints):
    """Loads, and forgets what it is told to save."""

    async def save(self, checkpoint: Checkpoint) -> None:
        """Nothing."""

    async def delete(self) -> None:
        """Nothing."""


class DryRunStatus(FilerStatus):
    """Says nothing of itself."""

    async def save(self, status: Status) -> None:
        """Nothing."""


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
