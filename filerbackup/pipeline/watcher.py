"""What one replicator did and how it is: counters, the state that a person sees, and when to speak."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from filerbackup.errors import SourceRefused
from filerbackup.pipeline.planner import Move, Operation, Refresh, Remove, Write
from filerbackup.redact import without_tokens
from filerbackup.retry import Action
from filerbackup.state.base import DeadLetter

REPEAT_EVERY_S = 30.0
"""A problem that lasts is logged again after this long, not at every try."""
REMIND_EVERY_S = 3600.0
"""The same for what waits for a person, and for what lasts for hours."""


class Listener(Protocol):
    """Someone who wants to see each file: the progress display."""

    def started(self, key: str, size: int) -> None:
        """A file is being written."""
        ...

    def expect_more(self, files: int, size: int) -> None:
        """So much more is to come, in bytes of content."""
        ...

    def advanced(self, count: int) -> None:
        """So many more bytes of what is being written have passed."""
        ...

    def finished(self, key: str, size: int) -> None:
        """It is in the sink."""
        ...

    def skipped(self, key: str) -> None:
        """It need not be written after all."""
        ...

    def failed(self, key: str) -> None:
        """It became a dead letter."""
        ...


@dataclass(slots=True)
class Counters:
    """Since the start of the process; bytes of content written."""

    written: int = 0
    removed: int = 0
    moved: int = 0
    unchanged: int = 0
    refreshed: int = 0
    bytes: int = 0
    retries: int = 0
    superseded: int = 0
    swept: int = 0


@dataclass(slots=True)
class Watcher:
    """One a replicator, for the whole life of the process.

    `lettered` are the sink keys that this process gave up and has not written since, `held` is how
    many deletes the delete guard holds. `state` is one
    of the words of `filerbackup.state.base.Status`. `logger` carries the sink's name, `prefix` tells
    its keys from those of other sinks to the listener. `counts_ahead`: the listener wants to know in
    advance how much a snapshot will be, at the price of a second walk. `clean` takes secrets out of a
    text that leaves the process.
    """

    logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
    listener: Listener | None = None
    prefix: str = ""
    counts_ahead: bool = False
    clean: Callable[[str], str] = without_tokens
    counters: Counters = field(default_factory=Counters)
    state: str = "starting"
    error: str = ""
    lettered: set[str] = field(default_factory=set)
    held: int = 0
    _said_trouble: bool = False
    _reminded_at: float = -REMIND_EVERY_S
    _spoke_at: dict[str, float] = field(default_factory=dict)

    def begun(self, operation: Operation) -> None:
        """An attempt at an operation begins."""
        if self.listener is not None and _has_content(operation):
            self.listener.started(self.prefix + operation.key, operation.entry.size)

    def done(self, operation: Operation, copied_bytes: int | None) -> None:
        """An operation is done; `copied_bytes` went through here for it, None: nothing was to be done."""
        counters = self.counters
        counters.bytes += copied_bytes or 0
        match operation:
            case Write(entry=entry) if copied_bytes is not None:
                counters.written += not entry.is_directory
            case Write():
                counters.unchanged += 1
            case Move():
                counters.moved += 1
            case Remove():
                counters.removed += copied_bytes is not None
            case Refresh():
                counters.refreshed += 1
        if self.listener is not None and _has_content(operation):
            key = self.prefix + operation.key
            if copied_bytes is None:
                self.listener.skipped(key)
            else:
                self.listener.finished(key, operation.entry.size)
        if self.error:
            self.recovered()

    def overtaken(self, operation: Operation) -> None:
        """The source has replaced or removed what was to be written, and the sink took nothing."""
        self.counters.superseded += 1
        if self.listener is not None and _has_content(operation):
            self.listener.skipped(self.prefix + operation.key)

    def expect_more(self, files: int, size: int) -> None:
        """A snapshot will be so many more files and bytes."""
        if self.listener is not None:
            self.listener.expect_more(files, size)

    def advanced(self, count: int) -> None:
        """Some bytes of a large file have passed."""
        if self.listener is not None:
            self.listener.advanced(count)

    def failed(self, operation: Operation, error: Exception, action: Action) -> None:
        """An attempt failed; `action` is what follows."""
        if action is Action.DEAD_LETTER:
            return
        self.counters.retries += 1
        if action is Action.OUTAGE:
            self.trouble("sink-error", error)
        elif isinstance(error, SourceRefused):
            # Not this object's fault: no other will be given to us either.
            self.trouble("source-error", error)
        elif self._may_speak(type(error).__name__):
            self.logger.warning(
                "%s failed, will be tried again", type(operation).__name__.lower(),
                extra={"path": operation.path, "err": describe(error)},
            )  # fmt: skip

    def settled(self, key: str) -> None:
        """A dead letter's key has been written, or removed, after all."""
        self.lettered.discard(key)

    def dead_letter(self, letter: DeadLetter) -> None:
        """An operation was given up."""
        self.lettered.add(letter.key)
        self.logger.error(
            "dead letter: %s given up after %d tries", letter.action, letter.attempts,
            extra={"path": letter.path, "ts_ns": letter.ts_ns, "err": letter.reason},
        )  # fmt: skip
        if self.listener is not None:
            self.listener.failed(self.prefix + letter.key)

    def reminds_of_held(self) -> bool:
        """Whether it is time to say that deletes are held; from then on it is not, for a while."""
        now = time.monotonic()
        if now - self._reminded_at < REMIND_EVERY_S:
            return False
        self._reminded_at = now
        return True

    def clock_set_back(self) -> None:
        """The filer gives what happens now an earlier place in its log than what it has told of."""
        if self._may_speak("clock", REMIND_EVERY_S):
            self.logger.error(
                "the filer's clock was set back: it does not tell of changes until it is where it was; "
                "then the sink is compared with the live tree"
            )

    def log_ends_soon(self, left_s: float, kept_s: float) -> None:
        """What is still to be read is near the end of what the filer keeps."""
        if self._may_speak("log", REMIND_EVERY_S):
            self.logger.warning(
                "the change log reaches only %.1f h further back than the offset, of %.1f h that the filer "
                "keeps; once it is purged up to there, a snapshot has to find what changed",
                left_s / 3600, kept_s / 3600,
            )  # fmt: skip

    def complain(self, what: str, error: Exception) -> None:
        """Something that is tried again went wrong: said once, then now and then."""
        if self._may_speak(what):
            self.logger.warning("%s", what, extra={"err": describe(error)})

    def trouble(self, state: str, error: Exception) -> None:
        """The sink or the source as a whole does not work; said once, then now and then."""
        text = self.clean(describe(error))
        # Not by the text: it names the object, and every one of them meets the same trouble.
        if self._may_speak(f"{state} {type(error).__name__}"):
            self.logger.error("%s; trying again until it works", state.replace("-", " "), extra={"err": text})
            self._said_trouble = True
        self.state, self.error = state, text

    def recovered(self, state: str = "following") -> None:
        """It works again."""
        # On a nearly full disk small things go on working: not a line for each turn.
        if self._said_trouble:
            self.logger.info("works again, going on")
            self._said_trouble = False
        self.state, self.error = state, ""

    def _may_speak(self, subject: str, every_s: float = REPEAT_EVERY_S) -> bool:
        now = time.monotonic()
        if now - self._spoke_at.get(subject, -every_s) < every_s:
            return False
        self._spoke_at[subject] = now
        return True


def _has_content(operation: Operation) -> TypeGuard[Write | Move]:
    """Whether it is about a file, which is what people count."""
    return isinstance(operation, Write | Move) and not operation.entry.is_directory


def describe(error: BaseException) -> str:
    """One line with the hint, for a log or a status."""
    text = " ".join(str(error).split())[:500] or type(error).__name__
    hint = getattr(error, "hint", "")
    return f"{text} ({hint})" if hint else text
