"""The parts of the filer sink that need no filer."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import (
    ObjectRejected,
    SinkFull,
    SinkRefused,
    SinkThrottled,
    SinkUnavailable,
)
from filerbackup.events import Entry, EntryKind
from filerbackup.filer.fileid import file_id_of, following, parsed
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.warm import MOST_BYTES
from filerbackup.settings.model import FilerSinkSettings, SecuritySettings, SourceSettings
from filerbackup.sinks.filer.attributes import check_target, go_mode, posix_mode
from filerbackup.sinks.filer.loops import are_nested, may_loop
from filerbackup.sinks.filer.needles import Needles, NotStored
from filerbackup.sinks.filer.problems import assign_problem, call_problem, entry_problem, upload_problem
from filerbackup.sinks.filer.quick import QuickPuts
from filerbackup.sinks.filer.reading import visible
from filerbackup.sinks.filer.rules import Rules, prefixes_of
from filerbackup.sinks.filer.target import Target

MD5 = b"\x90\x01P\x98<\xd2O\xb0\xd6\x96?}(\xe1\x7fr"
GOOD_BODY = b'{"name":"x","size":3,"eTag":"364b3fb7"}'


# -- what is visible ------------------------------------------------------------------------------

pieces = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=8)


@given(pieces)
def test_the_newest_chunk_counts_for_each_byte(written: list[tuple[int, int]]) -> None:
    wanted: dict[int, int] = {}
    chunks = []
    for number, (offset, size) in enumerate(written):
        chunks.append(pb.FileChunk(file_id=str(number), offset=offset, size=size, modified_ts_ns=number))
        wanted.update(dict.fromkeys(range(offset, offset + size), number))

    found: dict[int, int] = {}
    parts = visible(reversed(chunks))
    for part in parts:
        assert part.start < part.end
        assert not found.keys() & set(range(part.start, part.end))
        found.update(dict.fromkeys(range(part.start, part.end), int(part.chunk.file_id)))

    assert found == wanted
    assert [part.start for part in parts] == sorted(part.start for part in parts)


# -- file ids -------------------------------------------------------------------------------------


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**63), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_the_file_ids_that_were_assigned_together(volume: int, key: int, cookie: int, number: int) -> None:
    assert parsed(file_id_of(volume, key, cookie)) == (volume, key, cookie)
    assert following(file_id_of(volume, key, cookie), number) == file_id_of(volume, key + number, cookie)


def test_file_ids_as_weed_writes_them() -> None:
    assert following("4,02870d5a96", 0) == "4,02870d5a96"
    assert following("4,ff870d5a96", 1) == "4,0100870d5a96"
    for bad in ("", "4", "4,", "4,0287", "x,02870d5a96", "4,02870d5a96_1", "4,02870d5a96\r\n"):
        with pytest.raises(ValueError, match="no file id"):
            following(bad, 1)


# -- what is stored alike -------------------------------------------------------------------------


def test_the_rules_of_a_filer_conf() -> None:
    assert prefixes_of(b"") == ()
    assert prefixes_of(b'{"version":1}') == ()
    rules = b'{"locations":[{"locationPrefix":"/b/"},{"location_prefix":"/a"},{"readOnly":true}]}'
    assert prefixes_of(rules) == ("", "/a", "/b/")
    for bad in (b"<html>", b"[]", b'{"locations":[1]}', b'{"locations":[{"locationPrefix":5}]}', b"\xff"):
        assert prefixes_of(bad) is None


async def test_paths_that_are_stored_alike() -> None:
    target = Target(FilerSinkSettings("filer"), None)
    conf = pb.Entry(content=b'{"locations":[{"locationPrefix":"/a/img"}]}')

    async def lookup(_path: str) -> pb.Entry:
        return conf

    async def read(entry: pb.Entry) -> bytes:
        return entry.content

    rules = Rules(target, read, "/buckets")
    assert rules.group("/a/x") != rules.group("/b/x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "lookup", lookup)
        await rules.refresh()
    await target.close()

    assert rules.group("/a/x") == rules.group("/b/c/x")
    assert rules.group("/a/x") != rules.group("/a/img1") == rules.group("/a/img/2")
    assert rules.group("/buckets/one/x") != rules.group("/buckets/two/x")
    assert rules.group("/buckets/one/x") == rules.group("/buckets/one/y/z")


# -- attributes -----------------------------------------------------------------------------------


@given(st.integers(0, 0o7777))
def test_modes_there_and_back(mode: int) -> None:
    made = go_mode(Entry("/x", EntryKind.FILE, mode=stat.S_IFREG | mode))
    assert posix_mode(made) == mode
    assert posix_mode(made & ~0o7000) == mode
    assert bool(made & 1 << 23) == bool(mode & stat.S_ISUID)


@pytest.mark.parametrize("target", ["", "nul\0", "lone\ud800"])
def test_symlinks_that_no_file_system_holds(target: str) -> None:
    with pytest.raises(ObjectRejected):
        check_target("link", Entry("/link", EntryKind.SYMLINK, symlink_target=target))


@pytest.mark.parametrize(
    ("one", "other", "nested"),
    [
        ("/", "/x", True),
        ("/x", "/x", True),
        ("/x", "/x/y", True),
        ("/x", "/xy", False),
        ("/x/y", "/x/z", False),
    ],
)
def test_which_directories_are_nested(one: str, other: str, nested: bool) -> None:
    assert are_nested(one, other) is are_nested(other, one) is nested


@pytest.mark.parametrize(
    ("directory", "excluded", "loops"),
    [
        ("/w/copies", (), True),
        ("/w/copies", ("/w/copies",), False),
        ("/w/copies/deep", ("/w/copies/",), False),
        ("/w/copies2", ("/w/copies",), True),
        ("/w/copies", ("copies",), True),
        ("/w/copies", ("/w/c*",), True),
        ("/w", ("/w",), True),
        ("/", ("/",), True),
        ("/elsewhere", (), False),
    ],
)
def test_a_target_that_is_excluded_from_what_is_watched(
    directory: str, excluded: tuple[str, ...], loops: bool
) -> None:
    assert may_loop(directory, SourceSettings(path="/w", exclude_paths=excluded)) is loops


# -- problems -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "replication", "error", "hint"),
    [
        ("No writable volumes and no free volumes left for {}", "", SinkFull, "-max"),
        ("No writable volumes and no free volumes left for {}", "001", SinkFull, "`replication`"),
        ("assign volume: context deadline exceeded", "", SinkUnavailable, "-max"),
        ("assign volume: context deadline exceeded", "001", SinkRefused, "`replication`"),
        ("Only has 1 racks, not enough for 2.", "010", SinkRefused, "`replication`"),
        ("unexpected replication type: xyz", "xyz", SinkRefused, "`replication`"),
        ("no writable volumes for {}, volume growth in progress", "", SinkUnavailable, "-max"),
        ("no volume server capacity registered yet for {}", "", SinkUnavailable, "running"),
        ("read only: /b/ (e.g. bucket over quota)", "", SinkRefused, "quota"),
        ("something new", "", SinkUnavailable, ""),
    ],
)
def test_why_no_volume_is_to_be_had(text: str, replication: str, error: type[Exception], hint: str) -> None:
    found = assign_problem("host:1", text, replication=replication)
    assert type(found) is error
    assert hint in found.hint


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (401, "wrong jwt", SinkRefused),
        (400, "file over the limited 1048576 bytes", SinkRefused),
        (500, "write /v/1.dat: no space left on device", SinkFull),
        (500, "volume 3 is read only", SinkUnavailable),
        (429, "too many requests", SinkThrottled),
    ],
)
def test_what_a_volume_server_says(status: int, text: str, error: type[Exception]) -> None:
    assert type(upload_problem("host:1", status, text)) is error


def test_what_a_filer_says_of_an_entry() -> None:
    assert type(entry_problem("'x'", "entry name too long", too_long=True)) is ObjectRejected
    assert type(entry_problem("'x'", "insert entry: database is locked", too_long=False)) is SinkUnavailable


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "", SinkRefused),
        (grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed", SinkRefused),
        (grpc.StatusCode.UNAVAILABLE, "Connection refused", SinkUnavailable),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service", SinkRefused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", SinkThrottled),
        (grpc.StatusCode.UNKNOWN, "a\nb", SinkUnavailable),
    ],
)
def test_calls_that_fail(code: grpc.StatusCode, details: str, error: type[Exception]) -> None:
    nothing = grpc.aio.Metadata()
    found = call_problem("host:1", grpc.aio.AioRpcError(code, nothing, nothing, details=details))
    assert type(found) is error
    assert "\n" not in str(found)


# -- answers of a volume server -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, last_bytes: int = 0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives the same answer to every request; None: it hangs up.

    `last_bytes`: how many come a moment later.
    """
    requests: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                requests.append(head + await reader.readexactly(length))
                if answer is None:
                    break
                for piece in (answer[: len(answer) - last_bytes], answer[len(answer) - last_bytes :]):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.05 if last_bytes else 0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def http(status: str, body: bytes, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def right(body: bytes = GOOD_BODY) -> bytes:
    return http("201 Created", body, "Content-MD5: kAFQmDzST7DWlj99KOF/cg==")


async def put(server: str, data: bytes = b"abc", auth: str = "") -> None:
    needles = Needles(SecuritySettings())
    try:
        await needles.put(server, "3,01deadbeef", [data], MD5, auth)
    finally:
        await needles.close()


async def test_a_needle_that_was_stored() -> None:
    async with answering(right()) as (server, requests):
        await put(server, auth="to.ken")
    assert len(requests) == 1
    assert requests[0].startswith(b"PUT /3,01deadbeef HTTP/1.1\r\n")
    assert b"\r\nContent-MD5: kAFQmDzST7DWlj99KOF/cg==\r\n" in requests[0]
    assert b"\r\nAuthorization: Bearer to.ken\r\n" in requests[0]
    assert requests[0].endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (right(b'{"size":2}'), SinkUnavailable),
        (right(b"{}"), SinkUnavailable),
        (right(b"<html>"), SinkUnavailable),
        (http("201 Created", GOOD_BODY), SinkUnavailable),
        (http("201 Created", GOOD_BODY, "Content-MD5: AAFQmDzST7DWlj99KOF/cg=="), SinkUnavailable),
        (http("204 No Content", b""), SinkUnavailable),
        (http("401 Unauthorized", b'{"error":"wrong jwt"}'), SinkRefused),
        (http("400 Bad Request", b'{"error":"Content-MD5 did not match"}'), NotStored),
        (http("500 Error", b'{"error":"disk"}'), SinkUnavailable),
        (http("302 Found", b"", "Location: http://127.0.0.1:1/"), SinkUnavailable),
        (b"NONSENSE\r\n\r\n", SinkUnavailable),
        (None, SinkUnavailable),
    ],
)
async def test_every_other_answer_is_a_failure(answer: bytes | None, error: type[Exception]) -> None:
    async with answering(answer) as (server, _):
        with pytest.raises(error) as caught:
            await put(server)
    assert type(caught.value) is error


async def test_an_answer_that_comes_in_two_pieces() -> None:
    for size in (3, MOST_BYTES + 1):
        async with answering(right(b'{"size":%d}' % size), last_bytes=5) as (server, _):
            await put(server, bytes(size))


async def test_nobody_listens() -> None:
    async with answering(None) as (server, _):
        pass
    with pytest.raises(NotStored):
        await put(server)


async def test_a_connection_is_used_again_unless_the_server_closes_it() -> None:
    for more, connections in (((), 1), (("Connection: close",), 3)):
        answer = http("201 Created", GOOD_BODY, *more)
        made = 0

        async with answering(answer) as (server, _):
            quick = QuickPuts(connect_s=5, silence_s=5, keepalive_s=20)
            loop = asyncio.get_running_loop()
            create: Callable[..., object] = loop.create_connection

            async def counted(*args: object, create: Callable[..., object] = create) -> object:
                nonlocal made
                made += 1
                return await create(*args)  # type: ignore[misc]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop, "create_connection", counted)
                for _ in range(3):
                    found = await quick.put(server, "/x", b"abc", "")
                    assert found is not None
                    assert found.status == 201
            await quick.close()
        assert made == connections


@pytest.mark.parametrize("server", ["host:99999", "host:0", "host", "[::1]:80", "a/b:80", "a\r\nb:80"])
async def test_an_address_that_is_not_plain_is_left_to_the_full_client(server: str) -> None:
    quick = QuickPuts(connect_s=5, silence_s=5, keepalive_s=20)
    assert await quick.put(server, "/x", b"abc", "") is None
    await quick.close()
