"""The source's files: what they hold follows from their names, so that any copy can be checked."""

from __future__ import annotations

import hashlib
import http.client
import random
from collections.abc import Iterator
from urllib.parse import quote

from tests.bench.cases import Load
from tests.support.load import put_many
from tests.support.weed import WeedServer

ROOT = "/buckets/bench"
"""A bucket of the source, so that a program which reads by S3 finds them too."""

_BLOCK = 1 << 20
_A_DIRECTORY = 100


def names(load: Load) -> list[str]:
    """Paths below the load's folder, in the order in which they are written."""
    return [f"d{number // _A_DIRECTORY:03}/f{number:06}" for number in range(load.count)]


def content(load: Load, name: str) -> Iterator[bytes]:
    """What a file holds, in blocks; it does not compress."""
    generator = random.Random(f"{load.folder}/{name}")
    for begin in range(0, load.size, _BLOCK):
        yield generator.randbytes(min(_BLOCK, load.size - begin))


def digest(blocks: Iterator[bytes]) -> str:
    """For comparing."""
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def write(weed: WeedServer, load: Load) -> None:
    """Put the files into the source. The last one comes last in its log too."""
    *before, last = names(load)
    put_many(weed, ((f"{ROOT}/{load.folder}/{name}", b"".join(content(load, name))) for name in before))
    _put_streamed(weed, f"{ROOT}/{load.folder}/{last}", load, last)


def _put_streamed(weed: WeedServer, path: str, load: Load, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", weed.filer_port, timeout=120)
    try:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(load.size)}
        connection.request("PUT", quote(path), body=content(load, name), headers=headers)
        response = connection.getresponse()
        said = response.read()
        if response.status not in (200, 201):
            raise RuntimeError(f"cannot write {path}: HTTP {response.status} {said[:200]!r}")
    finally:
        connection.close()
