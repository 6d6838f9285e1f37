"""Server-side encryption of the S3 gateway: what it leaves beside a chunk, and the way back to clear bytes.

Read in SeaweedFS's source (weed/s3api) and seen with 4.48:

- Each part of an object is AES-256 in counter mode, begun anew from an IV, and cut into chunks. A
  chunk's `sse_type` says who has the key, its `sse_metadata` is JSON with the wrapped data key and the
  IV: for SSE-S3 the one of the chunk's first byte, for SSE-KMS and SSE-C that of the part, with the
  chunk's place in the part as `partOffset`. Chunks without metadata, and content inside the entry, go
  by what the entry has in its extended attributes.
- Copies between plain and encrypted objects are made by the gateway with new metadata and the old
  chunk's `e_tag` and compression flag, which are then both wrong.
- Counter mode notices nothing. A wrong key is noticed where the data key is unwrapped (AES-GCM, or the
  KMS), a wrong IV by the key commitment where there is one, all else by the MD5s that the gateway makes
  of the clear bytes (`filerbackup.source.s3_etag`).
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from filerbackup.errors import KeyMissing, Unreadable
from filerbackup.events import Chunk, Entry

KEY_BYTES = 32
NONCE_BYTES = 12

_PREFIX = "x-seaweedfs-sse-"
_BLOCK_BYTES = 16
_LARGEST_METADATA_BYTES = 64 << 10
_LARGEST_OFFSET = 1 << 60
_KMS_ALGORITHM = "aws:kms"
_S3_ALGORITHM = "AES256"


class Kind(enum.IntEnum):
    """Who has the key: a chunk's `sse_type`."""

    CUSTOMER = 1
    KMS = 2
    S3 = 3


_OBJECT_KEYS = {
    Kind.S3: "x-seaweedfs-sse-s3-key",
    Kind.KMS: "x-seaweedfs-sse-kms-key",
    Kind.CUSTOMER: "x-seaweedfs-sse-c-iv",
}


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A wrapped data key with what counter mode needs beside it.

    `nonce`: of the wrap, for SSE-S3. `key_id` and `context`: what a KMS asks for. `offset`: how many
    bytes of the part come before this chunk where `iv` is that of the part.
    """

    kind: Kind
    wrapped: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    nonce: bytes = field(default=b"", repr=False)
    offset: int = 0
    algorithm: str = _S3_ALGORITHM
    commitment: bytes = field(default=b"", repr=False)
    key_id: str = ""
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Keystream:
    """A data key, and the counter at byte `-shift` of what it is for."""

    key: bytes = field(repr=False)
    counter: int = field(repr=False)
    shift: int = 0

    def decrypt(self, data: bytes, position: int) -> bytes:
        """The clear bytes of what is stored from byte `position` on."""
        block, skip = divmod(self.shift + position, _BLOCK_BYTES)
        counter = (self.counter + block) % (1 << 128)
        cipher = Cipher(AES256(self.key), CTR(counter.to_bytes(_BLOCK_BYTES, "big"))).decryptor()
        if skip:
            cipher.update(bytes(skip))
        return cipher.update(data)


class DataKeys(Protocol):
    """Whoever can unwrap data keys."""

    async def unwrap(self, sealed: SealedKey) -> bytes:
        """The data key. Raises KeyMissing, Unreadable, SourceRefused, SourceUnreachable."""
        ...


class NoKeys:
    """Where no key material is at hand."""

    async def unwrap(self, sealed: SealedKey) -> bytes:
        """Never."""
        raise KeyMissing(f"encrypted by the S3 gateway (SSE-{sealed.kind.name}), and no keys are configured")


def is_sealed(entry: Entry) -> bool:
    """Whether it is encrypted, or may be: marks without an encrypted chunk may be left over, or all there is.

    Then nothing but the MD5s of its clear bytes says that what was read is right.
    """
    for chunk in entry.chunks:
        if chunk.sse_type:
            return True
    return bool(entry.extended) and any(name.lower().startswith(_PREFIX) for name in entry.extended)


class Opener:
    """Decrypts the parts of one object, given its extended attributes."""

    def __init__(self, extended: Mapping[str, bytes], keys: DataKeys) -> None:
        self._extended = extended
        self._keys = keys

    async def chunk(self, chunk: Chunk) -> tuple[Keystream, int]:
        """The keystream of an encrypted chunk, and the position of the chunk's first byte in it.

        Raises KeyMissing, Unreadable, SourceRefused, SourceUnreachable.
        """
        kind = kind_of(chunk.sse_type)
        if chunk.sse_metadata:
            return await self._keystream(parse_sealed(kind, chunk.sse_metadata)), 0
        return await self._keystream(self._object_key(kind)), chunk.offset

    async def content(self, data: bytes) -> bytes:
        """Content that lies encrypted inside the entry, in the clear. Raises as `chunk`."""
        by_name = _folded(self._extended)
        found = [kind for kind, name in _OBJECT_KEYS.items() if name in by_name]
        if len(found) != 1:
            raise Unreadable("marked as encrypted, but its attributes do not say how")
        keystream = await self._keystream(self._object_key(found[0]))
        return keystream.decrypt(data, 0)

    def _object_key(self, kind: Kind) -> SealedKey:
        raw = _folded(self._extended).get(_OBJECT_KEYS[kind], b"")
        if not raw:
            raise Unreadable(f"encrypted (SSE-{kind.name}) without its key beside it")
        return parse_sealed(kind, raw)

    async def _keystream(self, sealed: SealedKey) -> Keystream:
        return keystream_of(sealed, await self._keys.unwrap(sealed))


def kind_of(sse_type: int) -> Kind:
    """Raises KeyMissing for what nobody but the client can decrypt, Unreadable for what is not known."""
    try:
        kind = Kind(sse_type)
    except ValueError:
        raise Unreadable(f"encrypted in a way that is not known here (type {sse_type})") from None
    return _not_customer(kind)


def _not_customer(kind: Kind) -> Kind:
    if kind is Kind.CUSTOMER:
        raise KeyMissing("encrypted with a key that only the client has (SSE-C): it cannot be backed up")
    return kind


def parse_sealed(kind: Kind, raw: bytes) -> SealedKey:
    """`sse_metadata` of a chunk, or the same of an object. Raises Unreadable, KeyMissing."""
    _not_customer(kind)
    what = f"SSE-{kind.name} metadata"
    if len(raw) > _LARGEST_METADATA_BYTES:
        raise Unreadable(f"{what} of {len(raw)} bytes")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unreadable(f"{what} cannot be read")
    iv = _decoded(found, "iv", what)
    if len(iv) != _BLOCK_BYTES:
        raise Unreadable(f"{what} without an IV of {_BLOCK_BYTES} bytes")
    commitment = _decoded(found, "keyCommitment", what)
    if kind is Kind.S3:
        nonce = _decoded(found, "nonce", what)
        if len(nonce) != NONCE_BYTES:
            raise Unreadable(f"{what} without a nonce of {NONCE_BYTES} bytes")
        algorithm = found.get("algorithm", _S3_ALGORITHM)
        if algorithm != _S3_ALGORITHM:
            raise Unreadable(f"{what} names another algorithm than {_S3_ALGORITHM}")
        wrapped = _decoded(found, "encryptedDEK", what)
        return SealedKey(kind, wrapped, iv, nonce=nonce, commitment=commitment)
    if found.get("algorithm", "") not in ("", _KMS_ALGORITHM):
        raise Unreadable(f"{what} names another algorithm than {_KMS_ALGORITHM}")
    return SealedKey(
        kind,
        _decoded(found, "encryptedDataKey", what),
        iv,
        offset=_offset(found, what),
        algorithm=_KMS_ALGORITHM,
        commitment=commitment,
        key_id=str(found.get("keyId", ""))[:2048],
        context=_context(found, what),
    )


def keystream_of(sealed: SealedKey, key: bytes) -> Keystream:
    """With the unwrapped data key. Raises Unreadable when key and IV do not belong together."""
    if len(key) != KEY_BYTES:
        raise Unreadable(f"a data key of {len(key)} bytes")
    if sealed.commitment:
        expected = hmac.digest(key, sealed.iv + sealed.algorithm.encode(), hashlib.sha256)
        if not hmac.compare_digest(expected, sealed.commitment):
            raise Unreadable("the encryption's key and IV do not belong together (key commitment)")
    return Keystream(key, int.from_bytes(sealed.iv, "big"), sealed.offset)


def _folded(extended: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.lower(): value for name, value in extended.items()}


def _decoded(found: Mapping[str, object], name: str, what: str) -> bytes:
    value = found.get(name) or ""
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Unreadable(f"{what}: {name} is not base64")


def _offset(found: Mapping[str, object], what: str) -> int:
    offset = found.get("partOffset") or 0
    if type(offset) is not int or not 0 <= offset < _LARGEST_OFFSET:
        raise Unreadable(f"{what}: partOffset is no position")
    return offset


def _context(found: Mapping[str, object], what: str) -> dict[str, str]:
    context = found.get("encryptionContext") or {}
    if isinstance(context, dict) and all(isinstance(value, str) for value in context.values()):
        return context
    raise Unreadable(f"{what}: encryptionContext is not text by text")
