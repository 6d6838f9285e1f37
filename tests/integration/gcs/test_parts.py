"""Large objects: parts that go up side by side, put together by the service, checked, cleaned up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from filerbackup.errors import SinkRefused, SinkUnavailable
from filerbackup.sinks.gcs import GcsStore
from filerbackup.sinks.objects.store import Part
from tests.contract.contents import some_bytes
from tests.integration.gcs.conftest import PLAIN, google_error, opened, settings
from tests.support.gcs import GcsPeer, GcsServer
from tests.support.proxy import Proxy

KIB = 1024


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), KIB):
        yield data[start : start + KIB]


async def send(store: GcsStore, name: str, upload_id: str, number: int, data: bytes) -> Part:
    digest = hashlib.md5(data).digest()
    return await store.put_part(name, upload_id, number, len(data), blocks(data), lambda: digest)


@pytest.mark.parametrize("count", [1, 2, 32, 33, 100])
async def test_any_number_of_parts(store: GcsStore, peer: GcsPeer, folder: str, count: int) -> None:
    name, pieces = f"{folder}/large", [some_bytes(3 * KIB + number, number) for number in range(count)]
    upload_id = await store.begin_upload(name, PLAIN)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(send(store, name, upload_id, number, data))
            for number, data in enumerate(pieces, 1)
        ]
    assert await peer.get(name) is None
    assert await store.open_uploads(name) == [upload_id]

    await store.complete_upload(name, upload_id, [task.result() for task in tasks], PLAIN)

    assert await peer.get(name) == b"".join(pieces)
    assert await peer.names(f"{folder}/") == {name}
    assert (await peer.metadata(name))["mtime"] == PLAIN.user["mtime"]


async def test_more_than_one_page_of_leftovers_is_removed(
    store: GcsStore, peer: GcsPeer, folder: str
) -> None:
    name = f"{folder}/large"
    upload_id = await store.begin_upload(name, PLAIN)
    other = await store.begin_upload(f"{name}r", PLAIN)
    limit = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with limit:
            await send(store, name, upload_id, number, b"x")

    async with asyncio.TaskGroup() as group:
        for number in range(1, 1102):
            group.create_task(one(number))
    await send(store, f"{name}r", other, 1, b"y")
    assert await store.open_uploads(name) == [upload_id]
    await store.abort_upload(name, upload_id)
    await store.abort_upload(name, upload_id)

    assert await store.open_uploads(name) == []
    assert await store.open_uploads(f"{name}r") == [other]
    assert len(await peer.names(f"{folder}/")) == 1


async def test_what_a_killed_process_has_left_is_removed_at_the_next_start(
    store: GcsStore, gcs: GcsServer, peer: GcsPeer, folder: str
) -> None:
    await peer.put(f"{folder}/.filerbackup/parts.txt", b"no part")
    for number in range(3):
        upload_id = await store.begin_upload(f"{folder}/{number}", PLAIN)
        await send(store, f"{folder}/{number}", upload_id, 1, b"x")
    async with opened(settings(gcs.endpoint, folder)) as again:
        await again.sweep()
        assert await peer.names(f"{folder}/") == {f"{folder}/.filerbackup/parts.txt"}


async def test_who_may_not_delete_can_open(
    behind: GcsStore, proxy: Proxy, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    await send(behind, f"{folder}/a", await behind.begin_upload(f"{folder}/a", PLAIN), 1, b"x")

    async def no_deletes(request: web.Request, _body: bytes) -> web.Response | None:
        return google_error(403, "forbidden") if request.path.startswith("/batch") else None

    proxy.fault = no_deletes
    await behind.open()
    with pytest.raises(SinkRefused):
        await behind.sweep()


async def test_a_part_that_arrives_after_its_sending_was_given_up(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str
) -> None:
    name = f"{folder}/large"
    upload_id = await behind.begin_upload(name, PLAIN)
    reached = asyncio.Event()
    cleaned = asyncio.Event()

    async def slow(request: web.Request, _body: bytes) -> web.Response | None:
        if request.path.startswith("/upload"):
            reached.set()
            await asyncio.sleep(30)
        elif request.query.get("prefix", "").endswith(f"{upload_id}/"):
            cleaned.set()
        return None

    proxy.fault = slow
    sending = asyncio.create_task(send(behind, name, upload_id, 1, b"data"))
    await reached.wait()
    sending.cancel()
    await asyncio.wait({sending})
    aborting = asyncio.create_task(behind.abort_upload(name, upload_id))
    await cleaned.wait()
    await asyncio.sleep(0.1)
    await peer.put(f"{folder}/.filerbackup/parts/{upload_id}/00001", b"data")
    await aborting
    assert await peer.names(f"{folder}/") == set()


async def test_a_part_that_is_changed_on_the_way_is_found(
    behind: GcsStore, proxy: Proxy, folder: str
) -> None:
    upload_id = await behind.begin_upload(f"{folder}/large", PLAIN)

    async def other_hash(request: web.Request, _body: bytes) -> web.Response | None:
        resource = {"name": f"{folder}/.filerbackup/parts/{upload_id}/00001", "size": "4", "generation": "1"}
        return web.json_response({**resource, "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA==", "crc32c": "AAAAAA=="})

    proxy.fault = other_hash
    with pytest.raises(SinkUnavailable, match="did not arrive"):
        await send(behind, f"{folder}/large", upload_id, 1, b"data")


@pytest.mark.parametrize("change", [{"crc32c": "AAAAAA=="}, {"size": "7"}])
async def test_parts_that_are_put_together_wrongly_are_found(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str, change: dict[str, str]
) -> None:
    name = f"{folder}/large"
    upload_id = await behind.begin_upload(name, PLAIN)
    parts = [await send(behind, name, upload_id, number, b"data") for number in (1, 2)]

    async def wrong(request: web.Request, _body: bytes) -> web.Response | None:
        if not request.path.endswith("/compose"):
            return None
        await peer.put(name, b"wrong")
        right = {"name": name, "size": "8", "generation": "1", "crc32c": "AAAAAQ=="}
        return web.json_response({**right, **change})

    proxy.fault = wrong
    with pytest.raises(SinkUnavailable, match="put together wrongly"):
        await behind.complete_upload(name, upload_id, parts, PLAIN)
    assert await peer.get(name) is None


async def test_only_the_parts_that_were_checked_are_put_together(
    behind: GcsStore, proxy: Proxy, folder: str
) -> None:
    name = f"{folder}/large"
    upload_id = await behind.begin_upload(name, PLAIN)
    parts = [await send(behind, name, upload_id, number, b"data") for number in (1, 2)]
    asked: list[dict[str, object]] = []

    async def watching(request: web.Request, body: bytes) -> None:
        if request.path.endswith("/compose"):
            asked.extend(json.loads(body)["sourceObjects"])

    proxy.fault = watching
    await behind.complete_upload(name, upload_id, parts, PLAIN)
    assert [(source["generation"], source["objectPreconditions"]) for source in asked] == [
        (part.tag.split(".")[0], {"ifGenerationMatch": part.tag.split(".")[0]}) for part in parts
    ]


async def test_parts_that_cannot_be_removed_do_not_cost_the_object(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{folder}/large"
    upload_id = await behind.begin_upload(name, PLAIN)
    parts = [await send(behind, name, upload_id, 1, b"data")]

    async def no_deletes(request: web.Request, _body: bytes) -> web.Response | None:
        return google_error(403, "forbidden") if request.path.startswith("/batch") else None

    proxy.fault = no_deletes
    await behind.complete_upload(name, upload_id, parts, PLAIN)
    assert await peer.get(name) == b"data"
    assert "stay behind" in caplog.text

    with pytest.raises(SinkRefused):
        await behind.abort_upload(name, upload_id)
