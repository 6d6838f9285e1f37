"""Hard links: files of several names on the filer, of which an event names but one.

A mount writes a link's content to one name; the filer keeps it under the link's id, where the other
names find it too, and logs an event of that one name alone (seen on weed 4.48). So the names that
share an id are remembered, as far as the walk and the events have shown them. What is not known here
is found by the next comparison.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from filerbackup.events import Delete, Entry, Event, Rename, Upsert

MOST_NAMES = 200_000
"""Some 40 MB at most; above, the link that was not seen for the longest time is forgotten."""


@dataclass(slots=True)
class _Link:
    state: int | None
    names: dict[str, None] = field(default_factory=dict)


class HardLinks:
    """Names by link. `look_up` asks the live filer for an entry."""

    def __init__(
        self, look_up: Callable[[str], Awaitable[Entry | None]], *, most_names: int = MOST_NAMES
    ) -> None:
        self._look_up = look_up
        self._most_names = most_names
        self._links: OrderedDict[bytes, _Link] = OrderedDict()
        self._ids: dict[str, bytes] = {}

    def begin(self) -> None:
        """A stream begins: what it repeats may never have arrived for the other names."""
        for link in self._links.values():
            link.state = None

    def note(self, entry: Entry) -> None:
        """An entry that the walk has shown."""
        if entry.hard_link_id:
            self._add(entry)

    async def spread(self, batch: Sequence[Event]) -> Sequence[Event]:
        """The batch, with an upsert of each other name after that of one name."""
        if not any(self._concerns(event) for event in batch):
            return batch
        events: list[Event] = []
        for event in batch:
            events.append(event)
            match event:
                case Upsert(entry=entry) if entry.hard_link_id:
                    events += await self._others(event)
                case Upsert(entry=entry) | Delete(entry=entry):
                    self._drop(entry.path)
                case Rename(old=old, new=new):
                    self._drop(old.path)
                    self.note(new)
                case _:
                    continue
        return events

    def _concerns(self, event: Event) -> bool:
        match event:
            case Upsert(entry=entry) | Delete(entry=entry) | Rename(old=entry):
                return bool(entry.hard_link_id or entry.path in self._ids)
            case _:
                return False

    async def _others(self, event: Upsert) -> list[Event]:
        link = self._add(event.entry)
        state = _state_of(event.entry)
        if state == link.state:
            return []
        events: list[Event] = []
        for name in [name for name in link.names if name != event.entry.path]:
            live = await self._look_up(name)
            if live is None or live.hard_link_id != event.entry.hard_link_id:
                self._drop(name)
            else:
                events.append(Upsert(event.ts_ns, live, event.same_content))
        link.state = state
        return events

    def _add(self, entry: Entry) -> _Link:
        if self._ids.get(entry.path) not in (None, entry.hard_link_id):
            self._drop(entry.path)
        link = self._links.get(entry.hard_link_id)
        if link is None:
            link = self._links[entry.hard_link_id] = _Link(_state_of(entry))
        link.names[entry.path] = None
        self._ids[entry.path] = entry.hard_link_id
        self._links.move_to_end(entry.hard_link_id)
        while len(self._ids) > self._most_names:
            for name in self._links.popitem(last=False)[1].names:
                del self._ids[name]
        return link

    def _drop(self, name: str) -> None:
        link_id = self._ids.pop(name, None)
        if link_id is None:
            return
        names = self._links[link_id].names
        del names[name]
        if not names:
            del self._links[link_id]


def _state_of(entry: Entry) -> int:
    """Tells one content, with its attributes, from another."""
    extended = frozenset(entry.extended.items())
    attributes = (entry.mode, entry.mtime_ns, entry.uid, entry.gid, entry.mime, entry.size)
    return hash((attributes, entry.content, entry.chunks, extended))
