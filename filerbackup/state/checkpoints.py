"""Checkpoints and the running status of a pair, as JSON in the filer's key-value pairs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from filerbackup.errors import StateError
from filerbackup.state.base import Checkpoint, Phase, Status
from filerbackup.state.kv import KeyValues, decode_record, decode_weed_offset
from filerbackup.state.pair import Pair, weed_checkpoint_keys

FORMAT_VERSION = 1


class FilerCheckpoints:
    """Satisfies `filerbackup.state.base.CheckpointStore`.

    The value is `{"version": 1, "offset_ns": …, "phase": …, "pair": {…}, …}`; `offset_ns` as stored
    is the checkpoint itself, a resume subscribes from one nanosecond before it.
    """

    def __init__(self, values: KeyValues, pair: Pair, weed_identity: tuple[str, ...] = ()) -> None:
        self._values = values
        self._pair = pair
        self._weed_identity = weed_identity

    async def load(self) -> Checkpoint | None:
        """The newest of all filers."""
        found = [_decode(raw) for raw in await self._values.get_all(self._pair.checkpoint_key)]
        return max(found, key=lambda checkpoint: (checkpoint.updated_ns, checkpoint.offset_ns), default=None)

    async def save(self, checkpoint: Checkpoint) -> None:
        """Replace it."""
        record = {
            "version": FORMAT_VERSION,
            "pair": asdict(self._pair),
            **asdict(checkpoint),
            "phase": checkpoint.phase.value,
        }
        await self._values.put(self._pair.checkpoint_key, json.dumps(record).encode())

    async def delete(self) -> None:
        """Forget it."""
        await self._values.put(self._pair.checkpoint_key, b"")

    async def weed_offset_ns(self) -> int | None:
        """Where `weed filer.backup` stopped for the same sink, or None."""
        for key in weed_checkpoint_keys(self._pair.path, self._weed_identity) if self._weed_identity else ():
            offsets = [decode_weed_offset(raw) for raw in await self._values.get_all(key)]
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
        for raw in await self._values.get_all(self._pair.status_key):
            record = decode_record(raw)
            if record and record.get("version") == FORMAT_VERSION:
                known = {name: record[name] for name in Status.__dataclass_fields__ if name in record}
                found.append(Status(**known))
        return max(found, key=lambda status: status.updated_ns, default=None)

    async def save(self, status: Status) -> None:
        """Replace it."""
        record = {"version": FORMAT_VERSION, **asdict(status)}
        await self._values.put(self._pair.status_key, json.dumps(record).encode())


def _decode(raw: bytes) -> Checkpoint:
    record = decode_record(raw)
    if record is None or not isinstance(record.get("offset_ns"), int):
        raise StateError("the stored checkpoint cannot be read", hint="filerbackup checkpoint reset")
    if record.get("version") != FORMAT_VERSION:
        raise StateError(
            f"the stored checkpoint has format {record.get('version')!r}, known is {FORMAT_VERSION}",
            hint="upgrade filerbackup",
        )
    known = {name: record[name] for name in Checkpoint.__dataclass_fields__ if name in record}
    try:
        return replace(Checkpoint(**known), phase=Phase(record.get("phase")))
    except (TypeError, ValueError):
        raise StateError(
            "the stored checkpoint cannot be read", hint="filerbackup checkpoint reset"
        ) from None
