"""Copies inside the service, and what they depend on."""

from __future__ import annotations

import dataclasses

import pytest
from aiohttp import web

from filerbackup.errors import ObjectRejected, SinkRefused, SinkUnavailable
from filerbackup.sinks.gcs import GcsStore
from filerbackup.sinks.objects.store import Head
from tests.integration.gcs.conftest import PLAIN, google_error
from tests.support.gcs import GcsPeer
from tests.support.proxy import Proxy


async def put(store: GcsStore, name: str, data: bytes = b"data") -> Head:
    await store.put(name, data, PLAIN)
    head = await store.head(name)
    assert head is not None
    return head


async def test_a_copy_that_takes_several_calls(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str
) -> None:
    head = await put(behind, f"{folder}/a")
    tokens: list[str] = []

    async def slowly(request: web.Request, _body: bytes) -> web.Response | None:
        if "rewriteTo" not in request.path:
            return None
        tokens.append(request.query.get("rewriteToken", ""))
        if len(tokens) > 3:
            return None
        return web.json_response({"done": False, "rewriteToken": f"token/{len(tokens)}+"})

    proxy.fault = slowly
    assert await behind.copy(head, f"{folder}/b", dataclasses.replace(PLAIN, content_type="text/html"))

    assert tokens == ["", "token/1+", "token/2+", "token/3+"]
    described = await peer.describe(f"{folder}/b")
    assert described is not None
    assert described["contentType"] == "text/html"
    assert await peer.get(f"{folder}/a") == b"data"


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("status", [412, 404])
async def test_an_object_that_is_another_one_by_now(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str, status: int, in_place: bool
) -> None:
    head = await put(behind, f"{folder}/a")
    conditions: list[str] = []

    async def changed(request: web.Request, _body: bytes) -> web.Response | None:
        conditions.extend(name for name in request.query if "Match" in name)
        return google_error(status, "conditionNotMet" if status == 412 else "notFound", "No such object: a")

    proxy.fault = changed
    assert not await behind.copy(head, head.name if in_place else f"{folder}/b", PLAIN)
    assert len(conditions) == 2
    assert await peer.names(f"{folder}/") == {f"{folder}/a"}


async def test_a_service_that_keeps_to_no_condition(store: GcsStore, peer: GcsPeer, folder: str) -> None:
    """fake-gcs-server is one: the copy of another version does not stay."""
    head = await put(store, f"{folder}/a")
    await peer.put(f"{folder}/a", b"newer")

    assert not await store.copy(head, f"{folder}/b", PLAIN)
    assert await peer.names(f"{folder}/") == {f"{folder}/a"}
    assert not await store.copy(dataclasses.replace(head, name=f"{folder}/absent"), f"{folder}/b", PLAIN)


async def test_a_copy_that_never_says_how_to_go_on(behind: GcsStore, proxy: Proxy, folder: str) -> None:
    head = await put(behind, f"{folder}/a")

    async def stuck(_request: web.Request, _body: bytes) -> web.Response:
        return web.json_response({"done": False})

    proxy.fault = stuck
    with pytest.raises(SinkUnavailable, match="cannot be gone on with"):
        await behind.copy(head, f"{folder}/b", PLAIN)


async def test_a_missing_bucket_is_not_a_missing_object(behind: GcsStore, proxy: Proxy, folder: str) -> None:
    head = await put(behind, f"{folder}/a")

    async def no_bucket(_request: web.Request, _body: bytes) -> web.Response:
        return google_error(404, "notFound", "The specified bucket does not exist.")

    proxy.fault = no_bucket
    for call in (
        lambda: behind.copy(head, f"{folder}/b", PLAIN),
        lambda: behind.head(f"{folder}/a"),
        lambda: behind.delete(f"{folder}/a"),
        lambda: behind.put(f"{folder}/a", b"x", PLAIN),
    ):
        with pytest.raises(SinkRefused) as caught:
            await call()
        assert "create the bucket" in caught.value.hint


async def test_what_is_held_costs_this_object_only(behind: GcsStore, proxy: Proxy, folder: str) -> None:
    async def held(_request: web.Request, _body: bytes) -> web.Response:
        return google_error(403, "retentionPolicyNotMet", "Object 'a' is subject to the bucket's retention")

    proxy.fault = held
    with pytest.raises(ObjectRejected) as caught:
        await behind.put(f"{folder}/a", b"x", PLAIN)
    assert "retention" in caught.value.hint
