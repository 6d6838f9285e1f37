"""Formats and keys of the S3 gateway's encryption. Whatever is called a vector was written by weed 4.48."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filerbackup.errors import ChunkGone, KeyMissing, Unreadable
from filerbackup.events import Chunk, Entry, EntryKind
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.retry import Action, decide
from filerbackup.settings.model import SseSettings
from filerbackup.settings.secret import Secret
from filerbackup.source.checks import stored_md5
from filerbackup.source.content import FileContent
from filerbackup.source.decode import chunk_from_pb
from filerbackup.source.sse import Keystream, Kind, SealedKey, keystream_of, parse_sealed
from filerbackup.source.sse_keys import SseKeys, unwrap_kek
from filerbackup.source.volumes import Stored, Volumes

# A chunk of one byte, "x", under the key 11…11.
ONE_BYTE = (
    b'{"algorithm":"AES256","encryptedDEK":"/K+rdNOmpFgY74UFiD52KJDkL916v3vHRVD+vGHOgdFAoq3m3E1qQ19MRwcLOk0w",'
    b'"iv":"slpurRpz9xt65CkZ23oaZg==","keyCommitment":"UGSrgP+iSAr2SYG0vW6wAX4r/TTgCVD3nU1dZeN2l28=",'
    b'"keyId":"sse-s3-key-2192479233164142917","nonce":"DyhaqgdTz2sJ1o0L"}'
)
ONE_BYTE_STORED_MD5 = "pfPGoRsDg51Gr5+0PJfBiA=="
# Under the key that is derived from "a secret of any form".
DERIVED = (
    b'{"algorithm":"AES256","encryptedDEK":"A+VYsYxL9QqYtaYRBMSxJrkEYNVv6YJdJsZ+GKiljbZE1SLoe/c1DScy7mm4vTpi",'
    b'"iv":"/TDbOWMVeJuhLRhYNGqqvQ==","keyCommitment":"rs0+6k1kd4fzgu6o9oQiV9ojV+W45JZu/H5WciT6w+8=",'
    b'"keyId":"sse-s3-key-7379669884249781291","nonce":"LwY8CWqN+fhqrqkc"}'
)
# The filer's /etc/s3/sse_kek for 000102…1f, wrapped under "correct horse".
WRAPPED_KEK = (
    b"U1d2MlEcRSRegoeveHb9+CLtyW6fAOEsQgZQKdHp4tbHgqpJ43GSYIirIWRJcjcl6EUChuJ9SaX1AhiKQOQevi6cTGwbZ0RPzcdr+f3R"
    b"zPe/XcSk44fvE/BYitmPACjV"
)

KEK = SseSettings(kek=Secret("11" * 32))


def sealed_json(dek: bytes, iv: bytes, kek: bytes = b"\x11" * 32, **more: object) -> bytes:
    nonce = b"n" * 12
    fields = {
        "algorithm": "AES256",
        "encryptedDEK": base64.b64encode(AESGCM(kek).encrypt(nonce, dek, None)).decode(),
        "nonce": base64.b64encode(nonce).decode(),
        "iv": base64.b64encode(iv).decode(),
        "keyId": "k",
    }
    return json.dumps(fields | more).encode()


# -- counter mode -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    data=st.binary(max_size=100),
    cuts=st.lists(st.integers(0, 100), max_size=4),
    counter=st.sampled_from([0, 2**64 - 2, 2**128 - 1]),
    shift=st.integers(0, 50),
)
def test_a_part_is_decrypted_as_in_the_whole(data: bytes, cuts: list[int], counter: int, shift: int) -> None:
    stream = Keystream(b"k" * 32, counter, shift)
    whole = Keystream(b"k" * 32, counter).decrypt(bytes(shift) + data, 0)[shift:]
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    parts = [stream.decrypt(data[a:b], a) for a, b in pairwise(ends)]
    assert b"".join(parts) == whole


async def test_vectors_of_the_gateway() -> None:
    sealed = parse_sealed(Kind.S3, ONE_BYTE)
    stream = keystream_of(sealed, await SseKeys(KEK).unwrap(sealed))
    stored = stream.decrypt(b"x", 0)
    assert base64.b64encode(hashlib.md5(stored).digest()).decode() == ONE_BYTE_STORED_MD5
    derived = parse_sealed(Kind.S3, DERIVED)
    keys = SseKeys(SseSettings(key=Secret("a secret of any form")))
    assert derived.commitment
    keystream_of(derived, await keys.unwrap(derived))
    with pytest.raises(KeyMissing, match="under another key"):
        await keys.unwrap(sealed)


def test_nothing_shows_a_key() -> None:
    sealed = parse_sealed(Kind.S3, ONE_BYTE)
    for shown in (repr(sealed), repr(Keystream(b"secretsecret", 7)), repr(KEK)):
        assert "secret" not in shown.replace("Secret", "")
        assert "1111" not in shown
        assert "xaf" not in shown


def test_key_and_iv_that_do_not_belong_together() -> None:
    commitment = hmac.digest(b"k" * 32, b"i" * 16 + b"AES256", "sha256")
    sealed = SealedKey(Kind.S3, b"", b"i" * 16, commitment=commitment)
    assert keystream_of(sealed, b"k" * 32) == Keystream(b"k" * 32, int.from_bytes(b"i" * 16, "big"))
    for other, key in ((sealed, b"K" * 32), (replace(sealed, iv=b"I" * 16), b"k" * 32), (sealed, b"short")):
        with pytest.raises(Unreadable):
            keystream_of(other, key)


# -- metadata -----------------------------------------------------------------------------------------


def test_metadata_of_a_kms() -> None:
    raw: dict[str, object] = {
        "algorithm": "aws:kms",
        "keyId": "arn",
        "encryptedDataKey": "AAEC",
        "iv": base64.b64encode(b"i" * 16).decode(),
        "encryptionContext": {"aws:s3:arn": "arn:aws:s3:::b/o"},
        "bucketKeyEnabled": False,
        "partOffset": 4 << 20,
    }
    found = parse_sealed(Kind.KMS, json.dumps(raw).encode())
    assert (found.wrapped, found.offset, found.key_id) == (b"\x00\x01\x02", 4 << 20, "arn")
    assert found.context == {"aws:s3:arn": "arn:aws:s3:::b/o"}
    assert keystream_of(found, b"k" * 32).shift == 4 << 20
    for broken in (
        {"partOffset": -1}, {"partOffset": "7"}, {"partOffset": True}, {"encryptionContext": {"a": 1}},
        {"encryptionContext": "a"}, {"iv": ""}, {"iv": "AAAA"}, {"algorithm": "AES256"},
        {"encryptedDataKey": 7},
    ):  # fmt: skip
        with pytest.raises(Unreadable):
            parse_sealed(Kind.KMS, json.dumps(raw | broken).encode())


_texts = st.text(max_size=9) | st.sampled_from(
    [base64.b64encode(bytes(size)).decode() for size in (12, 16, 48)]
)
_values = st.none() | st.booleans() | st.integers() | _texts | st.just({"a": "b"}) | st.just({"a": 1})
_names = (
    "algorithm", "encryptedDEK", "nonce", "iv", "keyId", "keyCommitment", "encryptedDataKey", "partOffset",
    "encryptionContext",
)  # fmt: skip
_metadata = st.fixed_dictionaries({}, optional=dict.fromkeys(_names, _values))
_quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_quick
@given(
    kind=st.sampled_from(Kind),
    raw=st.binary(max_size=60) | _metadata.map(lambda found: json.dumps(found).encode()),
)
def test_hostile_metadata(kind: Kind, raw: bytes) -> None:
    try:
        found = parse_sealed(kind, raw)
    except Unreadable:
        return
    assert len(found.iv) == 16
    assert found.offset >= 0


def test_metadata_that_would_take_all_memory_or_the_stack() -> None:
    for raw in (b"[" * 60_000, b" " * 70_000 + ONE_BYTE, b'{"iv":' * 9_000):
        with pytest.raises(Unreadable):
            parse_sealed(Kind.S3, raw)


def test_a_chunk_carries_its_metadata_only_when_it_is_encrypted() -> None:
    assert chunk_from_pb(pb.FileChunk(sse_type=3, sse_metadata=b"m")).sse_metadata == b"m"
    assert chunk_from_pb(pb.FileChunk(sse_type=0, sse_metadata=b"m")).sse_metadata == b""
    # Its e_tag is of what is stored, or of nothing that is there.
    assert stored_md5(Chunk("1,01", 0, 1, 0, e_tag=ONE_BYTE_STORED_MD5))
    assert not stored_md5(Chunk("1,01", 0, 1, 0, sse_type=3, e_tag=ONE_BYTE_STORED_MD5))


def test_a_missing_key_is_a_dead_letter_at_once() -> None:
    decision = decide(KeyMissing("x"), 1, others_succeed=True, outages=0, random=lambda: 0.0)
    assert decision.action is Action.DEAD_LETTER


# -- the key on the filer -----------------------------------------------------------------------------


def test_the_filers_key_in_each_of_its_forms() -> None:
    kek = bytes(range(32))
    assert unwrap_kek(WRAPPED_KEK, "correct horse") == kek
    assert unwrap_kek(kek.hex().encode() + b"\n", "") == kek
    # The form before there was a salt for each cluster.
    salt = b"seaweedfs-sse-s3-kek-wrapping-v1"
    key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"kek-wrapping").derive(b"p")
    old = base64.b64encode(b"n" * 12 + AESGCM(key).encrypt(b"n" * 12, kek, None))
    assert unwrap_kek(old, "p") == kek


@pytest.mark.parametrize(
    ("content", "passphrase", "said"),
    [
        (b"", "", "does not exist"),
        (WRAPPED_KEK, "", "set s3.sse.kek.passphrase"),
        (WRAPPED_KEK, "wrong horse", "another passphrase"),
        (WRAPPED_KEK[:40], "correct horse", "another passphrase"),
        (b"AAAA", "p", "another passphrase"),
        (b"\xff\x00", "p", "holds no key"),
        (b"not base64!", "p", "holds no key"),
        (b"0" * 62, "", "holds no key"),
    ],
)
def test_a_filers_key_that_cannot_be_had(content: bytes, passphrase: str, said: str) -> None:
    with pytest.raises(KeyMissing, match=said):
        unwrap_kek(content, passphrase)


async def test_the_filers_key_is_read_once_and_again_when_it_was_changed() -> None:
    on_filer, reads = [b"22" * 32], []

    async def read() -> bytes:
        reads.append(1)
        return on_filer[0]

    keys = SseKeys(SseSettings(kek=Secret("33" * 32)), read_kek=read)
    old, new = (
        parse_sealed(Kind.S3, sealed_json(b"d" * 32, bytes(16), kek)) for kek in (b"\x22" * 32, b"\x44" * 32)
    )
    for _ in range(3):
        assert await keys.unwrap(old) == b"d" * 32
    assert len(reads) == 1
    with pytest.raises(KeyMissing, match=r"than the filer's .* and than those in security.toml"):
        await keys.unwrap(new)
    assert len(reads) == 1, "not for each object"
    on_filer[0] = b"44" * 32
    keys._filer_kek_read_at -= 61
    assert await keys.unwrap(new) == b"d" * 32


# -- content ------------------------------------------------------------------------------------------

MD5 = "seaweed-x-amz-etag"
DEK, IV = b"d" * 32, b"\xff" * 16


class FakeVolumes:
    """What is stored, by file id."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self.stored = stored

    async def read(self, chunk: Chunk, offset: int = 0, size: int | None = None) -> bytes:
        if chunk.file_id not in self.stored:
            raise ChunkGone(chunk.file_id)
        data = self.stored[chunk.file_id]
        return data[offset : len(data) if size is None else offset + size]

    async def read_stored(self, chunk: Chunk, limit: int) -> bytes:
        raise AssertionError("no manifests here")

    async def examine(self, chunk: Chunk) -> Stored:
        data = self.stored[chunk.file_id]
        return Stored(len(data), hashlib.md5(data).digest(), hashlib.md5(data[: chunk.size]).digest())


async def read(entry: Entry, stored: Mapping[str, bytes], sse: SseSettings = KEK) -> bytes:
    volumes: Volumes = FakeVolumes(stored)  # type: ignore[assignment]
    return await FileContent(entry, volumes, keys=SseKeys(sse), piece_bytes=50).read()


def file(size: int, *chunks: Chunk, content: bytes = b"", md5: bytes = b"", **extended: bytes) -> Entry:
    named = {name.replace("_", "-"): value for name, value in extended.items()}
    return Entry("/f", EntryKind.FILE, size=size, chunks=chunks, content=content, md5=md5, extended=named)


def chunk(offset: int, size: int, metadata: bytes = b"", *, sse_type: int = 3, e_tag: str = "") -> Chunk:
    return Chunk(f"1,{offset:02x}", offset, size, 1, sse_type=sse_type, sse_metadata=metadata, e_tag=e_tag)


def md5_hex(data: bytes) -> bytes:
    return hashlib.md5(data).hexdigest().encode()


CLEAR = bytes(range(200))
SEALED = Keystream(DEK, int.from_bytes(IV, "big")).decrypt(CLEAR, 0)


async def test_content_inside_the_entry() -> None:
    clear = file(
        200, content=SEALED, md5=hashlib.md5(CLEAR).digest(), x_seaweedfs_sse_s3_key=sealed_json(DEK, IV)
    )
    assert await read(clear, {}) == CLEAR
    with pytest.raises(Unreadable, match="MD5"):
        await read(replace(clear, md5=b"m" * 16), {})
    # Without that MD5 the object's ETag has to say that it is right.
    bare = replace(clear, md5=b"")
    proven = replace(bare, extended={**bare.extended, MD5: md5_hex(CLEAR)})
    assert await read(proven, {}) == CLEAR
    for other in (replace(proven, content=CLEAR), replace(proven, content=SEALED[:-1]), bare):
        with pytest.raises(Unreadable, match=r"MD5|last part"):
            await read(other, {})
    with pytest.raises(KeyMissing, match="SSE-C"):
        await read(file(200, content=SEALED, x_seaweedfs_sse_c_iv=IV), {})
    with pytest.raises(Unreadable, match="do not say how"):
        await read(file(200, content=SEALED, x_seaweedfs_sse_s3_base_iv=IV), {})


async def test_chunks_without_metadata_go_by_the_objects_key() -> None:
    entry = file(200, chunk(0, 120), chunk(120, 80), X_Seaweedfs_Sse_S3_Key=sealed_json(DEK, IV))
    assert await read(entry, {"1,00": SEALED[:120], "1,78": SEALED[120:]}) == CLEAR
    with pytest.raises(Unreadable, match="without its key"):
        await read(replace(entry, extended={}), {"1,00": SEALED[:120], "1,78": SEALED[120:]})


async def test_a_plain_piece_over_an_encrypted_chunk() -> None:
    """As a mount leaves it: what is hidden in the middle does not shift the rest of the keystream."""
    over = Chunk("1,ff", 33, 5, 2)
    entry = file(200, chunk(0, 200, sealed_json(DEK, IV)), over)
    assert await read(entry, {"1,00": SEALED, "1,ff": b"plain"}) == CLEAR[:33] + b"plain" + CLEAR[38:]
    # The ETag is still that of the object as it was: nothing says which is right.
    with pytest.raises(Unreadable, match="MD5"):
        await read(
            replace(entry, extended={"Seaweed-X-Amz-ETag": md5_hex(CLEAR)}),
            {"1,00": SEALED, "1,ff": b"plain"},
        )


async def test_marks_without_an_encrypted_chunk_need_a_proof() -> None:
    marked = {"x_seaweedfs_sse_s3_key": sealed_json(DEK, IV)}
    plain = chunk(0, 200, sse_type=0)
    with pytest.raises(Unreadable, match="no MD5 tells"):
        await read(file(200, plain, **marked), {"1,00": CLEAR})
    proven = file(200, plain, **marked, Seaweed_X_Amz_ETag=md5_hex(CLEAR))
    assert await read(proven, {"1,00": CLEAR}) == CLEAR
    for entry in (proven, file(200, plain, **marked, md5=hashlib.md5(CLEAR).digest())):
        with pytest.raises(Unreadable, match="MD5"):
            await read(entry, {"1,00": SEALED})


async def test_copies_that_the_gateway_decrypted_have_the_e_tag_of_what_was_encrypted() -> None:
    wrong = base64.b64encode(hashlib.md5(SEALED[:100]).digest()).decode()
    chunks = (chunk(0, 100, sse_type=0, e_tag=wrong), chunk(100, 100, sse_type=0, e_tag=wrong))
    stored = {"1,00": CLEAR[:100], "1,64": CLEAR[100:]}
    assert await read(file(200, *chunks, Seaweed_X_Amz_ETag=md5_hex(CLEAR)), stored) == CLEAR
    for entry in (file(200, *chunks), file(200, *chunks, Seaweed_X_Amz_ETag=md5_hex(SEALED))):
        with pytest.raises(Unreadable, match="is damaged"):
            await read(entry, stored)


async def test_what_cannot_be_decrypted_is_never_fetched() -> None:
    for kind, error in ((1, KeyMissing), (2, Unreadable), (4, Unreadable), (-1, Unreadable)):
        with pytest.raises(error):
            await read(file(200, chunk(0, 200, ONE_BYTE, sse_type=kind)), {})
    with pytest.raises(KeyMissing, match=r"set s3.sse.kek or s3.sse.key"):
        await read(file(1, chunk(0, 1, ONE_BYTE)), {}, SseSettings())


async def test_an_empty_object_needs_no_key() -> None:
    entry = file(0, md5=hashlib.md5(b"").digest(), x_seaweedfs_sse_c_iv=IV)
    assert await read(entry, {}, SseSettings()) == b""


def test_memory_counts_both_sides_of_the_cipher() -> None:
    volumes: Volumes = FakeVolumes({})  # type: ignore[assignment]
    plain = FileContent(file(40, chunk(0, 40, sse_type=0)), volumes, piece_bytes=50).memory_bytes
    assert FileContent(file(40, chunk(0, 40)), volumes, piece_bytes=50).memory_bytes >= 2 * plain
