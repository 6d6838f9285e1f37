"""The state protocol: what a resume needs, kept on the filer so that any host can go on.

All calls raise StateError when the filer does not answer or says no: never "there is none".
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

STATE_DIRECTORY = "/etc/filerbackup"
"""What filerbackup keeps as entries on the filer (dead letters, held deletes); never content of a backup."""


COMPARISON_WANTED = -1
"""In place of the time of a checkpoint's last comparison: the log may have lost something since."""


class Phase(enum.Enum):
    """Where a replicator is: filling the sink from the live tree, or following the log."""

    SNAPSHOT = "snapshot"
    FOLLOW = "follow"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one (source folder, sink) got.

    `offset_ns`: everything in the log up to and including it is durable in the sink or a dead
    letter; in a snapshot, where following starts afterwards. `cursor`: the last path, relative to
    the folder, that the snapshot has finished. `sweep`: what the live tree no longer has is to be
    removed after the walk. `generation`: of the lease under which it was written, `boot`: the run
    of the filer in which that was, empty when it is not known. `updated_ns`: by
    the writer's clock, `compared_ns` when the sink was last compared with the live tree, or
    `COMPARISON_WANTED`. `ahead_to_ns`: the sink may hold what came up to there, though the log was not
    followed so far.
    """

    offset_ns: int
    phase: Phase = Phase.FOLLOW
    cursor: str = ""
    sweep: bool = False
    generation: int = 0
    boot: str = ""
    updated_ns: int = 0
    holder: str = ""
    compared_ns: int = 0
    ahead_to_ns: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that could not be applied, kept for a retry.

    `path` is the source path, `key` the sink key, `action` what was to be done ("write", "remove",
    "move", "refresh"), `reason` one line for a person, `ts_ns` the log position, `attempts` how often it
    was tried. `retry_requested`: a person asked the daemon to try again.
    """

    key: str
    path: str
    action: str
    reason: str
    ts_ns: int
    attempts: int
    first_failed_ns: int
    last_failed_ns: int
    retry_requested: bool = False

    @property
    def letter_id(self) -> str:
        """See `letter_id_of`."""
        return letter_id_of(self.key)


def letter_id_of(key: str) -> str:
    """Short and stable: one letter a key, the newest failure replaces the one before."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Status:
    """What the daemon says of itself every few seconds; times are of its own clock.

    `state`: "starting", "snapshot", "following", "standby", "sink-error", "source-error", "stopped".
    """

    state: str
    updated_ns: int
    holder: str
    lag_ns: int = 0
    queued: int = 0
    files: int = 0
    bytes: int = 0
    error: str = ""
    log_horizon_ns: int | None = None


class HeldDelete(NamedTuple):
    """A removal that was not carried out: of `key` in the sink, because `path` is gone at the source."""

    key: str
    path: str


class Decision(enum.Enum):
    """What a person says about held deletes."""

    ALLOW = "allow"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class DeleteWish:
    """A decision that is still to be carried out; `asked_ns` tells it from other ones.

    `kept`: what was discarded earlier is to be removed too.
    """

    decision: Decision
    asked_ns: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """What the delete guard of one (source folder, sink) remembers beside the batches of held deletes.

    `tripped_ns`: since when deletes are held, by the writer's clock; 0: they are not. `held`: how
    many wait for a decision. `held_until_ns`: the newest log position among them. Batches above
    `decided_to` wait for a decision; of the others those in `allowed` are being carried out, and the
    rest is kept: the copies stay. Deletes of the log up to `allowed_until_ns` have been decided on
    and pass; up to `kept_until_ns` they do not, where the key is kept. `answered_ns`: the newest wish
    that was carried out. `counts` and `compared` are the counted removals, (start of a span in ns,
    number), of the log up to `counted_to_ns` and of comparisons. `tree`: how many entries the live tree
    has (None: not known), as somebody counted at `tree_ns` and the log said up to `tree_to_ns`;
    `tree_peak`: the most that it had within the window.
    """

    tripped_ns: int = 0
    held: int = 0
    held_until_ns: int = 0
    decided_to: int = 0
    allowed: tuple[int, ...] = ()
    allowed_until_ns: int = 0
    kept_until_ns: int = 0
    answered_ns: int = 0
    counted_to_ns: int = 0
    counts: tuple[tuple[int, int], ...] = ()
    compared: tuple[tuple[int, int], ...] = ()
    tree: int | None = None
    tree_ns: int = 0
    tree_peak: int = 0
    tree_to_ns: int = 0


class CheckpointStore(Protocol):
    """One (source folder, sink)'s checkpoint.

    Who has the lease takes over before it loads. From then on nothing that an earlier holder stores,
    however late, is loaded by anybody.
    """

    async def load(self) -> Checkpoint | None:
        """The newest that any filer has, or None when every filer that answered has none."""
        ...

    async def take_over(self, holder: str) -> None:
        """Begin a term of `holder`, with what was stored last as its start."""
        ...

    async def confirm(self) -> None:
        """Raises LeaseLost when another one has begun a term since ours."""
        ...

    async def save(self, checkpoint: Checkpoint) -> None:
        """Replace it. Raises LeaseLost when another one has begun a term since ours."""
        ...

    async def delete(self) -> None:
        """Forget it."""
        ...


class DeadLetterStore(Protocol):
    """One (source folder, sink)'s dead letters."""

    async def put(self, letter: DeadLetter) -> None:
        """Keep it, replacing an older one of the same key; durable when this returns."""
        ...

    async def remove(self, letter_id: str) -> bool:
        """Drop one; False when there was none."""
        ...

    async def all(self) -> Sequence[DeadLetter]:
        """All of them, oldest first."""
        ...


class HeldStore(Protocol):
    """One (source folder, sink)'s held deletes, in numbered batches, and the wishes about them."""

    async def load(self) -> GuardRecord:
        """What was saved last, or an empty record."""
        ...

    async def save(self, record: GuardRecord) -> None:
        """Replace it; durable when this returns."""
        ...

    def batches(self) -> AsyncIterator[tuple[int, Sequence[HeldDelete]]]:
        """All batches, by ascending number, lazily."""
        ...

    async def read(self, number: int) -> Sequence[HeldDelete]:
        """One batch; empty when there is none."""
        ...

    async def put(self, number: int, deletes: Sequence[HeldDelete]) -> None:
        """Keep a batch, replacing the one with that number; durable when this returns."""
        ...

    async def remove(self, number: int) -> None:
        """Drop a batch. Absent is fine."""
        ...

    async def wish(self) -> DeleteWish | None:
        """What a person asked for, until it is forgotten."""
        ...

    async def ask(self, wish: DeleteWish) -> None:
        """Leave a wish; it replaces an older one."""
        ...

    async def forget_wish(self) -> None:
        """It was carried out. Absent is fine."""
        ...


class StatusStore(Protocol):
    """Where one (source folder, sink)'s process says how it is."""

    async def load(self) -> Status | None:
        """What was said last, or None."""
        ...

    async def save(self, status: Status) -> None:
        """Replace it."""
        ...


class Boot(Protocol):
    """Which run of the filer this is: one that was restarted has forgotten its locks, perhaps some log."""

    @property
    def name(self) -> str:
        """As of the last time that it was asked for."""
        ...

    async def ask(self) -> str:
        """Ask the filer."""
        ...


class Lease(Protocol):
    """The right to work on one (source folder, sink).

    A filer that restarts has forgotten its leases: then `renew` takes it anew, if nobody else was
    faster, and `restarts` counts it, because a filer that crashed has forgotten up to a minute of
    its change log too.
    """

    @property
    def generation(self) -> int:
        """Grows with each new holder while the filer lives."""
        ...

    @property
    def lasts_s(self) -> float:
        """How long it lasts after a renewal: so long another one may still write."""
        ...

    @property
    def left_s(self) -> float:
        """How long writing is still safe without another renewal."""
        ...

    @property
    def restarts(self) -> int:
        """How often the filer had forgotten it."""
        ...

    async def acquire(self) -> str | None:
        """Try once. None when the right is ours now, else who has it."""
        ...

    async def renew(self) -> None:
        """Extend it. Raises LeaseLost when it is another's, StateError when the filer is silent."""
        ...

    async def release(self) -> None:
        """Give it up, so that a standby need not wait for it to run out. Never raises."""
        ...
