"""Entries whose chunks are made by hand: needles put on real volume servers, entries through gRPC."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import time
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from filerbackup.events import Entry
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.decode import entry_from_pb
from tests.support.weed import WeedServer


def put_needle(weed: WeedServer, data: bytes, *, kind: str = "plain") -> pb.FileChunk:
    """Store bytes on a volume server as a client would; a chunk that describes them, at offset 0.

    Kinds: plain, gzip, cipher, cipher gzip.
    """
    chunk = pb.FileChunk(size=len(data), modified_ts_ns=time.time_ns())
    if "gzip" in kind:
        data, chunk.is_compressed = gzip.compress(data), True
    if "cipher" in kind:
        chunk.cipher_key = os.urandom(32)
        nonce = os.urandom(12)
        data = nonce + AESGCM(chunk.cipher_key).encrypt(nonce, data, None)
    else:
        clear = gzip.decompress(data) if chunk.is_compressed else data
        chunk.e_tag = base64.b64encode(hashlib.md5(clear).digest()).decode()
    assigned = _request(weed.master_port, "GET", "/dir/assign")
    where = json.loads(assigned)
    chunk.file_id = where["fid"]
    headers = {"Content-Type": "application/octet-stream"}
    if kind == "gzip":
        headers["Content-Encoding"] = "gzip"
    _request(int(where["url"].rpartition(":")[2]), "PUT", "/" + where["fid"], data, headers)
    return chunk


def at(chunk: pb.FileChunk, offset: int, ts_ns: int | None = None) -> pb.FileChunk:
    """The same chunk somewhere else in a file."""
    moved = pb.FileChunk()
    moved.CopyFrom(chunk)
    moved.offset = offset
    if ts_ns is not None:
        moved.modified_ts_ns = ts_ns
    return moved


def put_manifest(weed: WeedServer, chunks: Sequence[pb.FileChunk], *, kind: str = "plain") -> pb.FileChunk:
    """A manifest chunk that lists these, as the filer makes them for files with many chunks."""
    stored = put_needle(weed, pb.FileChunkManifest(chunks=chunks).SerializeToString(), kind=kind)
    stored.is_chunk_manifest = True
    stored.offset = min(chunk.offset for chunk in chunks)
    stored.size = max(chunk.offset + chunk.size for chunk in chunks) - stored.offset
    return stored


async def create_entry(client: FilerClient, path: str, entry: pb.Entry) -> Entry:
    """Create it on the filer, then what the filer says of it."""
    directory, _, name = path.rpartition("/")
    entry.name = name
    if not entry.HasField("attributes"):
        entry.attributes.file_mode = 0o644
        entry.attributes.mtime = int(time.time())
    request = pb.CreateEntryRequest(directory=directory, entry=entry)
    answer = await client.call(lambda stub: stub.CreateEntry, request)
    assert not answer.error, answer.error
    return await live_entry(client, path)


async def live_entry(client: FilerClient, path: str) -> Entry:
    """The entry as the filer has it now."""
    directory, _, name = path.rpartition("/")
    found = await client.lookup(directory or "/", name)
    assert found is not None, path
    return entry_from_pb(directory or "/", found)


def _request(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        answer = response.read()
        assert response.status < 300, f"{method} {path}: HTTP {response.status} {answer[:200]!r}"
        return answer
    finally:
        connection.close()
