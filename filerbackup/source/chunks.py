"""Which byte of a file comes from which chunk: pure, and quick for tens of thousands of chunks.

A later write (`modified_ts_ns`) covers an earlier one; of two with the same time the later in the
list wins. What no chunk covers is a hole and reads as zeros.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from filerbackup.events import Chunk


class Interval(NamedTuple):
    """A range of the file that comes from one place; `chunk` None: zeros."""

    offset: int
    size: int
    chunk: Chunk | None
    chunk_offset: int = 0

    @property
    def is_whole_chunk(self) -> bool:
        """Whether it shows its chunk from the first to the last byte."""
        return self.chunk is not None and self.chunk_offset == 0 and self.size == self.chunk.size


def visible_intervals(chunks: Sequence[Chunk], size: int, start: int = 0) -> list[Interval]:
    """Ranges that together cover the file from `start` to `size` in order, without gap or overlap.

    Takes O(n log n). What a chunk claims before `start` or beyond `size` does not exist.
    """
    ordered = _by_offset(chunks, size, start)
    if _is_plain(ordered):
        return _plain(ordered, size, start)
    return _swept(ordered, size, start)


class _Claim(NamedTuple):
    begin: int
    end: int
    rank: tuple[int, int]
    chunk: Chunk


def _by_offset(chunks: Sequence[Chunk], size: int, start: int) -> list[_Claim]:
    claims = []
    for index, chunk in enumerate(chunks):
        begin = max(chunk.offset, start)
        end = min(chunk.offset + chunk.size, size)
        if begin < end:
            # Smallest rank on top: the heap then gives the newest, of equals the later in the list.
            claims.append(_Claim(begin, end, (-chunk.modified_ts_ns, -index), chunk))
    claims.sort(key=lambda claim: claim.begin)
    return claims


def _is_plain(ordered: Sequence[_Claim]) -> bool:
    return all(one.end <= other.begin for one, other in pairwise(ordered))


def _plain(ordered: Sequence[_Claim], size: int, start: int) -> list[Interval]:
    found: list[Interval] = []
    position = start
    for claim in ordered:
        if position < claim.begin:
            found.append(Interval(position, claim.begin - position, None))
        found.append(_interval(claim.begin, claim.end, claim.chunk))
        position = claim.end
    if position < size:
        found.append(Interval(position, size - position, None))
    return found


def _swept(ordered: Sequence[_Claim], size: int, start: int) -> list[Interval]:
    """From left to right, with the claims that hold at the position in a heap by rank."""
    found: list[Interval] = []
    position = start
    active: list[tuple[tuple[int, int], int, Chunk]] = []
    coming = 0
    while position < size:
        while coming < len(ordered) and ordered[coming].begin <= position:
            claim = ordered[coming]
            heapq.heappush(active, (claim.rank, claim.end, claim.chunk))
            coming += 1
        while active and active[0][1] <= position:
            heapq.heappop(active)
        begins_next = ordered[coming].begin if coming < len(ordered) else size
        if not active:
            found.append(Interval(position, begins_next - position, None))
            position = begins_next
            continue
        rank, end, chunk = active[0]
        # Up to its own end, unless a newer one begins before that.
        while coming < len(ordered) and ordered[coming].begin < end and ordered[coming].rank > rank:
            claim = ordered[coming]
            heapq.heappush(active, (claim.rank, claim.end, claim.chunk))
            coming += 1
        if coming < len(ordered):
            end = min(end, ordered[coming].begin)
        found.append(_interval(position, end, chunk))
        position = end
    return found


def _interval(begin: int, end: int, chunk: Chunk) -> Interval:
    return Interval(begin, end - begin, chunk, begin - chunk.offset)
