"""A file's bytes from its chunks, straight from the volume server, without filerbackup's own code.

weed's filer cannot serve what a mount has truncated within a chunk (4.48: it sends the whole chunk and
breaks off); a mount can, and so does this.
"""

from __future__ import annotations

import http.client

from filerbackup.filer.stubs import filer_pb2 as pb
from tests.support.weed import WeedServer


def assembled(weed: WeedServer, entry: pb.Entry) -> bytes:
    """What an entry holds now. Raises OSError when a chunk cannot be read."""
    if entry.content:
        return bytes(entry.content)
    chunks = sorted(entry.chunks, key=lambda chunk: chunk.modified_ts_ns)
    data = bytearray(
        max([entry.attributes.file_size, *(chunk.offset + chunk.size for chunk in chunks)], default=0)
    )
    if not chunks:
        return bytes(data)
    connection = http.client.HTTPConnection("127.0.0.1", weed.volume_port, timeout=30)
    try:
        for chunk in chunks:
            data[chunk.offset : chunk.offset + chunk.size] = _read(connection, chunk)
    finally:
        connection.close()
    return bytes(data)


def _read(connection: http.client.HTTPConnection, chunk: pb.FileChunk) -> bytes:
    fid = chunk.fid
    name = chunk.file_id or f"{fid.volume_id},{fid.file_key:x}{fid.cookie:08x}"
    connection.request("GET", f"/{name}?readDeleted=true", headers={"Accept-Encoding": "identity"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or len(body) < chunk.size:
        raise OSError(f"chunk {name}: HTTP {answer.status}, {len(body)} of {chunk.size} bytes")
    return body[: chunk.size]
