"""What a chaos run writes down: every fault, every broken promise, counts of what was done."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Trouble:
    """One fault: `concerns` are the parts that it touches; Unix seconds, `ended` is 0 while it lasts."""

    kind: str
    concerns: frozenset[str]
    began: float
    ended: float = 0.0


@dataclass
class Book:
    """Shared by all threads of a run."""

    directory: Path
    quiet: bool = False
    troubles: list[Trouble] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._file = (self.directory / "events.jsonl").open("a", buffering=1)

    def say(self, text: str) -> None:
        """One line for whoever watches, with the seconds since the start."""
        self.note("says", text=text)
        if not self.quiet:
            print(f"{time.time() - self.began:6.1f} s  {text}", flush=True)

    def note(self, what: str, **fields: object) -> None:
        """One line of the run's history, `events.jsonl`."""
        with self._lock:
            self._file.write(json.dumps({"t": round(time.time(), 3), "what": what, **fields}) + "\n")

    def breaks(self, promise: str, detail: str) -> None:
        """A promise was broken; the same one in the same words counts once."""
        text = f"{promise}: {detail}"
        with self._lock:
            known = text in self.broken
            if not known:
                self.broken.append(text)
        if not known:
            self.say(f"BROKEN {text}")

    def begin(self, kind: str, concerns: frozenset[str], detail: str = "") -> Trouble:
        """A fault begins."""
        trouble = self.mark(kind, concerns)
        self.count(f"fault {kind}")
        self.say(f"fault: {kind}{' ' + detail if detail else ''}")
        return trouble

    def mark(self, kind: str, concerns: frozenset[str]) -> Trouble:
        """A part of a fault that is counted already: what it explains."""
        trouble = Trouble(kind, concerns, time.time())
        with self._lock:
            self.troubles.append(trouble)
        return trouble

    def end(self, trouble: Trouble) -> None:
        """It is healed."""
        trouble.ended = time.time()
        self.note("healed", kind=trouble.kind)

    def count(self, what: str, number: int = 1) -> None:
        """One more of these."""
        with self._lock:
            self.counts[what] += number

    @contextmanager
    def guarding(self, who: str) -> Iterator[None]:
        """Around all that a thread does: one that died would pass for one that found nothing."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, the run has not looked at all
            text = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            self.breaks("the run itself", f"{who}: {text}")

    def explains(self, concern: str, at: float, *, before_s: float = 0.0, after_s: float = 20.0) -> bool:
        """Whether a fault of this part lasted at a time, or began soon after or ended not long before it."""
        with self._lock:
            return any(
                concern in trouble.concerns
                and trouble.began - before_s <= at <= (trouble.ended or time.time()) + after_s
                for trouble in self.troubles
            )

    def numbers(self, prefix: str) -> dict[str, int]:
        """The counts whose names begin with a word, without it."""
        with self._lock:
            return {
                name[len(prefix) + 1 :]: count
                for name, count in sorted(self.counts.items())
                if name.startswith(prefix + " ")
            }

    def close(self) -> None:
        """No more is written."""
        with self._lock:
            self._file.close()
