"""What an S3 object's ETag proves. Attributes as weed 4.48 writes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filerbackup.errors import Unreadable
from filerbackup.events import Entry, EntryKind
from filerbackup.source.chunks import Interval
from filerbackup.source.s3_etag import Part, PartVerifier, parts_of

ETAG, PARTS = "Seaweed-X-Amz-ETag", "X-Seaweedfs-Multipart-Part-Boundaries"
WHOLE = Interval(0, 0, None)
_quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Three parts of 5 MiB, the second with three bytes more.
BOUNDARIES = (
    b'[{"part":1,"start":0,"end":2,"etag":"\\"5f363e0e58a95f06cbe9bbc662c5dfb6\\"","endOffset":5242880},'
    b'{"part":2,"start":2,"end":4,"etag":"\\"b2d53c7f0571e1019f3b5a13ebd020ad\\"","startOffset":5242880,'
    b'"endOffset":10485763},{"part":3,"start":4,"end":6,"etag":"\\"d76f89e449720d99d4b92c79040f4882\\"",'
    b'"startOffset":10485763,"endOffset":15728643}]'
)
MULTIPART = Entry(
    "/o", EntryKind.FILE, size=15_728_643,
    extended={ETAG: b"b329a4f0f1c5aafd1d56d5484ee0841b-3", PARTS: BOUNDARIES},
)  # fmt: skip


def md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()


async def verify(parts: list[Part], *blocks: bytes) -> None:
    verifier = PartVerifier(parts)
    for block in blocks:
        await verifier.feed(WHOLE, block)
    assert await verifier.digest() == b""
    await verifier.close()


def test_a_simple_object_is_one_part() -> None:
    entry = Entry("/o", EntryKind.FILE, size=3, extended={ETAG: md5(b"abc").hex().encode()})
    assert list(parts_of(entry)) == [Part(3, md5(b"abc"))]


async def test_a_multipart_object() -> None:
    parts = list(parts_of(MULTIPART))
    assert [part.end for part in parts] == [5_242_880, 10_485_763, 15_728_643]
    first, second, third = (bytes([number]) * (5 << 20) for number in range(3))
    await verify(parts, first, second + b"odd", third)
    with pytest.raises(Unreadable, match="MD5"):
        await verify(parts, first, second + b"ODD", third)


@pytest.mark.parametrize(
    "changed",
    [
        {ETAG: b""}, {ETAG: b"b329a4f0f1c5aafd1d56d5484ee0841b-2"}, {ETAG: b"\xff"},
        {PARTS: b""}, {PARTS: b"{}"},
        {PARTS: b"[" * 100_000}, {PARTS: b"[1]"}, {PARTS: BOUNDARIES.replace(b"5242880", b"5242881", 1)},
        {PARTS: BOUNDARIES.replace(b"15728643", b"15728644")}, {PARTS: BOUNDARIES.replace(b"5f36", b"5f37")},
        {PARTS: BOUNDARIES.replace(b"d76f", b"xxxx")}, {PARTS: BOUNDARIES.replace(b"5242880", b"true")},
        {PARTS: BOUNDARIES.replace(b'"endOffset":5242880', b'"endOffset":-1')},
    ],
)  # fmt: skip
def test_what_proves_nothing(changed: dict[str, bytes]) -> None:
    assert not parts_of(replace(MULTIPART, extended={**MULTIPART.extended, **changed}))


@_quick
@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.lists(st.integers(0, 36), max_size=5))
async def test_blocks_end_where_they_like(pieces: list[bytes], cuts: list[int]) -> None:
    """Parts and blocks are cut without regard for each other; empty parts count too."""
    data = b"".join(pieces)
    ends, position = [], 0
    for piece in pieces:
        position += len(piece)
        ends.append(Part(position, md5(piece)))
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    blocks = [data[a:b] for a, b in pairwise(places)]
    await verify(ends, *blocks)
    if data:
        damaged = bytes([blocks[-1][0] ^ 1]) + blocks[-1][1:]
        with pytest.raises(Unreadable, match="MD5"):
            await verify(ends, *blocks[:-1], damaged)
        with pytest.raises(Unreadable):
            await verify(ends, *blocks[:-1])


@_quick
@given(st.dictionaries(st.sampled_from([ETAG, PARTS]), st.binary(max_size=40)), st.integers(0, 2**60))
def test_hostile_attributes(extended: dict[str, bytes], size: int) -> None:
    for part in parts_of(Entry("/o", EntryKind.FILE, size=size, extended=extended)):
        assert part.end == size


@_quick
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("startOffset", "endOffset", "etag"), st.integers() | st.text() | st.floats()
            ),
        ),
        max_size=4,
    )
)
def test_hostile_boundaries(listed: list[dict[str, object]]) -> None:
    extended = {ETAG: b"0" * 32 + b"-1", PARTS: json.dumps(listed).encode()}
    assert not parts_of(replace(MULTIPART, extended=extended))
