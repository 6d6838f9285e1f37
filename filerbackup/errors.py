"""The error tree: every failure is classified once, by type.

    FilerBackupError
    ├── UsageError              exit 2: a flag, a file or a key is wrong
    ├── SourceUnreachable       exit 3 at the start, else retried for ever
    ├── SourceRefused           the filer or a volume server says no (401, 403): retried for ever, shown
    ├── ChunkGone               404: ask the live filer what became of the file
    │   └── VolumeMissing       no server has its volume: the same, with more patience (a restart?)
    ├── Unreadable              wrong length, wrong hash, undecodable: a few tries, then a dead letter
    │   └── KeyMissing          encrypted with a key that cannot be had: a dead letter at once
    ├── StateError              what is kept on the filer could not be read or written: retried
    ├── LogGap                  the log does not tell all since our offset: begin again with a snapshot
    ├── LeaseLost               another process may write: stop writing, stand by
    └── SinkError
        ├── SinkUnavailable     down, timing out, 5xx, disk full: retried for ever
        │   ├── SinkThrottled   503 SlowDown, 429: the same, and fewer at once
        │   └── SinkFull        no space left: the same, though something small may still fit
        ├── SinkRefused         credentials, bucket gone: retried for ever, shown as an error
        └── ObjectRejected      this one object can never be written: a dead letter

What to do about each stands in `filerbackup.retry`; the exit code of a command in `exit_code`.
A `hint` says what a person can do; neither it nor the message ever holds a secret. Both often quote
what somebody else said, so what looks like a token is blanked in them.
"""

from __future__ import annotations

from filerbackup.redact import without_tokens


class FilerBackupError(Exception):
    """Base of everything that filerbackup raises on purpose."""

    exit_code: int = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(without_tokens(message))
        self.hint = without_tokens(hint)


class UsageError(FilerBackupError):
    """A flag, a configuration file or a key in it is wrong; nothing was started."""

    exit_code = 2


class SourceUnreachable(FilerBackupError):
    """No filer, or no volume server that should have a chunk, answered in time."""

    exit_code = 3


class SourceRefused(FilerBackupError):
    """The source answered that we may not (401, 403, TLS): a person has to change something."""


class ChunkGone(FilerBackupError):
    """A chunk does not exist any more (404 wherever its volume is)."""


class VolumeMissing(ChunkGone):
    """No volume server has the chunk's volume: gone, or its server is just being restarted."""


class Unreadable(FilerBackupError):
    """The bytes of a file cannot be had as the filer describes them."""


class KeyMissing(Unreadable):
    """The bytes are encrypted with a key that is not configured, not the right one, or only the client's."""


class StateError(FilerBackupError):
    """What filerbackup keeps on the filer could not be read or written."""

    exit_code = 3


class LogGap(FilerBackupError):
    """The filer's change log can no longer be followed from where we are: part of it is gone."""


class LeaseLost(FilerBackupError):
    """The right to work on this (folder, sink) ran out or was taken over."""


class SinkError(FilerBackupError):
    """Base of everything that a sink raises."""


class SinkUnavailable(SinkError):
    """The sink is down, unreachable, full or failing: the same call may go through later."""


class SinkThrottled(SinkUnavailable):
    """The sink asks for fewer requests (HTTP 429, or 503 SlowDown)."""


class SinkFull(SinkUnavailable):
    """No space, no quota: a fault of the sink even while it takes smaller things."""


class SinkRefused(SinkError):
    """The sink says no to everything: credentials, bucket or directory. A person has to act."""


class ObjectRejected(SinkError):
    """The sink can hold other objects but never this one (name, size, type)."""
