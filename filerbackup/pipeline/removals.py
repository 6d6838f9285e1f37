"""What the delete guard counts and remembers: removals in a sliding window, and large sets of keys."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable

SPANS = 600
"""A window is counted in so many spans: it slides in steps of a 600th."""
_UNSORTED = 1 << 16


class Window:
    """How many removals there were within `window_ns` before a moment.

    Moments are positions in the filer's log, not the time of day here: a backlog of a week counts as
    the week that it was. They may step back a little. What was counted from the log once is not
    counted again when the log is read again (`read_again`).
    """

    def __init__(self, window_ns: int) -> None:
        self._span_ns = max(1, window_ns // SPANS)
        self._log: dict[int, int] = {}
        self._compared: dict[int, int] = {}
        self._span = -1
        self._before = 0
        self._counted_to_ns = 0
        self._known_to_ns = 0

    @property
    def counted_to_ns(self) -> int:
        """The newest removal of the log that was counted."""
        return self._counted_to_ns

    def add(self, ts_ns: int, count: int = 1, *, compared: bool = False) -> int:
        """Count removals at a moment; returns how many there were in the window that ends with it.

        `compared`: a comparison found them, not the log.
        """
        span = ts_ns // self._span_ns
        if compared:
            self._compared[span] = self._compared.get(span, 0) + count
        elif not self.was_counted(ts_ns):
            self._log[span] = self._log.get(span, 0) + count
            self._counted_to_ns = max(self._counted_to_ns, ts_ns)
        return self.at(ts_ns)

    def at(self, ts_ns: int) -> int:
        """How many there were in the window that ends with the span of this moment."""
        span = ts_ns // self._span_ns
        if span != self._span:
            self._span = span
            oldest = span - SPANS
            self._before = sum(
                count
                for counts in (self._log, self._compared)
                for at, count in counts.items()
                if oldest < at < span
            )
        return self._before + self._log.get(span, 0) + self._compared.get(span, 0)

    def compared_at(self, ts_ns: int) -> int:
        """How many of them comparisons found, in the window that ends with the span of this moment."""
        span = ts_ns // self._span_ns
        return sum(count for at, count in self._compared.items() if span - SPANS < at <= span)

    def was_counted(self, ts_ns: int) -> bool:
        """Whether the log is being read again up to this removal, which was counted before."""
        return ts_ns <= self._known_to_ns

    def read_again(self) -> None:
        """From now on the log may repeat what was counted."""
        self._known_to_ns = self._counted_to_ns

    def forget_before(self, ts_ns: int) -> None:
        """No removal before this moment will come any more, but for repeated ones."""
        oldest = ts_ns // self._span_ns - SPANS
        for counts in (self._log, self._compared):
            for span in [span for span in counts if span <= oldest]:
                del counts[span]
        self._span = -1

    def clear(self) -> None:
        """Begin at nought; what the log repeats does not count all the same."""
        self._log.clear()
        self._compared.clear()
        self._span = -1

    def saved(self) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """What was counted from the log and by comparisons, as (start in ns, number)."""
        log, compared = (
            tuple((span * self._span_ns, count) for span, count in sorted(counts.items()))
            for counts in (self._log, self._compared)
        )
        return log, compared

    def load(
        self, log: Iterable[tuple[int, int]], compared: Iterable[tuple[int, int]], counted_to_ns: int
    ) -> None:
        """Go on with what was saved, also by a window of another length."""
        for counts, saved in ((self._log, log), (self._compared, compared)):
            for start_ns, count in saved:
                span = start_ns // self._span_ns
                counts[span] = counts.get(span, 0) + count
        self._counted_to_ns = self._known_to_ns = counted_to_ns
        self._span = -1


class TreeSize:
    """How large the live tree is, followed through the log, and how large it was within a window."""

    def __init__(self, window_ns: int) -> None:
        self._span_ns = max(1, window_ns // SPANS)
        self._peaks: dict[int, int] = {}
        self.entries: int | None = None
        self.seen_to_ns = 0

    def load(self, entries: int | None, peak: int, seen_to_ns: int) -> None:
        """Go on with what was known when the log had been read to there."""
        self.entries, self.seen_to_ns = entries, seen_to_ns
        self.settle()
        if entries is not None:
            self._peaks[seen_to_ns // self._span_ns] = max(entries, peak)

    def counted(self, entries: int, ts_ns: int) -> None:
        """Somebody has counted, at about this moment."""
        self._note(ts_ns)
        self.entries = entries
        self._note(ts_ns)

    def changes(self, ts_ns: int, by: int) -> None:
        """An entry came or went. What the log repeats does not count again."""
        if self.entries is None or ts_ns <= self.seen_to_ns:
            return
        self._note(ts_ns)
        self.seen_to_ns = ts_ns
        self.entries = max(0, self.entries + by)
        self._note(ts_ns)

    def settle(self) -> None:
        """What it is now is the measure from now on."""
        self._peaks.clear()
        self._note(self.seen_to_ns)

    def peak_at(self, ts_ns: int) -> int | None:
        """The most that there was in the window that ends with this moment; None: not known."""
        if self.entries is None:
            return None
        oldest = ts_ns // self._span_ns - SPANS
        for span in [span for span in self._peaks if span <= oldest]:
            del self._peaks[span]
        return max(self._peaks.values(), default=self.entries)

    def _note(self, ts_ns: int) -> None:
        if self.entries is not None:
            span = ts_ns // self._span_ns
            self._peaks[span] = max(self._peaks.get(span, 0), self.entries)


class _Hashes:
    """A set of 64-bit numbers in 8 bytes each, and a little more for the newest ones."""

    def __init__(self) -> None:
        self._sorted: array[int] = array("Q")
        self._new: set[int] = set()

    def __contains__(self, number: int) -> bool:
        if number in self._new:
            return True
        place = bisect_left(self._sorted, number)
        return place < len(self._sorted) and self._sorted[place] == number

    def add(self, number: int) -> bool:
        """Put it in; False when it was there."""
        if number in self:
            return False
        self._new.add(number)
        if len(self._new) > max(_UNSORTED, len(self._sorted) // 8):
            self._merge()
        return True

    def update(self, other: _Hashes) -> None:
        """Put in all of another one's."""
        both = set(self._sorted) | self._new | set(other._sorted) | other._new
        self._sorted, self._new = array("Q", sorted(both)), set()

    def _merge(self) -> None:
        self._sorted = array("Q", sorted([*self._sorted, *self._new]))
        self._new = set()


class Keys:
    """A set of sink keys, of which millions fit into memory: only 64 bits of a hash of each are kept.

    Two keys are mistaken for one another with a chance of one in 10^12 for a million of them; what
    follows is that a copy stays which could go.
    """

    def __init__(self) -> None:
        self._keys = _Hashes()
        self._above = _Hashes()
        self._empty = True

    def __bool__(self) -> bool:
        return not self._empty

    def __contains__(self, key: str) -> bool:
        return not self._empty and _hash(key) in self._keys

    def below(self, key: str) -> bool:
        """Whether there is a key below `key/`."""
        return not self._empty and _hash(key) in self._above

    def add(self, key: str) -> bool:
        """Put it in; False when it was there."""
        self._empty = False
        if not self._keys.add(_hash(key)):
            return False
        above = key.rpartition("/")[0]
        while above and self._above.add(_hash(above)):
            above = above.rpartition("/")[0]
        return True

    def update(self, other: Keys) -> None:
        """Put in all of another one's."""
        if other:
            self._keys.update(other._keys)
            self._above.update(other._above)
            self._empty = False


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
