"""From the bytes that a volume server stores to the clear bytes of a chunk."""

from __future__ import annotations

import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER_OVERHEAD_BYTES = 28
"""An encrypted chunk is longer by a nonce of 12 bytes and a tag of 16."""

_NONCE_BYTES = 12
_KEY_BYTES = 32
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_MEMBERS = 1000
_WITH_GZIP_HEADER = 16 + zlib.MAX_WBITS


class BadBytes(ValueError):
    """What was stored is not what the entry describes."""


def is_gzip(data: bytes) -> bool:
    """Whether it begins as gzip does: the only test that the filer makes too."""
    return data[:2] == _GZIP_MAGIC


def inflate(data: bytes, limit: int) -> bytes:
    """The first `limit` bytes of what gzip packed, one more when there are more. Raises BadBytes.

    Never holds more than that, whatever `data` claims to expand to.
    """
    found: list[bytes] = []
    room = limit + 1
    for _ in range(_MOST_MEMBERS):
        stream = zlib.decompressobj(_WITH_GZIP_HEADER)
        try:
            piece = stream.decompress(data, room)
        except zlib.error as error:
            raise BadBytes(f"bad gzip: {error}") from None
        found.append(piece)
        room -= len(piece)
        if room == 0:
            break
        if not stream.eof:
            raise BadBytes("gzip ends too early")
        data = stream.unused_data
        if not data:
            break
    else:
        raise BadBytes(f"gzip with more than {_MOST_MEMBERS} members")
    return found[0] if len(found) == 1 else b"".join(found)


def decrypt(data: bytes, key: bytes) -> bytes:
    """Of nonce 12 ‖ AES-256-GCM ciphertext ‖ tag 16, without associated data. Raises BadBytes."""
    if len(key) != _KEY_BYTES:
        raise BadBytes(f"the cipher key has {len(key)} bytes, not {_KEY_BYTES}")
    if len(data) < CIPHER_OVERHEAD_BYTES:
        raise BadBytes(f"{len(data)} bytes are too few for an encrypted chunk")
    try:
        return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
    except InvalidTag:
        raise BadBytes("the encrypted chunk was changed or has another key") from None
