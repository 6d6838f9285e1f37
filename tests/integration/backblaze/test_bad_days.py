"""Tokens that run out, pods that are busy, caps, answers that lie: each told apart, nothing half-written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from b2sdk import v3

from filerbackup.errors import (
    ObjectRejected,
    SinkError,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.settings.secret import Secret
from filerbackup.sinks.backblaze import B2Store
from filerbackup.sinks.metadata import ObjectMetadata
from filerbackup.sinks.objects.sink import ObjectSink
from tests.contract.contents import StreamedContent, file_entry
from tests.integration.backblaze.conftest import MIB, counted, settings, store_of, told, versions
from tests.support.b2 import Running, b2_error
from tests.support.proxy import Proxy, speaks_html
from tests.support.sinks import keys, write

PLAIN = ObjectMetadata()


def once(call: str, answer: web.Response, times: int = 1) -> Callable[[str, web.Request], Any]:
    """A fault: the first `times` calls of this name are answered so."""
    left = [times]

    def fault(name: str, _request: web.Request) -> web.Response | None:
        if name != call or not left[0]:
            return None
        left[0] -= 1
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    return fault


# -- tokens ---------------------------------------------------------------------------------------


async def test_tokens_that_have_expired(b2: Running, sink: ObjectSink) -> None:
    await write(sink, "old")
    large = StreamedContent(12 * MIB)
    for call in (
        lambda: write(sink, "new"),
        lambda: sink.write("large", file_entry("large", large.size), large),
        lambda: sink.stat("old"),
        lambda: keys(sink),
        lambda: sink.delete("old"),
    ):
        b2.expire_tokens()
        with counted(b2) as calls:
            await call()
        assert calls["b2_authorize_account"] == 1
    assert await keys(sink) == ["large", "new"]


async def test_many_notice_at_once(b2: Running, sink: ObjectSink) -> None:
    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(write(sink, f"f{number:02d}"))

    await all_at_once()
    b2.expire_tokens()
    with counted(b2) as calls:
        await all_at_once()
    assert calls["b2_authorize_account"] == 1
    assert len(await keys(sink)) == 20


async def test_idle_upload_urls_are_as_old_as_the_token(b2: Running, sink: ObjectSink) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(write(sink, f"f{number}", b"x" * 300_000))
    b2.expire_tokens()
    with counted(b2) as calls:
        await write(sink, "one more")
    assert calls["b2_upload_file"] == 2


async def test_something_else_answers_a_read(
    b2: Running, proxy: Proxy, disturbed: B2Store, folder: str
) -> None:
    await disturbed.put(f"{folder}/file", b"data", PLAIN)
    proxy.fault = speaks_html(404)
    with pytest.raises(SinkRefused, match="not B2's"):
        await anext(disturbed.get(f"{folder}/file"))


async def test_reading_goes_on_with_another_token(b2: Running, store: B2Store, folder: str) -> None:
    await store.put(f"{folder}/file", b"0123456789", PLAIN)
    b2.expire_tokens()
    assert b"".join([block async for block in store.get(f"{folder}/file", 2, 3)]) == b"234"


async def test_a_key_that_was_deleted(b2: Running, folder: str) -> None:
    key_id, key = b2.make_key()
    async with store_of(settings(b2, folder, key_id=key_id, application_key=Secret(key))) as store:
        await store.put(f"{folder}/file", b"x", PLAIN)
        del b2.simulator.key_id_to_key[key_id]
        b2.expire_tokens()
        with pytest.raises(SinkRefused) as caught:
            await store.put(f"{folder}/file", b"y", PLAIN)
        assert "application key" in told(caught.value, key)


# -- upload URLs ----------------------------------------------------------------------------------


async def test_an_upload_url_has_one_user_at_a_time(b2: Running, sink: ObjectSink) -> None:
    """The server refuses a second upload to a URL (400 auth_token_limit)."""
    with counted(b2) as calls:
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                for number in range(16):
                    group.create_task(write(sink, f"f{number}", b"x" * 300_000))
    assert calls["b2_upload_file"] == 48
    assert calls["b2_get_upload_url"] <= 16


@pytest.mark.parametrize("status", [408, 500, 503])
async def test_a_busy_pod_is_left_for_another(b2: Running, store: B2Store, folder: str, status: int) -> None:
    await store.put(f"{folder}/one", b"x", PLAIN)
    with b2.fault(once("b2_upload_file", b2_error(status, "service_unavailable"), 2)), counted(b2) as calls:
        await store.put(f"{folder}/two", b"x" * 600_000, PLAIN)
    assert (calls["b2_upload_file"], calls["b2_get_upload_url"]) == (3, 2)


async def test_pods_that_are_all_busy(b2: Running, store: B2Store, folder: str) -> None:
    with (
        b2.fault(once("b2_upload_file", b2_error(503, "service_unavailable"), 99)),
        counted(b2) as calls,
        pytest.raises(SinkThrottled),
    ):
        await store.put(f"{folder}/one", b"x", PLAIN)
    assert calls["b2_upload_file"] == 3


async def test_a_url_is_not_used_after_an_error(b2: Running, store: B2Store, folder: str) -> None:
    await store.put(f"{folder}/one", b"x", PLAIN)
    with b2.fault(once("b2_upload_file", b2_error(400, "bad_request"))), pytest.raises(ObjectRejected):
        await store.put(f"{folder}/two", b"x", PLAIN)
    with counted(b2) as calls:
        await store.put(f"{folder}/two", b"x", PLAIN)
    assert calls["b2_get_upload_url"] == 1


# -- refusals -------------------------------------------------------------------------------------

REFUSALS = [
    (400, "cap_exceeded", SinkFull, "cap"),
    (403, "cap_exceeded", SinkFull, "cap"),
    (403, "storage_cap_exceeded", SinkFull, "cap"),
    (403, "transaction_cap_exceeded", SinkFull, "cap"),
    (429, "too_many_requests", SinkThrottled, ""),
    (401, "unauthorized", SinkRefused, "writeFiles"),
    (403, "access_denied", SinkRefused, "forbids"),
    (400, "bad_bucket_id", SinkRefused, "create the bucket"),
    (400, "bad_request", ObjectRejected, ""),
    (413, "too_large", ObjectRejected, ""),
    (400, "something_new", SinkUnavailable, ""),
]


@pytest.mark.parametrize(("status", "code", "kind", "hint"), REFUSALS)
async def test_an_upload_that_is_refused(
    b2: Running, store: B2Store, folder: str, status: int, code: str, kind: type[SinkError], hint: str
) -> None:
    with b2.fault(once("b2_upload_file", b2_error(status, code))), pytest.raises(kind) as caught:
        await store.put(f"{folder}/file", b"x", PLAIN)
    assert hint in told(caught.value)
    assert await store.head(f"{folder}/file") is None
    await store.put(f"{folder}/file", b"x", PLAIN)


async def test_a_checksum_that_does_not_match_is_nobodys_fault(
    b2: Running, store: B2Store, folder: str
) -> None:
    wrong = b2_error(400, "bad_request", "Sha1 did not match data received")
    with b2.fault(once("b2_upload_file", wrong)), pytest.raises(SinkUnavailable):
        await store.put(f"{folder}/file", b"x", PLAIN)


@pytest.mark.parametrize("call", ["b2_list_file_names", "b2_hide_file", "b2_copy_file", "download"])
async def test_caps_and_throttling_elsewhere(b2: Running, sink: ObjectSink, call: str) -> None:
    entry = await write(sink, "file", md5=bytes.fromhex("8d777f385d3dfec8815d20f7496026dc"))

    async def use() -> None:
        match call:
            case "b2_list_file_names":
                await keys(sink)
            case "b2_hide_file":
                await sink.delete("file")
            case "b2_copy_file":
                await sink.update("file", entry)
            case _:
                [block async for block in sink.read("file")]

    for status, code, kind in (
        (403, "download_cap_exceeded", SinkFull),
        (429, "too_many_requests", SinkThrottled),
        (503, "service_unavailable", SinkThrottled),
        (500, "internal_error", SinkUnavailable),
    ):
        with b2.fault(once(call, b2_error(status, code))), pytest.raises(kind) as caught:
            await use()
        told(caught.value)
    await use()


async def test_a_copy_that_the_service_refuses_is_an_upload(b2: Running, sink: ObjectSink) -> None:
    entry = await write(sink, "file", md5=bytes.fromhex("8d777f385d3dfec8815d20f7496026dc"))
    for code in ("bad_request", "source_too_large"):
        with b2.fault(once("b2_copy_file", b2_error(400, code), 2)):
            assert not await sink.move("file", "new", entry)
    assert await keys(sink) == ["file"]


# -- names ----------------------------------------------------------------------------------------


async def test_a_name_that_the_service_refuses(b2: Running, sink: ObjectSink) -> None:
    """b2sdk, and so its simulator, takes no component over 250 bytes; Backblaze dropped that rule."""
    with counted(b2) as calls, pytest.raises(ObjectRejected):
        await write(sink, "d/" + "x" * 251)
    assert calls["b2_upload_file"] == 1
    with counted(b2) as calls, pytest.raises(ObjectRejected):
        await write(sink, "tab\there")
    assert not calls["b2_upload_file"]


async def test_names_that_cannot_exist_are_absent(b2: Running, store: B2Store, folder: str) -> None:
    with counted(b2) as calls:
        for name in (f"{folder}/a\nb", f"{folder}/a//b", f"{folder}/a/", f"{folder}/{'é' * 513}", ""):
            assert await store.head(name) is None
            await store.delete(name)
            with pytest.raises(FileNotFoundError):
                await anext(store.get(name))
            with pytest.raises(ObjectRejected):
                await store.put(name, b"", PLAIN)
        assert (await store.page(f"{folder}/\x01")).objects == []
    assert not calls


# -- answers that lie -----------------------------------------------------------------------------


@pytest_asyncio.fixture
async def proxy(b2: Running) -> AsyncIterator[Proxy]:
    async with Proxy(b2.endpoint).running() as proxy:
        yield proxy


@pytest_asyncio.fixture
async def disturbed(b2: Running, proxy: Proxy, folder: str) -> AsyncIterator[B2Store]:
    async with store_of(settings(b2, folder, endpoint=proxy.endpoint)) as store:
        yield store


def changing(b2: Running, call: str, change: Callable[[dict[str, Any]], None]) -> Any:
    """A fault of the proxy: the server's own answer to this call, changed."""

    async def fault(request: web.Request, body: bytes) -> web.Response | None:
        if call not in request.path:
            return None
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{b2.endpoint}{request.path}", data=body, headers=request.headers) as answer,
        ):
            given = json.loads(await answer.read())
        change(given)
        return web.json_response(given)

    return fault


LIES: list[dict[str, Any]] = [
    {"contentSha1": "0" * 40},
    {"contentSha1": None},
    {"contentLength": 3},
    {"contentLength": "4"},
    {"contentLength": -1},
    {"fileName": "another"},
    {"fileInfo": [1]},
    {"fileId": 7},
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
async def test_what_is_stored_is_checked(
    b2: Running, proxy: Proxy, disturbed: B2Store, folder: str, bucket: v3.Bucket, lie: dict[str, Any]
) -> None:
    await disturbed.put(f"{folder}/file", b"before", PLAIN)
    proxy.fault = changing(b2, "b2_upload_file", lambda answer: answer.update(lie))
    with pytest.raises(SinkUnavailable) as caught:
        await disturbed.put(f"{folder}/file", b"data", PLAIN)
    told(caught.value)
    if "contentSha1" in lie:
        # A wrong version must not stay the current one.
        assert versions(bucket, folder) == [("file", "upload")]
        assert b"".join([block async for block in disturbed.get(f"{folder}/file")]) == b"before"


@pytest.mark.parametrize(
    "lie",
    [
        {"files": None},
        {"files": [1]},
        {"files": [{"fileName": "elsewhere", "action": "upload", "contentLength": 1}]},
        {"files": [{"fileName": None}]},
        {"files": [], "nextFileName": "a"},
        {"nextFileName": 5},
    ],
    ids=range(6),
)
async def test_a_listing_is_checked(
    b2: Running, proxy: Proxy, disturbed: B2Store, folder: str, lie: dict[str, Any]
) -> None:
    await disturbed.put(f"{folder}/file", b"data", PLAIN)
    proxy.fault = changing(b2, "b2_list_file_names", lambda answer: answer.update(lie))
    with pytest.raises(SinkUnavailable) as caught:
        await disturbed.page(f"{folder}/")
    told(caught.value)


async def test_a_part_is_checked(b2: Running, proxy: Proxy, disturbed: B2Store, folder: str) -> None:
    name = f"{folder}/large"
    upload = await disturbed.begin_upload(name, PLAIN)

    async def data() -> AsyncIterator[bytes]:
        yield b"data"

    sha1 = bytes.fromhex("a17c9aaa61e80a1bf71d0d850af4e5baa9800bbd")
    proxy.fault = changing(b2, "b2_upload_part", lambda answer: answer.update(contentSha1="0" * 40))
    with pytest.raises(SinkUnavailable, match="part 1"):
        await disturbed.put_part(name, upload, 1, 4, data(), lambda: sha1)
    proxy.fault = None
    await disturbed.abort_upload(name, upload)


async def test_an_upload_url_of_another_kind(
    b2: Running, proxy: Proxy, disturbed: B2Store, folder: str
) -> None:
    for url in ("ftp://h/x", "http://", "javascript:1", "http://127.0.0.1:1/\r\nX: y", 5):
        proxy.fault = changing(b2, "b2_get_upload_url", lambda answer, url=url: answer.update(uploadUrl=url))
        with pytest.raises(SinkUnavailable):
            await disturbed.put(f"{folder}/file", b"data", PLAIN)


async def test_a_head_that_makes_no_sense(proxy: Proxy, disturbed: B2Store, folder: str) -> None:
    await disturbed.put(f"{folder}/file", b"data", PLAIN)
    proxy.change = lambda _request, headers: headers.pop("X-Bz-File-Id", None)
    with pytest.raises(SinkUnavailable):
        await disturbed.head(f"{folder}/file")


async def test_a_range_that_is_ignored(proxy: Proxy, disturbed: B2Store, folder: str) -> None:
    await disturbed.put(f"{folder}/file", b"data", PLAIN)

    async def whole(request: web.Request, _body: bytes) -> web.Response | None:
        return web.Response(body=b"data") if "Range" in request.headers else None

    proxy.fault = whole
    with pytest.raises(SinkUnavailable, match="range"):
        await anext(disturbed.get(f"{folder}/file", 1, 2))
