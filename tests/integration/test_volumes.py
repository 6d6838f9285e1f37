"""Volume servers that fail in every way: never an empty or a wrong file, and the right error."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from filerbackup.errors import (
    ChunkGone,
    FilerBackupError,
    SourceRefused,
    SourceUnreachable,
    Unreadable,
    UsageError,
)
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.settings.model import ClientTls, SecuritySettings
from filerbackup.source import fetch, volumes
from filerbackup.source.content import FileContent
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.volumes import Volumes
from tests.support.needles import at, put_needle
from tests.support.volume_faults import Fault, FaultyVolume
from tests.support.weed import WeedServer

PIECE = 100_000
SMALL, LARGE = os.urandom(4_096), os.urandom(3 * PIECE)
TEXT = b"a text that compresses well\n" * 2_000


@dataclass
class Scene:
    """Files on a real server, behind as many faulty ones as a test wants."""

    entries: dict[str, Entry]
    data: dict[str, bytes]
    upstream: str
    stack: AsyncExitStack

    async def server(self, fault: Fault, tls: ssl.SSLContext | None = None) -> FaultyVolume:
        return await self.stack.enter_async_context(FaultyVolume(self.upstream, fault).running(tls))

    def volumes(self, *servers: str, **options: object) -> Volumes:
        async def lookup(volume_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
            return dict.fromkeys(volume_ids, servers)

        made = Volumes(lookup, **options)  # type: ignore[arg-type]
        self.stack.push_async_callback(made.close)
        return made

    async def read(self, which: str, volumes: Volumes, how: str) -> bytes:
        content = FileContent(self.entries[which], volumes, piece_bytes=PIECE)
        if how == "read":
            return await content.read()
        return b"".join([block async for block in content.stream()])


@pytest.fixture(scope="module")
def files(weed: WeedServer) -> tuple[dict[str, Entry], dict[str, bytes]]:
    data = {"small": SMALL, "large": LARGE, "text": TEXT, "text in parts": TEXT, "secret": SMALL}
    kinds = {"text": "gzip", "text in parts": "gzip", "secret": "cipher"}
    entries = {}
    for name, content in data.items():
        chunk = chunk_from_pb(put_needle(weed, content, kind=kinds.get(name, "plain")))
        entries[name] = Entry(f"/{name}", EntryKind.FILE, len(content), chunks=(chunk,))
    over = chunk_from_pb(at(put_needle(weed, b"!"), 10, time.time_ns()))
    data["text in parts"] = TEXT[:10] + b"!" + TEXT[11:]
    parts = entries["text in parts"]
    entries["text in parts"] = replace(parts, chunks=(*parts.chunks, over))
    return entries, data


@pytest.fixture
async def scene(
    weed: WeedServer,
    files: tuple[dict[str, Entry], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    monkeypatch.setattr(fetch, "SILENCE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(fetch, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(volumes, "_PAUSE_S", 0.01)
    monkeypatch.setattr(volumes, "_LARGEST_STORED_BYTES", 1 << 20)
    async with AsyncExitStack() as stack:
        yield Scene(*files, f"127.0.0.1:{weed.volume_port}", stack)


EVERY_FILE = ("small", "large", "text", "text in parts", "secret")
MEANS: dict[Fault, type[FilerBackupError]] = {
    Fault.HTTP_301: SourceUnreachable,
    Fault.HTTP_400: Unreadable,
    Fault.HTTP_401: SourceRefused,
    Fault.HTTP_403: SourceRefused,
    Fault.HTTP_404: ChunkGone,
    Fault.HTTP_429: SourceUnreachable,
    Fault.HTTP_500: SourceUnreachable,
    Fault.HTTP_503: SourceUnreachable,
    Fault.EMPTY: Unreadable,
    Fault.SHORT: Unreadable,
    Fault.CUT: SourceUnreachable,
    Fault.STALL: SourceUnreachable,
    Fault.SILENT: SourceUnreachable,
    Fault.HTML: Unreadable,
    Fault.BOMB: Unreadable,
    Fault.GARBAGE: Unreadable,
    Fault.BROKEN_GZIP: Unreadable,
    Fault.OTHER_RANGE: Unreadable,
    Fault.NOT_HTTP: Unreadable,
}
CHANGED = (Fault.LONG, Fault.LABELLED_GZIP, Fault.WHOLE_FOR_RANGE, Fault.ENDLESS)
"""Faults that do not show in every kind of read, or that can be got around."""


SHOWS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.GARBAGE)]
"""Wrong bytes of the right number show only in the digest of the file, after all has been read."""


@pytest.mark.parametrize("fault", MEANS, ids=lambda fault: fault.name)
async def test_the_only_server_fails(scene: Scene, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE_TIMEOUT_S", 0.1)
    server = await scene.server(fault)
    reader = scene.volumes(server.address)
    for which in EVERY_FILE:
        for how in ("read", "stream"):
            with pytest.raises(MEANS[fault]) as caught:
                await scene.read(which, reader, how)
            assert type(caught.value) is MEANS[fault], which


@pytest.mark.parametrize("fault", CHANGED, ids=lambda fault: fault.name)
async def test_never_wrong_bytes(scene: Scene, fault: Fault) -> None:
    server = await scene.server(fault)
    reader = scene.volumes(server.address)
    failed = 0
    for which in EVERY_FILE:
        for how in ("read", "stream"):
            try:
                assert await scene.read(which, reader, how) == scene.data[which]
            except (Unreadable, SourceUnreachable):
                failed += 1
    assert failed or fault is Fault.LABELLED_GZIP


@pytest.mark.parametrize("fault", SHOWS, ids=lambda fault: fault.name)
async def test_another_replica_is_good(scene: Scene, fault: Fault) -> None:
    """Whichever is asked first, the bytes come once and are the right ones."""
    bad, good = await scene.server(fault), await scene.server(Fault.NONE)
    for _ in range(3):
        reader = scene.volumes(bad.address, good.address, "127.0.0.1:9")
        for which in EVERY_FILE:
            for how in ("read", "stream"):
                assert await scene.read(which, reader, how) == scene.data[which]
    assert bad.requests
    assert good.requests


async def test_a_replica_fails_in_the_middle_of_a_file(scene: Scene) -> None:
    turning, good = await scene.server(Fault.NONE), await scene.server(Fault.NONE)
    reader = scene.volumes(turning.address, good.address)
    content = FileContent(scene.entries["large"], reader, prefetch=1, piece_bytes=10_000)
    received = bytearray()
    async for block in content.stream():
        received += block
        if turning.requests:
            turning.fault = Fault.CUT
    assert turning.fault is Fault.CUT
    assert received == LARGE


async def test_no_server_has_the_volume(scene: Scene) -> None:
    with pytest.raises(ChunkGone, match="no volume server has volume"):
        await scene.read("small", scene.volumes(), "read")


async def test_a_moved_volume_is_found_again(scene: Scene) -> None:
    old, new = await scene.server(Fault.HTTP_404), await scene.server(Fault.NONE)
    asked: list[Sequence[str]] = []

    async def lookup(volume_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        asked.append(volume_ids)
        where = old if len(asked) == 1 else new
        return {volume_id: [where.address] for volume_id in volume_ids}

    reader = Volumes(lookup)
    scene.stack.push_async_callback(reader.close)
    for _ in range(3):
        assert await scene.read("small", reader, "read") == SMALL
    assert len(asked) == 2
    assert len(old.requests) == 1


@pytest.mark.parametrize("fault", [Fault.HTTP_404, Fault.CUT, Fault.HTTP_500], ids=lambda fault: fault.name)
async def test_a_filer_is_asked_again(scene: Scene, weed: WeedServer, fault: Fault) -> None:
    """It passes a read on to one replica of its choice: the next time to another."""
    filer = await scene.stack.enter_async_context(FaultyVolume(weed.filer, fault, times=1).running())
    reader = scene.volumes("127.0.0.1:9", read_via="filer", filers=[filer.address])
    assert await scene.read("small", reader, "read") == SMALL
    assert len(filer.requests) == 2


async def test_one_bad_chunk_on_a_good_server(scene: Scene) -> None:
    """A 500 for one chunk is that chunk's fault when the same server reads others."""
    server = await scene.server(Fault.NONE)
    reader = scene.volumes(server.address)
    assert await scene.read("large", reader, "read") == LARGE
    for fault in (Fault.HTTP_500, Fault.CUT):
        server.fault = fault
        with pytest.raises(Unreadable):
            await scene.read("small", reader, "read")
    server.fault = Fault.HTTP_503
    with pytest.raises(SourceUnreachable):
        await scene.read("small", reader, "read")


async def test_a_server_that_was_down_is_asked_last(scene: Scene) -> None:
    silent, good = await scene.server(Fault.SILENT), await scene.server(Fault.NONE)
    reader = scene.volumes(silent.address, good.address)
    for _ in range(40):
        assert await scene.read("small", reader, "read") == SMALL
    assert len(silent.requests) == 1


async def test_what_is_asked_for(scene: Scene) -> None:
    server = await scene.server(Fault.NONE)
    reader = scene.volumes(server.address)
    await scene.read("small", reader, "read")
    await scene.read("large", reader, "read")
    await scene.read("text", reader, "read")
    file_ids = [scene.entries[which].chunks[0].file_id for which in ("small", "large", "text")]
    counts = {file_id: server.requests.count(f"/{file_id}?readDeleted=true") for file_id in file_ids}
    assert list(counts.values()) == [1, 3, 1]
    assert "Range" not in server.headers[0]
    assert {headers.get("Range") for headers in server.headers[1:4]} == {
        "bytes=0-99999",
        "bytes=100000-199999",
        "bytes=200000-299999",
    }
    assert server.headers[4]["Accept-Encoding"] == "gzip"


async def test_hostile_addresses_are_not_asked(scene: Scene) -> None:
    reader = scene.volumes("a.example/../x", "user:pw@host:80", "host:80?x", "host", "")
    with pytest.raises(ChunkGone):
        await scene.read("small", reader, "read")


@pytest.mark.parametrize("trusted", [True, False])
async def test_https(scene: Scene, tmp_path: Path, trusted: bool) -> None:
    authority, server_tls = certificates(tmp_path)
    server = await scene.server(Fault.NONE, server_tls)
    tls = ClientTls(ca=str(authority)) if trusted else ClientTls()
    reader = scene.volumes(server.address, security=SecuritySettings(https=tls))
    if trusted:
        assert await scene.read("large", reader, "stream") == LARGE
    else:
        with pytest.raises(SourceRefused, match="TLS"):
            await scene.read("large", reader, "stream")
    plain = scene.volumes(server.address)
    with pytest.raises(FilerBackupError):
        await scene.read("small", plain, "read")


@pytest.mark.parametrize("broken", ["/nowhere/ca.pem", "empty"])
def test_tls_files_that_cannot_be_used(tmp_path: Path, broken: str) -> None:
    if broken == "empty":
        broken = str(tmp_path / "empty.pem")
        Path(broken).write_text("no certificate")

    async def lookup(_: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return {}

    with pytest.raises(UsageError, match=r"https\.client"):
        Volumes(lookup, security=SecuritySettings(https=ClientTls(ca=broken)))


def test_reading_via_filer_needs_filers() -> None:
    async def lookup(_: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return {}

    for options in ({"read_via": "filer"}, {"read_via": "carrier pigeon", "filers": ["a:1"]}):
        with pytest.raises(UsageError):
            Volumes(lookup, **options)  # type: ignore[arg-type]


async def test_many_readers_at_once(scene: Scene) -> None:
    server = await scene.server(Fault.NONE)
    reader = scene.volumes(server.address, connections_per_host=4)
    found = await asyncio.gather(*[scene.read("large", reader, "stream") for _ in range(20)])
    assert set(found) == {LARGE}


async def test_an_encrypted_chunk_is_fetched_once_for_its_parts(scene: Scene) -> None:
    server = await scene.server(Fault.NONE)
    reader = scene.volumes(server.address)
    secret = scene.entries["secret"].chunks[0]
    dot = scene.entries["small"].chunks[0]
    dots = tuple(
        Chunk(dot.file_id, at, 10, secret.modified_ts_ns + 1) for at in range(100, len(SMALL) - 10, 200)
    )
    entry = Entry("/x", EntryKind.FILE, len(SMALL), chunks=(secret, *dots))
    expected = bytearray(SMALL)
    for one in dots:
        expected[one.offset : one.offset + 10] = SMALL[:10]
    assert await FileContent(entry, reader).read() == expected
    assert server.requests.count(f"/{secret.file_id}?readDeleted=true") == 1


def certificates(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that is its own authority, and a server context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "volume")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    authority, secret = directory / "ca.pem", directory / "key.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, secret)
    return authority, context
