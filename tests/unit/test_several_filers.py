"""State on several filers that do not share their stores: one is away, one hangs, one comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from unittest.mock import patch

import grpc
import grpc.aio
import pytest

from filerbackup.errors import StateError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.state import kv
from filerbackup.state.base import Checkpoint
from filerbackup.state.checkpoints import FilerCheckpoints
from filerbackup.state.kv import KeyValues
from filerbackup.state.pair import Pair

PAIR = Pair("/p", "local", "", "", "/d")
SHORT_S = 0.3
SOON_S = 5.0


class Filer:
    """A store of its own. One that `hangs` takes calls and never answers; one `down` says so at once."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.hangs = self.down = False
        self.port = 0

    def handlers(self) -> grpc.GenericRpcHandler:
        kinds = {
            "KvGet": (self._get, pb.KvGetRequest, pb.KvGetResponse),
            "KvPut": (self._put, pb.KvPutRequest, pb.KvPutResponse),
        }
        return grpc.method_handlers_generic_handler(
            "filer_pb.SeaweedFiler",
            {
                name: grpc.unary_unary_rpc_method_handler(call, question.FromString, answer.SerializeToString)
                for name, (call, question, answer) in kinds.items()
            },
        )

    async def _answers(self, context: Any) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")

    async def _get(self, request: pb.KvGetRequest, context: Any) -> pb.KvGetResponse:
        await self._answers(context)
        return pb.KvGetResponse(value=self.pairs.get(request.key, b""))

    async def _put(self, request: pb.KvPutRequest, context: Any) -> pb.KvPutResponse:
        await self._answers(context)
        self.pairs[request.key] = request.value
        return pb.KvPutResponse()


@contextlib.asynccontextmanager
async def running(filers: Sequence[Filer]) -> AsyncIterator[FilerClient]:
    async with contextlib.AsyncExitStack() as stack:
        for filer in filers:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((filer.handlers(),))
            filer.port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
        client = FilerClient([f"127.0.0.1:1.{filer.port}" for filer in filers])
        stack.push_async_callback(client.close)
        yield client


async def test_another_filer_that_hangs_costs_little() -> None:
    """Its connection is fine, so that only the deadline ends a call: the lease would not last so long."""
    healthy, hung = Filer(), Filer()
    hung.hangs = True
    with patch.object(kv, "OTHERS_TIMEOUT_S", SHORT_S, create=True):
        async with running([healthy, hung]) as client:
            values = KeyValues(client)
            began = time.monotonic()
            await values.put(b"k", b"v")
            answers = await values.get_all(b"k")
            assert time.monotonic() - began < SOON_S
    assert answers.heard == (b"v",)
    assert len(answers.silent) == 1


async def test_a_store_that_hangs_is_no_longer_the_one_in_use() -> None:
    """Nobody else would find out: the lock is in the filer's memory and answers."""
    hung, healthy = Filer(), Filer()
    healthy.pairs[b"k"] = b"v"
    hung.hangs = True
    with patch.object(kv, "CALL_TIMEOUT_S", SHORT_S), patch.object(kv, "OTHERS_TIMEOUT_S", SHORT_S):
        async with running([hung, healthy]) as client:
            for _ in range(2):
                assert (await KeyValues(client).get_all(b"k")).found == [b"v"]
                assert client.current == client.addresses[1]
            healthy.down = True
            with pytest.raises(StateError, match="down"):
                await KeyValues(client).get_all(b"k")


async def test_a_filer_that_missed_a_takeover_gets_to_know_of_it() -> None:
    """Weeks later the filer in use is lost, and the other one is all that there is."""
    first, second = Filer(), Filer()
    async with running([first, second]) as client:
        early = FilerCheckpoints(KeyValues(client), PAIR)
        await early.take_over("early")
        await early.save(Checkpoint(10, updated_ns=1))
        second.down = True
        store = FilerCheckpoints(KeyValues(client), PAIR)
        await store.take_over("late")
        await store.save(Checkpoint(20, updated_ns=2))
        second.down = False
        await store.save(Checkpoint(30, updated_ns=3))
        # Known everywhere by now: nothing is stored again.
        head = second.pairs[PAIR.checkpoint_key]
        await store.save(Checkpoint(40, updated_ns=4))
        assert second.pairs[PAIR.checkpoint_key] == head == first.pairs[PAIR.checkpoint_key]
    async with running([second]) as client:
        loaded = await FilerCheckpoints(KeyValues(client), PAIR).load()
        assert loaded is not None and loaded.offset_ns == 40


async def test_a_filer_that_was_emptied_gets_the_head_again() -> None:
    first, second = Filer(), Filer()
    async with running([first, second]) as client:
        store = FilerCheckpoints(KeyValues(client), PAIR)
        await store.take_over("holder")
        second.pairs.clear()
        await store.save(Checkpoint(30, updated_ns=3))
    async with running([second]) as client:
        loaded = await FilerCheckpoints(KeyValues(client), PAIR).load()
        assert loaded is not None and loaded.offset_ns == 30


async def test_what_may_be_on_a_filer_that_is_away_is_not_taken_for_lost() -> None:
    first, second = Filer(), Filer()
    async with running([first, second]) as client:
        store = FilerCheckpoints(KeyValues(client), PAIR)
        await store.take_over("holder")
        await store.save(Checkpoint(30, updated_ns=3))
        second.pairs = {PAIR.checkpoint_key: second.pairs[PAIR.checkpoint_key]}
        first.down = True
        for call in (store.load(), FilerCheckpoints(KeyValues(client), PAIR).take_over("next")):
            with pytest.raises(StateError, match="does not answer") as raised:
                await call
            assert raised.value.hint
        first.down = False
        await FilerCheckpoints(KeyValues(client), PAIR).take_over("next")
        loaded = await store.load()
        assert loaded is not None and loaded.offset_ns == 30


@pytest.mark.parametrize("saved", [True, False])
async def test_a_filer_that_is_down_for_good_stops_no_takeover(
    saved: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the one before was killed before it had stored anything."""
    first, second = Filer(), Filer()
    async with running([first, second]) as client:
        second.down = True
        store = FilerCheckpoints(KeyValues(client), PAIR)
        await store.take_over("first")
        if saved:
            await store.save(Checkpoint(30, updated_ns=3))
        for _ in range(3):
            await FilerCheckpoints(KeyValues(client), PAIR).take_over("next")
        loaded = await FilerCheckpoints(KeyValues(client), PAIR).load()
        assert (loaded is not None and loaded.offset_ns == 30) == saved
    assert "without what one filer knows" in caplog.text
    # One head and one slot: those of earlier holders are gone.
    assert len([value for value in first.pairs.values() if value]) == 2
