"""Parts of reading that need no server: lookups, decoding, tokens, digests."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import os
import time
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from filerbackup.errors import SourceRefused, SourceUnreachable
from filerbackup.events import Chunk
from filerbackup.filer.access import read_token
from filerbackup.settings.secret import Secret
from filerbackup.source import locations
from filerbackup.source.checks import md5_of, plausible_md5, stored_md5
from filerbackup.source.codec import BadBytes, decrypt, inflate
from filerbackup.source.fetch import volume_of
from filerbackup.source.locations import Locations


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Filer:
    """A lookup that behaves as the filer's: one unknown volume fails the whole call."""

    def __init__(self, **known: Sequence[str]) -> None:
        self.known = {name.removeprefix("v"): servers for name, servers in known.items()}
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self, volume_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        self.asked.append(list(volume_ids))
        await self.answers.wait()
        if self.error:
            raise self.error
        missing = [volume_id for volume_id in volume_ids if volume_id not in self.known]
        if missing:
            # One line, cut short, as the real one is.
            text = " ".join(f"volume {one}: volume id {one} not found" for one in missing)
            raise SourceUnreachable(f"filer a:1: UNKNOWN: provider lookup failed: {text[:100]}")
        return {volume_id: self.known[volume_id] for volume_id in volume_ids}


async def test_lookups_at_one_moment_are_one_request() -> None:
    filer = Filer(v1=["a:1"], v2=["b:2", "c:3"])
    where = Locations(filer)
    found = await asyncio.gather(*[where.find(volume_id) for volume_id in "1212"])
    assert found == [("a:1",), ("b:2", "c:3")] * 2
    assert [sorted(volume_ids) for volume_ids in filer.asked] == [["1", "2"]]
    assert await where.find("2") == ("b:2", "c:3")
    assert len(filer.asked) == 1
    await where.close()


async def test_who_asks_while_a_request_is_under_way_shares_it() -> None:
    filer = Filer(v1=["a:1"])
    filer.answers.clear()
    where = Locations(filer)
    first = asyncio.create_task(where.find("1"))
    while not filer.asked:
        await asyncio.sleep(0)
    second = asyncio.create_task(where.find("1"))
    first.cancel()
    await asyncio.sleep(0)
    filer.answers.set()
    assert await second == ("a:1",)
    assert len(filer.asked) == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    await where.close()


async def test_answers_are_kept_for_a_while() -> None:
    clock, filer = Clock(), Filer(v1=["a:1"])
    where = Locations(filer, clock=clock)
    await where.find("1")
    clock.now += locations.KEEP_FOUND_S - 1
    await where.find("1")
    assert len(filer.asked) == 1
    clock.now += 2
    assert where.cached("1") is None
    await where.find("1")
    assert len(filer.asked) == 2


async def test_a_missing_volume_is_soon_asked_for_again() -> None:
    clock, filer = Clock(), Filer()
    where = Locations(filer, clock=clock)
    assert await where.find("7") == ()
    filer.known["7"] = ["a:1"]
    assert await where.find("7") == ()
    clock.now += locations.KEEP_MISSING_S + 0.1
    assert await where.find("7") == ("a:1",)


async def test_missing_volumes_do_not_hide_the_others() -> None:
    filer = Filer(v1=["a:1"], v2=["b:2"])
    where = Locations(filer)
    volume_ids = ["1", *map(str, range(100, 350)), "2"]
    found = await asyncio.gather(*[where.find(volume_id) for volume_id in volume_ids])
    assert found == [("a:1",), *[()] * 250, ("b:2",)]
    assert max(len(asked) for asked in filer.asked) <= 100


@pytest.mark.parametrize(
    "error",
    [
        SourceUnreachable(
            "filer a:1: UNKNOWN: provider lookup failed: no master available volume 1 not found"
        ),
        SourceUnreachable("filer a:1: UNKNOWN: volume id 11 not found"),
        SourceRefused("no", hint="change it"),
    ],
)
async def test_a_failure_is_not_a_missing_volume(error: SourceUnreachable) -> None:
    filer = Filer(v1=["a:1"])
    filer.error = error
    where = Locations(filer)
    outcomes = await asyncio.gather(where.find("1"), where.find("1"), return_exceptions=True)
    for outcome in outcomes:
        assert type(outcome) is type(error)
        assert (str(outcome), outcome.hint) == (str(error), error.hint)
    filer.error = None
    assert await where.find("1") == ("a:1",)


async def test_forgetting_only_what_failed() -> None:
    filer = Filer(v1=["a:1"])
    where = Locations(filer)
    found = await where.find("1")
    where.forget("1", ("other:1",))
    assert where.cached("1") == found
    where.forget("1", found)
    assert where.cached("1") is None


async def test_closing_leaves_nobody_waiting() -> None:
    filer = Filer(v1=["a:1"])
    filer.answers.clear()
    where = Locations(filer)
    waiting = asyncio.create_task(where.find("1"))
    await asyncio.sleep(0)
    late = asyncio.create_task(where.find("2"))
    await asyncio.sleep(0)
    await where.close()
    for task in (waiting, late):
        with pytest.raises(SourceUnreachable):
            await task


# -- gzip and encryption ----------------------------------------------------------------------------


def test_inflate() -> None:
    data = os.urandom(1_000) + bytes(50_000)
    packed = gzip.compress(data)
    assert inflate(packed, len(data)) == data
    assert inflate(gzip.compress(data[:400]) + gzip.compress(data[400:]), len(data)) == data
    assert inflate(packed, 10) == data[:11]
    for broken in (packed[:-9], packed[:5], b"no gzip at all", packed[:-8] + bytes(8), packed + b"rest"):
        with pytest.raises(BadBytes):
            inflate(broken, len(data))


def test_a_gzip_bomb_stays_small() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    assert len(inflate(bomb, 4_096)) == 4_097
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    begun = time.perf_counter()
    with pytest.raises(BadBytes):
        inflate(gzip.compress(b"") * 100_000, 4_096)
    assert time.perf_counter() - begun < 5


def test_decrypt() -> None:
    key, nonce = os.urandom(32), os.urandom(12)
    stored = nonce + AESGCM(key).encrypt(nonce, b"clear", None)
    assert decrypt(stored, key) == b"clear"
    changed = bytearray(stored)
    changed[14] ^= 1
    for data, with_key in (
        (bytes(changed), key),
        (stored, os.urandom(32)),
        (stored[:27], key),
        (stored, b""),
    ):
        with pytest.raises(BadBytes):
            decrypt(data, with_key)


# -- tokens and file ids ----------------------------------------------------------------------------


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_token_is_for_one_chunk_and_a_while() -> None:
    header, claims, mac = read_token(Secret("s3cret"), "3,0123456789ab_2", 1_000.7).split(".")
    assert json.loads(_unpadded(header)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(_unpadded(claims)) == {"fid": "3,0123456789ab", "exp": 1_600}
    assert _unpadded(mac) == hmac.digest(b"s3cret", f"{header}.{claims}".encode(), "sha256")


@pytest.mark.parametrize(
    ("file_id", "volume_id"),
    [
        ("3,0123456789ab", "3"),
        ("3,0123456789ab_12", "3"),
        ("3,01234567", "3"),
        ("3,0123456", None),
        ("3/0123456789ab", None),
        ("3,0123456789ab/../x", None),
        ("3,0123456789ab?x=1", None),
        ("3,0123456789ab\n", None),
        ("٣,0123456789ab", None),
        (",0123456789ab", None),
        ("", None),
    ],
)
def test_only_file_ids_go_into_urls(file_id: str, volume_id: str | None) -> None:
    assert volume_of(file_id) == volume_id


# -- digests ----------------------------------------------------------------------------------------

DIGEST = hashlib.md5(b"data").digest()


@pytest.mark.parametrize(
    ("e_tag", "expected"),
    [
        (base64.b64encode(DIGEST).decode(), DIGEST),
        (DIGEST.hex(), DIGEST),
        ("", b""),
        ("1a2b3c4d", b""),
        ("x" * 32, b""),
        ("!" * 24, b""),
        ("A" * 24, b""),
    ],
)
def test_chunk_digests(e_tag: str, expected: bytes) -> None:
    assert stored_md5(Chunk("1,00", 0, 4, 1, e_tag=e_tag)) == expected
    assert stored_md5(Chunk("1,00", 0, 4, 1, e_tag=e_tag, cipher_key=b"k" * 32)) == b""


def kept(size: int, *spans: tuple[int, int], e_tag: str = "", md5: bytes = DIGEST) -> bytes:
    chunks = [Chunk("1,00", offset, length, 1, e_tag=e_tag) for offset, length in spans]
    return plausible_md5(md5, size, chunks)


def test_which_md5_can_be_of_this_content() -> None:
    ours = base64.b64encode(DIGEST).decode()
    assert kept(19, (0, 8), (8, 8), (16, 3)) == DIGEST
    assert kept(24, (8, 8), (0, 8), (16, 8)) == DIGEST
    assert kept(8, (0, 8)) == DIGEST
    assert kept(8, (0, 8), e_tag=ours) == DIGEST
    assert kept(0, md5=md5_of(b"")) == md5_of(b"")


@pytest.mark.parametrize(
    ("size", "spans"),
    [
        (20, [(0, 8), (8, 8)]),
        (10, [(0, 8), (8, 8)]),
        (17, [(0, 8), (9, 8)]),
        (9, [(1, 8)]),
        (8, [(0, 8), (4, 2)]),
        (20, [(0, 8), (8, 4), (12, 8)]),
        (5, []),
        (0, []),
    ],
)
def test_which_md5_is_of_an_earlier_content(size: int, spans: list[tuple[int, int]]) -> None:
    assert kept(size, *spans) == b""


def test_one_chunk_of_another_content() -> None:
    assert kept(8, (0, 8), e_tag=base64.b64encode(md5_of(b"other")).decode()) == b""
