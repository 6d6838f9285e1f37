"""Dead letters: one small entry each in the filer's tree, so that a list needs no index."""

from __future__ import annotations

import asyncio
import json
import stat
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from filerbackup.errors import FilerBackupError, StateError, UsageError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.state.base import STATE_DIRECTORY, DeadLetter
from filerbackup.state.pair import Pair
from filerbackup.state.records import built, checked, parse_object

_PAGE = 1000
_A_TURN = 200
"""Letters before the loop may do something else: a few milliseconds."""
_PAIR_FILE = "pair.json"
_CLUSTER_FILE = "cluster.json"
_ALREADY_EXISTS = 5


class FilerDeadLetters:
    """Satisfies `filerbackup.state.base.DeadLetterStore`."""

    def __init__(self, client: FilerClient, pair: Pair) -> None:
        self._client = client
        self._directory = f"{pair.entry_directory}/dead-letters"

    async def put(self, letter: DeadLetter) -> None:
        """Keep it."""
        await write_entry(self._client, self._directory, f"{letter.letter_id}.json", asdict(letter))

    async def remove(self, letter_id: str) -> bool:
        """Drop it."""
        return await remove_entry(self._client, self._directory, f"{letter_id}.json")

    async def all(self) -> Sequence[DeadLetter]:
        """All, oldest first."""
        letters: list[DeadLetter] = []
        async with aclosing(_entries(self._client, self._directory)) as entries:
            async for entry in entries:
                if len(letters) % _A_TURN == _A_TURN - 1:
                    await asyncio.sleep(0)
                try:
                    letters.append(built(DeadLetter, parse_object(entry.content)))
                except ValueError:
                    raise StateError(
                        f"{self._directory}/{entry.name} cannot be read",
                        hint="look at it; remove it to forget it",
                    ) from None
        letters.sort(key=attrgetter("ts_ns"))
        return letters


class PairDirectory:
    """Which pairs a filer knows of, whoever works on them."""

    def __init__(self, client: FilerClient) -> None:
        self._client = client

    async def register(self, pair: Pair) -> None:
        """Make the pair known."""
        await write_entry(self._client, pair.entry_directory, _PAIR_FILE, asdict(pair))

    async def cluster_id(self, *, create: bool) -> str:
        """The name of this namespace, given at the first look: a filer that was built anew has another.

        Empty when there is none and `create` is not allowed.

        The filer has a signature of its own, but filers with separate stores have different ones.
        """
        for _ in range(2):
            entry = await self._client.lookup(STATE_DIRECTORY, _CLUSTER_FILE)
            if entry is not None:
                try:
                    return checked(parse_object(entry.content).get("cluster"), str)
                except ValueError:
                    raise StateError(f"{STATE_DIRECTORY}/{_CLUSTER_FILE} cannot be read") from None
            if not create:
                return ""
            record = {"version": 1, "cluster": str(uuid.uuid4())}
            await write_entry(self._client, STATE_DIRECTORY, _CLUSTER_FILE, record, exclusive=True)
        raise StateError(f"{STATE_DIRECTORY}/{_CLUSTER_FILE} cannot be written")

    async def all(self) -> list[Pair]:
        """All known pairs."""
        pairs = []
        try:
            directories = await self._client.list_page(STATE_DIRECTORY, "", _PAGE)
            for directory in directories:
                entry = await self._client.lookup(f"{STATE_DIRECTORY}/{directory.name}", _PAIR_FILE)
                if entry is not None:
                    pairs.append(built(Pair, parse_object(entry.content)))
        except FilerBackupError as error:
            raise StateError(f"cannot list what is backed up: {error}") from None
        except ValueError:
            raise StateError(f"an entry below {STATE_DIRECTORY} cannot be read") from None
        return pairs


async def require_cluster(client: FilerClient, cluster: str) -> None:
    """Raises UsageError when the filer holds another namespace than it did, StateError, SourceUnreachable.

    Its empty tree, or its other one, must not be taken for what became of ours.
    """
    found = await PairDirectory(client).cluster_id(create=False)
    if found == cluster:
        return
    if not found:
        raise StateError(
            f"{STATE_DIRECTORY}/{_CLUSTER_FILE} is gone from the filer: was it replaced?",
            hint="when this is the source that you mean, restart filerbackup",
        )
    raise UsageError(
        f"the filer was replaced by one of another cluster: it was {cluster}, and is {found}",
        hint="when this is the source that you mean, restart filerbackup",
    )


async def write_entry(
    client: FilerClient, directory: str, name: str, record: dict[str, Any], *, exclusive: bool = False
) -> None:
    """Store a JSON object as a file with its content inside the entry. Raises StateError.

    `exclusive`: leave one that is there already alone.
    """
    content = json.dumps(record).encode()
    now = int(time.time())
    entry = pb.Entry(
        name=name,
        content=content,
        attributes=pb.FuseAttributes(
            file_size=len(content), mtime=now, crtime=now, file_mode=stat.S_IRUSR | stat.S_IWUSR
        ),
    )
    try:
        answer = await client.call(
            lambda stub: stub.CreateEntry,
            pb.CreateEntryRequest(directory=directory, entry=entry, o_excl=exclusive),
        )
    except FilerBackupError as error:
        raise StateError(f"cannot write {directory}/{name}: {error}", hint=error.hint) from None
    if answer.error and not (exclusive and answer.error_code == _ALREADY_EXISTS):
        raise StateError(f"cannot write {directory}/{name}: {answer.error[:300]}")


async def remove_entry(client: FilerClient, directory: str, name: str) -> bool:
    """Drop what `write_entry` stored; False when there was none. Raises StateError."""
    try:
        if await client.lookup(directory, name) is None:
            return False
        request = pb.DeleteEntryRequest(directory=directory, name=name, is_delete_data=True)
        answer = await client.call(lambda stub: stub.DeleteEntry, request)
    except FilerBackupError as error:
        raise StateError(f"cannot remove {directory}/{name}: {error}") from None
    if answer.error and "no entry is found" not in answer.error:
        raise StateError(f"cannot remove {directory}/{name}: {answer.error[:300]}")
    return True


async def _entries(client: FilerClient, directory: str) -> AsyncGenerator[pb.Entry, None]:
    """All that `write_entry` stored in a directory, by name. Raises StateError."""
    last = ""
    while True:
        try:
            page = await client.list_page(directory, last, _PAGE)
        except FilerBackupError as error:
            raise StateError(f"cannot list {directory}: {error}") from None
        for entry in page:
            yield entry
        if len(page) < _PAGE:
            return
        last = page[-1].name
