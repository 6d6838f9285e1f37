"""The note of uploads in parts: a name is in it for as long as parts of it may stay behind."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from filerbackup.errors import LeaseLost
from filerbackup.sinks.objects.journal import Journal
from filerbackup.sinks.objects.store import Store


class Notes:
    """As much of a store as a journal needs; a put can be made to wait."""

    traits = SimpleNamespace(keeps_unfinished=True)

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def put(self, _name: str, data: bytes, _metadata: Any) -> None:
        await self.gate.wait()
        self.names = set(json.loads(data)["names"])

    async def delete(self, _name: str) -> None:
        await self.gate.wait()
        self.names = set()


async def test_an_upload_that_begins_while_the_note_is_written_is_in_it() -> None:
    """Its name is in the note of before: that is the very one that is being replaced."""
    notes = Notes()
    journal = Journal(cast(Store, notes), "note")
    async with journal.noting("a"):
        assert notes.names == {"a"}
    notes.gate.clear()

    async def upload(name: str, ended: asyncio.Event) -> None:
        async with journal.noting(name):
            assert name in notes.names
            await ended.wait()

    ended = asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(upload("b", ended))
        await asyncio.sleep(0)
        group.create_task(upload("a", ended))
        await asyncio.sleep(0)
        notes.gate.set()
        while len(notes.names) < 2:
            await asyncio.sleep(0)
        ended.set()


async def test_what_is_not_settled_stays_noted() -> None:
    notes = Notes()
    journal = Journal(cast(Store, notes), "note")
    async with journal.noting("a") as noted:
        noted.settled = False
    async with journal.noting("b"):
        assert notes.names == {"a", "b"}
    await journal.clear()
    assert notes.names == {"a"}


async def test_the_note_is_the_next_ones_once_the_lease_is_lost() -> None:
    notes = Notes()
    lost = False

    def may_change() -> None:
        if lost:
            raise LeaseLost("another works here")

    journal = Journal(cast(Store, notes), "note", may_change=may_change)
    async with journal.noting("a"):
        pass
    lost = True
    notes.names = {"of another"}
    with pytest.raises(LeaseLost):
        await journal.close()
    assert notes.names == {"of another"}
