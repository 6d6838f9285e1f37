"""Checkpoints and the running status of a pair, as JSON in the filer's key-value pairs."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import time
from dataclasses import asdict, dataclass, replace

from filerbackup.errors import LeaseLost, StateError
from filerbackup.state.base import Checkpoint, Phase, Status
from filerbackup.state.kv import Answers, KeyValues, decode_record, decode_weed_offset
from filerbackup.state.pair import Pair, weed_checkpoint_keys
from filerbackup.state.records import built

FORMAT_VERSION = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Head:
    """The record under a pair's own key: whose turn it is.

    `slot`: where that holder stores how far it got; empty: nowhere but in the head itself. `start`: the
    checkpoint that it took over, or None when there was none. Before there were terms, a head was a
    checkpoint and nothing else.
    """

    start: Checkpoint | None
    term: int = 0
    slot: str = ""
    taken_by: str = ""
    taken_ns: int = 0

    @property
    def order(self) -> tuple[int, int, int]:
        """The highest counts. Of two with one term, only one can be of a holder that has its lease."""
        start = self.start
        return (self.term, self.taken_ns, start.updated_ns if start else 0)


class FilerCheckpoints:
    """Satisfies `filerbackup.state.base.CheckpointStore`.

    The filer's key-value pairs know no compare-and-swap, and a request may arrive long after its sender
    was declared dead. So no holder ever writes where another one does. Who takes over stores a *head*
    under the pair's key: the next term, the name of a *slot* that is its own, and the checkpoint that it
    found. From then on it writes to its slot only, and a reader follows the head of the highest term.

    Both are `{"version": 1, "term": …, "slot": …, "pair": {…}, "offset_ns": …, …}`, a slot with an empty
    `slot`; `offset_ns` is null where there was no checkpoint, and as stored it is the checkpoint itself.

    Filers with separate stores get copies, and one that was away may miss some: `save` stores the head
    again where it is missing. A slot is stored before the head that names it, so a head whose slot no
    filer shows while one is silent means that the silent one has it: that is an error, not a fresh start.
    """

    def __init__(self, values: KeyValues, pair: Pair, weed_identity: tuple[str, ...] = ()) -> None:
        self._values = values
        self._pair = pair
        self._weed_identity = weed_identity
        self._own: _Head | None = None

    async def load(self) -> Checkpoint | None:
        """What the newest holder stored; of several filers the newest record."""
        head = await self._head()
        return None if head is None else await self._newest(head)

    async def take_over(self, holder: str) -> None:
        """From now on `save` is ours. Raises StateError; call it only with the lease in hand."""
        heads = await self._values.get_all(self._pair.checkpoint_key)
        for reason in heads.silent:
            _log.warning("goes on without what one filer knows of checkpoints", extra={"err": reason})
        head = _newest_of(heads)
        found, term = (None, 0) if head is None else (await self._newest(head), head.term)
        slot = f"{term + 1}-{secrets.token_hex(8)}"
        await self._values.put(self._slot_key(slot), self._encoded(_Head(found, term + 1)))
        await self._store(_Head(found, term + 1, slot, holder, time.time_ns()))
        if head is not None and head.slot:
            await self._values.put(self._slot_key(head.slot), b"")

    async def confirm(self) -> None:
        """Raises LeaseLost when another one has taken over since `take_over`, StateError."""
        if self._own is not None:
            await self._is_known_everywhere(self._own)

    async def save(self, checkpoint: Checkpoint) -> None:
        """Replace it. Raises LeaseLost when another one has taken over, StateError.

        Without `take_over` it is a hand's: it ends the term of whoever had one.
        """
        own = self._own
        if own is None:
            head = await self._head()
            term = head.term if head else 0
            await self._store(_Head(checkpoint, term + 1, "", checkpoint.holder, checkpoint.updated_ns))
            self._own = None
            return
        if not await self._is_known_everywhere(own):
            # A filer never got it, or has lost it: it has to know whose turn it is.
            await self._store(replace(own, start=checkpoint))
        await self._values.put(self._slot_key(own.slot), self._encoded(_Head(checkpoint, own.term)))

    async def delete(self) -> None:
        """Forget it. The term stays, so that a late record of an earlier holder counts for nothing."""
        raws = (await self._values.get_all(self._pair.checkpoint_key)).found
        terms = []
        for raw in raws:
            with contextlib.suppress(StateError):
                terms.append(_decode(raw).term)
        if raws:
            await self._store(_Head(None, max(terms, default=0) + 1, "", "", time.time_ns()))
        self._own = None

    async def _is_known_everywhere(self, own: _Head) -> bool:
        """Whether every filer that answers has our head; False when one has none, or an older one.

        Raises LeaseLost when one has a newer one.
        """
        answers = await self._values.get_all(self._pair.checkpoint_key)
        head = _newest_of(answers)
        if head is None or head.term < own.term:
            return False
        if (head.term, head.slot) != (own.term, own.slot):
            raise LeaseLost(f"{head.taken_by or 'another process'} has taken over this folder and sink")
        known = [_decode(raw).slot == own.slot for raw in answers.found]
        return len(known) == len(answers.heard) and all(known)

    async def _head(self) -> _Head | None:
        """The newest of all filers."""
        return _newest_of(await self._values.get_all(self._pair.checkpoint_key))

    async def _newest(self, head: _Head) -> Checkpoint | None:
        """How far the holder with that head got: by its slot, or, where that is lost, its start.

        Raises StateError when a filer that does not answer may have the slot, and no other one has it.
        """
        if not head.slot:
            return head.start
        answers = await self._values.get_all(self._slot_key(head.slot))
        slot = _newest_of(answers)
        if slot is None and answers.silent:
            raise StateError(
                f"the newest checkpoint may be on a filer that does not answer: {'; '.join(answers.silent)}",
                hint="bring it back; if it is gone for good, configure filerbackup without it",
            )
        return (slot or head).start

    async def _store(self, head: _Head) -> None:
        await self._values.put(self._pair.checkpoint_key, self._encoded(head))
        self._own = head

    def _slot_key(self, slot: str) -> bytes:
        return self._pair.checkpoint_key + b"/" + slot.encode()

    def _encoded(self, head: _Head) -> bytes:
        record = {"version": FORMAT_VERSION, "pair": asdict(self._pair), **asdict(head), "offset_ns": None}
        del record["start"]
        if head.start is not None:
            record |= {**asdict(head.start), "phase": head.start.phase.value}
        return json.dumps(record).encode()

    async def weed_offset_ns(self) -> int | None:
        """Where `weed filer.backup` stopped for the same sink, or None."""
        for key in weed_checkpoint_keys(self._pair.path, self._weed_identity) if self._weed_identity else ():
            offsets = [decode_weed_offset(raw) for raw in (await self._values.get_all(key)).found]
            known = [offset for offset in offsets if offset]
            if known:
                return max(known)
        return None


class FilerStatus:
    """Satisfies `filerbackup.state.base.StatusStore`."""

    def __init__(self, values: KeyValues, pair: Pair) -> None:
        self._values = values
        self._pair = pair

    async def load(self) -> Status | None:
        """The newest, or None."""
        found = []
        for raw in (await self._values.get_all(self._pair.status_key)).found:
            record = decode_record(raw)
            if record and record.get("version") == FORMAT_VERSION:
                try:
                    found.append(built(Status, record))
                except ValueError:
                    raise StateError("the stored status cannot be read") from None
        return max(found, key=lambda status: status.updated_ns, default=None)

    async def save(self, status: Status) -> None:
        """Replace it."""
        record = {"version": FORMAT_VERSION, **asdict(status)}
        await self._values.put(self._pair.status_key, json.dumps(record).encode())


def _newest_of(answers: Answers) -> _Head | None:
    """Of the heads, or of the copies of a slot. Raises StateError."""
    return max((_decode(raw) for raw in answers.found), key=lambda head: head.order, default=None)


def _decode(raw: bytes) -> _Head:
    """A head or a slot. Raises StateError."""
    record = decode_record(raw)
    if record is None:
        raise _unreadable()
    if record.get("version") != FORMAT_VERSION:
        raise StateError(
            f"the stored checkpoint has format {record.get('version')!r}, known is {FORMAT_VERSION}",
            hint="upgrade filerbackup",
        )
    try:
        start = None
        if record.get("offset_ns") is not None or "term" not in record:
            start = built(Checkpoint, record, phase=Phase(record.get("phase")))
        return built(_Head, record, start=start)
    except ValueError:
        raise _unreadable() from None


def _unreadable() -> StateError:
    return StateError("the stored checkpoint cannot be read", hint="filerbackup checkpoint reset")
