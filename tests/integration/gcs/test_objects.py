"""Objects in one request, and listings: checked against what the service says."""

from __future__ import annotations

import base64
import hashlib

import pytest
from aiohttp import web

from filerbackup.errors import SinkUnavailable, Unreadable
from filerbackup.sinks.gcs import GcsStore
from tests.integration.gcs.conftest import PLAIN, google_error
from tests.support.gcs import GcsPeer
from tests.support.proxy import Proxy


async def test_bytes_that_are_changed_on_the_way_replace_nothing(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str
) -> None:
    """The hash goes along, and the service refuses what does not have it."""
    await behind.put(f"{folder}/a", b"good", PLAIN)
    described = await peer.describe(f"{folder}/a")
    asked: list[bytes] = []

    async def refusing(_request: web.Request, body: bytes) -> web.Response | None:
        asked.append(body)
        return google_error(400, "invalid", 'Provided MD5 hash "a" doesn\'t match calculated MD5 hash "b".')

    proxy.fault = refusing
    with pytest.raises(SinkUnavailable, match="did not arrive"):
        await behind.put(f"{folder}/a", b"newer", PLAIN)
    assert b'"md5Hash":"' + base64.b64encode(hashlib.md5(b"newer").digest()) + b'"' in asked[0]
    assert await peer.describe(f"{folder}/a") == described

    with pytest.raises(Unreadable, match="does not have the MD5"):
        await behind.put(f"{folder}/a", b"newer", PLAIN, hashlib.md5(b"other").digest())


@pytest.mark.parametrize("change", [{"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}, {"size": "3"}])
async def test_wrong_bytes_that_were_stored_are_removed(
    behind: GcsStore, proxy: Proxy, peer: GcsPeer, folder: str, change: dict[str, str]
) -> None:
    name = f"{folder}/a"

    async def storing_others(request: web.Request, _body: bytes) -> web.Response | None:
        if not request.path.startswith("/upload"):
            return None
        await peer.put(name, b"evil")
        md5 = base64.b64encode(hashlib.md5(b"good").digest()).decode()
        return web.json_response({"name": name, "size": "4", "generation": "1", "md5Hash": md5, **change})

    proxy.fault = storing_others
    with pytest.raises(SinkUnavailable, match="did not arrive"):
        await behind.put(name, b"good", PLAIN)
    assert await peer.get(name) is None


async def test_pages_begin_behind_a_name(store: GcsStore, folder: str) -> None:
    names = [f"{folder}/{number}" for number in range(7)]
    for name in names:
        await store.put(name, b"", PLAIN)

    page = await store.page(f"{folder}/", after=names[2], limit=3)
    found = [each.name for each in page.objects]
    while page.truncated:
        page = await store.page(f"{folder}/", after=names[2], limit=3, token=page.token)
        found += [each.name for each in page.objects]
    assert found == names[3:]
    (last,) = (await store.page(names[6])).objects
    assert (last.size, last.md5.hex()) == (0, "d41d8cd98f00b204e9800998ecf8427e")
    assert last.user is not None
    assert last.user["mtime"] == PLAIN.user["mtime"]


async def test_pages_of_a_directory_show_each_entry_once_and_in_order(store: GcsStore, folder: str) -> None:
    names = [f"{folder}/{number:02d}{'/x' if number % 3 else ''}" for number in range(20)]
    for name in names:
        await store.put(name, b"", PLAIN)

    found: list[list[str]] = []
    token = ""
    while not found or token:
        page = await store.page(f"{folder}/", delimiter="/", limit=3, token=token)
        found.append(sorted([*(each.name for each in page.objects), *page.prefixes]))
        token = page.token
    assert [name for names in found for name in names] == [name.removesuffix("x") for name in names]


async def test_an_answer_about_another_object_is_none(behind: GcsStore, proxy: Proxy, folder: str) -> None:
    async def other(_request: web.Request, _body: bytes) -> web.Response:
        found = {"name": "other", "size": "1", "generation": "1"}
        return web.json_response({**found, "items": [found]})

    proxy.fault = other
    for call in (
        lambda: behind.head(f"{folder}/a"),
        lambda: behind.put(f"{folder}/a", b"x", PLAIN),
        lambda: behind.page(f"{folder}/"),
    ):
        with pytest.raises(SinkUnavailable, match="another"):
            await call()
