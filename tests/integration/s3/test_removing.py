"""Listings in order, deletes in bulk."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from filerbackup.errors import (
    SinkRefused,
    SinkThrottled,
)
from filerbackup.sinks.s3 import S3Sink
from tests.integration.s3.conftest import opened, settings
from tests.support.proxy import Proxy
from tests.support.s3 import (
    Peer,
    s3_error,
)
from tests.support.sinks import keys, write
from tests.support.weed import WeedServer


async def test_thousands_are_listed_and_deleted_in_bulk(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    wanted = [f"d/{number % 7}/{number:05d}" for number in range(2500)]
    pool = asyncio.Semaphore(64)

    async def one(sink: S3Sink, key: str) -> None:
        async with pool:
            await write(sink, key, b"")

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        await asyncio.gather(*(one(sink, key) for key in [*wanted, "d-1", "d.txt", "dd/x"]))
        ordered = sorted([*wanted, "d-1", "d.txt", "dd/x"], key=str.encode)
        assert await keys(sink) == ordered
        assert await keys(sink, start_after=ordered[1200]) == ordered[1201:]

        proxy.requests.clear()
        await asyncio.gather(*(sink.delete(key) for key in wanted))
        posts = [each for each in proxy.requests if each[0] == "POST"]
        assert 3 <= len(posts) <= 6
        assert len(proxy.requests) == len(posts)
        assert await keys(sink) == ["d-1", "d.txt", "dd/x"]


async def test_a_tree_is_deleted_and_its_neighbours_stay(sink: S3Sink, peer: Peer, folder: str) -> None:
    for key in ("a/b/c", "a/b", "a/b/d/e", "a/bc", "a/b-c", "a/b.c/d", "a"):
        await write(sink, key)
    await sink.delete_tree("a/b")
    assert await peer.names(folder) == {f"{folder}/{key}" for key in ("a/bc", "a/b-c", "a/b.c/d", "a")}


@pytest.mark.parametrize(
    ("status", "code"), [(501, "NotImplemented"), (400, "MalformedXML"), (400, "MissingContentMD5")]
)
async def test_a_service_without_bulk_delete(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str, status: int, code: str
) -> None:
    async def no_bulk(request: web.Request, _body: bytes) -> web.Response | None:
        return s3_error(status, code) if request.method == "POST" and "delete" in request.query else None

    proxy.fault = no_bulk
    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        for key in ("a", "b", "c/d"):
            await write(sink, key)
        await sink.delete_tree("c")
        await asyncio.gather(sink.delete("a"), sink.delete("absent"))
        assert await keys(sink) == ["b"]
    posts = [each for each in proxy.requests if each[0] == "POST"]
    assert len(posts) == 1


async def test_a_bulk_delete_answers_for_each_key(
    server: WeedServer, peer: Peer, proxy: Proxy, folder: str
) -> None:
    async def refuse_one(request: web.Request, body: bytes) -> web.Response | None:
        if request.method != "POST" or "delete" not in request.query:
            return None
        assert "Content-MD5" in request.headers
        failed = "".join(
            f"<Error><Key>{folder}/{key}</Key><Code>{code}</Code><Message>no</Message></Error>"
            for key, code in (("denied", "AccessDenied"), ("busy", "SlowDown"), ("gone", "NoSuchKey"))
        )
        answer = f'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{failed}</DeleteResult>'
        return web.Response(text=answer, content_type="application/xml")

    async with opened(settings(server, folder, endpoint=proxy.endpoint)) as sink:
        proxy.fault = refuse_one
        names = ("fine", "denied", "busy", "gone")
        answers = await asyncio.gather(*(sink.delete(key) for key in names), return_exceptions=True)
    assert answers[0] is None
    assert isinstance(answers[1], SinkRefused)
    assert isinstance(answers[2], SinkThrottled)
    assert answers[3] is None


async def test_other_programs_objects_do_not_disturb(sink: S3Sink, peer: Peer, folder: str) -> None:
    await write(sink, "mine")
    for name in ("marker/", ".filerbackup/journal", "x/.filerbackup-tmp-1", "file.rclonelink"):
        await peer.put(f"{folder}/{name}")
    assert await keys(sink) == ["file.rclonelink", "mine"]
