"""Which operations must not run at the same time: claims on keys, and the tree that finds conflicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

N = TypeVar("N")


class Claim(NamedTuple):
    """A key that an operation touches.

    `exclusive`: it concerns whatever is at the key and everything below it: a file that is written
    (no directory may be there meanwhile), a deletion, a move. Else it is a directory that comes to
    be, beside which things below it may go on. Two claims conflict when their keys are equal, or
    when the one above is exclusive.
    """

    key: str
    exclusive: bool

    def covers(self, other: Claim) -> bool:
        """Whether `other` lies at or below this claim's key."""
        return other.key == self.key or other.key.startswith(self.key + "/")


@dataclass(slots=True, eq=False)
class _Place(Generic[N]):
    """One component of a key. `last` is the newest open claim here, `last_exclusive` the newest such."""

    name: str
    above: _Place[N] | None
    below: dict[str, _Place[N]] = field(default_factory=dict)
    last: N | None = None
    last_exclusive: N | None = None


class ClaimTree(Generic[N]):
    """Open claims by key. Only the newest at each place is kept: it waits for those before it.

    The cost of a look-up is the depth of the key, and for an exclusive claim the number of open
    claims below it.
    """

    def __init__(self) -> None:
        self._root: _Place[N] = _Place("", None)

    def conflicts(self, claim: Claim) -> Iterator[N]:
        """The owners of open claims that a new one has to wait for (an owner may come twice)."""
        place = self._root
        for name in claim.key.split("/"):
            if place.last_exclusive is not None:
                yield place.last_exclusive
            below = place.below.get(name)
            if below is None:
                return
            place = below
        if place.last is not None:
            yield place.last
        if claim.exclusive and place.below:
            yield from self._all_below(place)

    def add(self, claim: Claim, owner: N) -> None:
        """Open a claim."""
        place = self._root
        for name in claim.key.split("/"):
            below = place.below.get(name)
            if below is None:
                below = place.below[name] = _Place(name, place)
            place = below
        place.last = owner
        if claim.exclusive:
            place.last_exclusive = owner

    def remove(self, claim: Claim, owner: N) -> None:
        """Close a claim."""
        place: _Place[N] | None = self._root
        for name in claim.key.split("/"):
            place = place.below.get(name) if place is not None else None
        if place is None:
            return
        if place.last is owner:
            place.last = None
        if place.last_exclusive is owner:
            place.last_exclusive = None
        while (
            place.above is not None
            and not place.below
            and place.last is None
            and place.last_exclusive is None
        ):
            del place.above.below[place.name]
            place = place.above

    def _all_below(self, top: _Place[N]) -> Iterator[N]:
        places = list(top.below.values())
        while places:
            place = places.pop()
            if place.last is not None:
                yield place.last
            places.extend(place.below.values())
