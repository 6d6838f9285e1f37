"""Damage on purpose: a needle that is deleted behind the filer's back."""

from __future__ import annotations

import http.client

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.weed import WeedServer


def chunk_ids(weed: WeedServer, path: str) -> list[str]:
    """The file ids of a file's chunks."""
    directory, _, name = path.rpartition("/")
    with grpc.insecure_channel(weed.filer_grpc) as channel:
        request = pb.LookupDirectoryEntryRequest(directory=directory or "/", name=name)
        entry = SeaweedFilerStub(channel).LookupDirectoryEntry(request).entry
    return [chunk.file_id for chunk in entry.chunks]


def lose_chunk(weed: WeedServer, path: str) -> None:
    """Delete a file's needles and vacuum, so that not even the deleted bytes can be read."""
    ids = chunk_ids(weed, path)
    assert ids
    for file_id in ids:
        assert _request(weed.volume_port, "DELETE", f"/{file_id}") in (200, 202)
    assert _request(weed.master_port, "GET", "/vol/vacuum?garbageThreshold=0.0001") == 200
    for file_id in ids:
        assert _request(weed.volume_port, "GET", f"/{file_id}?readDeleted=true") == 404


def _request(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
