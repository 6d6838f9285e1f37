"""The stored checkpoint against stale holders: processes that stand still, requests that arrive late.

A model of a filer's key-value pairs, in which a write may take any time and arrives also when its sender
has given up or is long dead. The holders here change the sink only while it is their turn (that is what the
fence is for), but they store whenever they like, and what the next one finds must be right all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from filerbackup.errors import LeaseLost, StateError
from filerbackup.state.base import Checkpoint
from filerbackup.state.checkpoints import FilerCheckpoints
from filerbackup.state.kv import Answers
from filerbackup.state.pair import Pair
from tests.support.virtual_loop import run_virtually

PAIR = Pair("/p", "local", "", "", "/d")
LEASE_S = 15.0
CALL_S = 15.0
SLOW_S = 100.0


class Network:
    """Key-value pairs at the end of a line that may hold back what is sent; one sender's stay in order."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.pairs: dict[bytes, bytes] = {}
        self.underway: set[asyncio.Task[None]] = set()

    def delay_s(self) -> float:
        return self.rng.choice([0.01, 0.01, 0.1, 1.0, SLOW_S]) * self.rng.random()

    async def arrive_all(self) -> None:
        while self.underway:
            await asyncio.wait(self.underway)


class Line:
    """One process's way to the filer; satisfies what `FilerCheckpoints` needs of `KeyValues`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._in_order = asyncio.Lock()

    async def get_all(self, key: bytes) -> Answers:
        delay_s = self._network.delay_s()
        await asyncio.sleep(min(delay_s, CALL_S))
        if delay_s > CALL_S:
            raise StateError("no answer")
        return Answers((self._network.pairs.get(key, b""),))

    async def put(self, key: bytes, value: bytes) -> None:
        task = asyncio.create_task(self._arrive(key, value, self._network.delay_s()))
        self._network.underway.add(task)
        task.add_done_callback(self._network.underway.discard)
        try:
            async with asyncio.timeout(CALL_S):
                await asyncio.shield(task)
        except TimeoutError:
            raise StateError("no answer") from None

    async def _arrive(self, key: bytes, value: bytes, delay_s: float) -> None:
        async with self._in_order:
            await asyncio.sleep(delay_s)
            self._network.pairs[key] = value


class World:
    """`reached`: how far the sink really is, by the work of who last had the lease."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.network = Network(rng)
        self.reached = 0
        self.turn = 0

    async def live(self, turn: int) -> None:
        """One holder, from its lease to its end; it may be overtaken at any step and never notices."""
        line = Line(self.network)
        store = FilerCheckpoints(line, PAIR)  # type: ignore[arg-type]
        with contextlib.suppress(StateError, LeaseLost):
            await store.take_over(f"holder {turn}")
            found = await store.load()
            offset = found.offset_ns if found else 0
            if self.turn == turn:
                assert offset <= self.reached, f"{turn} begins at {offset}, the sink is at {self.reached}"
            await store.save(Checkpoint(offset, updated_ns=turn * 1000))
            stays = self.rng.random() < 0.3
            for number in range(1, self.rng.randrange(2, 12)):
                await asyncio.sleep(self.rng.choice([0.1, 1.0, 3.0, 10.0]) * self.rng.random())
                if self.turn != turn and not stays:
                    return
                if self.turn == turn:
                    # What it begins with may be older than the sink: then it writes old versions again.
                    offset += self.rng.randrange(5)
                    self.reached = offset
                with contextlib.suppress(StateError):
                    await store.save(Checkpoint(offset, updated_ns=turn * 1000 + number))

    async def run(self, holders: int) -> None:
        async with asyncio.TaskGroup() as group:
            for turn in range(1, holders + 1):
                self.turn = turn
                group.create_task(self.live(turn))
                await asyncio.sleep(LEASE_S + self.rng.choice([0.0, 1.0, 100.0]) * self.rng.random())
        await self.network.arrive_all()


def simulate(main: Coroutine[Any, Any, None], rng: random.Random) -> None:
    run_virtually(main, rng, pace_s=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5))
def test_no_stale_holder_moves_the_checkpoint(seed: int, holders: int) -> None:
    rng = random.Random(seed)
    simulate(World(rng).run(holders), rng)
