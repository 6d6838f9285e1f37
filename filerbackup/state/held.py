"""Held deletes: entries of the filer's tree, many deletes in each, with one record beside them.

    <pair>/delete-guard.json                the record
    <pair>/delete-wish.json                 what a person asked for; gone when it was carried out
    <pair>/held-deletes/<12 digits>.json    a batch

The process that has the lease writes the first and the last, a person's command the second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from filerbackup.errors import FilerBackupError, StateError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.state.base import Decision, DeleteWish, GuardRecord, HeldDelete
from filerbackup.state.kv import decode_record
from filerbackup.state.letters import remove_entry, write_entry
from filerbackup.state.pair import Pair
from filerbackup.state.records import built, checked

FORMAT_VERSION = 1
_RECORD = "delete-guard.json"
_WISH = "delete-wish.json"
_PAGE = 8
"""Batches at a time: a thousand long names each are a few megabytes."""
_MOST_DIGITS = 18


class FilerHeldDeletes:
    """Satisfies `filerbackup.state.base.HeldStore`."""

    def __init__(self, client: FilerClient, pair: Pair) -> None:
        self._client = client
        self._pair_directory = pair.entry_directory
        self._directory = f"{pair.entry_directory}/held-deletes"

    async def load(self) -> GuardRecord:
        """What was saved last."""
        found = await self._read(self._pair_directory, _RECORD)
        if found is None:
            return GuardRecord()
        try:
            known: dict[str, Any] = {"allowed": tuple(checked(number, int) for number in found["allowed"])}
            for name in ("counts", "compared"):
                known[name] = tuple(
                    (checked(start, int), checked(count, int)) for start, count in found[name]
                )
            return built(GuardRecord, found, **known)
        except (KeyError, TypeError, ValueError):
            raise self._unreadable(self._pair_directory, _RECORD) from None

    async def save(self, record: GuardRecord) -> None:
        """Replace it."""
        await write_entry(
            self._client, self._pair_directory, _RECORD, {"version": FORMAT_VERSION, **asdict(record)}
        )

    async def batches(self) -> AsyncIterator[tuple[int, Sequence[HeldDelete]]]:
        """All, a few at a time."""
        last = ""
        while True:
            try:
                page = await self._client.list_page(self._directory, last, _PAGE)
            except FilerBackupError as error:
                raise StateError(f"cannot list {self._directory}: {error}") from None
            for entry in page:
                yield self._number(entry), self._deletes(entry)
            if len(page) < _PAGE:
                return
            last = page[-1].name

    async def read(self, number: int) -> Sequence[HeldDelete]:
        """One batch."""
        entry = await self._lookup(self._directory, _name(number))
        return () if entry is None else self._deletes(entry)

    async def put(self, number: int, deletes: Sequence[HeldDelete]) -> None:
        """Keep a batch."""
        record = {"version": FORMAT_VERSION, "deletes": [list(delete) for delete in deletes]}
        await write_entry(self._client, self._directory, _name(number), record)

    async def remove(self, number: int) -> None:
        """Drop a batch."""
        await remove_entry(self._client, self._directory, _name(number))

    async def wish(self) -> DeleteWish | None:
        """What a person asked for."""
        found = await self._read(self._pair_directory, _WISH)
        if found is None:
            return None
        try:
            return built(DeleteWish, found, decision=Decision(found["decision"]))
        except (KeyError, TypeError, ValueError):
            raise self._unreadable(self._pair_directory, _WISH) from None

    async def ask(self, wish: DeleteWish) -> None:
        """Leave a wish."""
        record = {"version": FORMAT_VERSION, **asdict(wish), "decision": wish.decision.value}
        await write_entry(self._client, self._pair_directory, _WISH, record)

    async def forget_wish(self) -> None:
        """It was carried out."""
        await remove_entry(self._client, self._pair_directory, _WISH)

    async def _read(self, directory: str, name: str) -> dict[str, Any] | None:
        entry = await self._lookup(directory, name)
        return None if entry is None else self._decoded(entry, directory)

    async def _lookup(self, directory: str, name: str) -> pb.Entry | None:
        try:
            return await self._client.lookup(directory, name)
        except FilerBackupError as error:
            raise StateError(f"cannot read {directory}/{name}: {error}") from None

    def _decoded(self, entry: pb.Entry, directory: str) -> dict[str, Any]:
        record = decode_record(entry.content)
        if record is None:
            raise self._unreadable(directory, entry.name)
        if record.get("version") != FORMAT_VERSION:
            raise StateError(
                f"{directory}/{entry.name} has format {record.get('version')!r}, known is {FORMAT_VERSION}",
                hint="upgrade filerbackup",
            )
        return record

    def _deletes(self, entry: pb.Entry) -> Sequence[HeldDelete]:
        try:
            pairs = self._decoded(entry, self._directory)["deletes"]
            return [HeldDelete(checked(key, str), checked(path, str)) for key, path in pairs]
        except (KeyError, TypeError, ValueError):
            raise self._unreadable(self._directory, entry.name) from None

    def _number(self, entry: pb.Entry) -> int:
        digits = entry.name.removesuffix(".json")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
            raise self._unreadable(self._directory, entry.name)
        return int(digits)

    @staticmethod
    def _unreadable(directory: str, name: str) -> StateError:
        return StateError(f"{directory}/{name} cannot be read", hint="look at it; remove it to forget it")


def _name(number: int) -> str:
    return f"{number:012d}.json"
