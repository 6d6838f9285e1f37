"""Where the keys for server-side encryption come from: the settings, the filer, a key management service.

SSE-S3 (read in SeaweedFS's source, seen with 4.48): a data key is wrapped with AES-256-GCM under one key
for the whole cluster, the KEK. The gateway takes it from `s3.sse.kek` (hex), derives it from `s3.sse.key`,
or finds it in the filer's `/etc/s3/sse_kek`: in hex, or wrapped under a passphrase.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from filerbackup.errors import KeyMissing
from filerbackup.settings.model import SseSettings
from filerbackup.source.kms import Kms, envelope_of
from filerbackup.source.sse import KEY_BYTES, NONCE_BYTES, Kind, SealedKey

KEK_DIRECTORY, KEK_NAME = "/etc/s3", "sse_kek"

ReadKek = Callable[[], Awaitable[bytes]]
"""The content of the filer's KEK file, empty when there is none."""

_log = logging.getLogger(__name__)

_KEK_INFO = b"seaweedfs-sse-s3-kek"
_WRAP_INFO = b"kek-wrapping"
_WRAP_SALT = b"seaweedfs-sse-s3-kek-wrapping-v1"
_WRAP_MAGIC = b"SWv2"
_SALT_BYTES = 32
_READ_AGAIN_S = 60.0
_KEPT_DATA_KEYS = 1024
_KEEP_S = 3600.0

_NO_KEK = (
    "encrypted by the S3 gateway (SSE-S3), and its key is not configured: set s3.sse.kek or s3.sse.key "
    "in security.toml as the gateway has it, or sse_kek_from_filer"
)


@dataclass(slots=True)
class _Kept:
    """A data key that a KMS has unwrapped, and until when it is used."""

    key: bytes = field(repr=False)
    until: float


class SseKeys:
    """Unwraps data keys; satisfies `filerbackup.source.sse.DataKeys`. Shared by all replicators.

    `read_kek`: how to read the filer's KEK, None where that is not allowed. Data keys from a KMS are
    kept for an hour, as the gateway does; no key is ever written anywhere.
    """

    def __init__(
        self, settings: SseSettings, *, read_kek: ReadKek | None = None, kms: Sequence[Kms] = ()
    ) -> None:
        self._configured = _configured_keks(settings)
        self._passphrase = settings.kek_passphrase.reveal() if settings.kek_passphrase else ""
        self._read_kek = read_kek
        self._filer_kek = b""
        self._filer_kek_read_at = -_READ_AGAIN_S
        self._reading = asyncio.Lock()
        self._kms = tuple(kms)
        self._data_keys: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._asking: WeakValueDictionary[tuple[object, ...], asyncio.Lock] = WeakValueDictionary()

    async def unwrap(self, sealed: SealedKey) -> bytes:
        """The data key. Raises KeyMissing, Unreadable, SourceRefused, SourceUnreachable."""
        if sealed.kind is Kind.KMS:
            return await self._from_kms(sealed)
        for kek in self._configured:
            key = _opened(kek, sealed.nonce, sealed.wrapped)
            if key:
                return key
        if self._read_kek is None:
            if self._configured:
                raise KeyMissing(
                    "encrypted by the S3 gateway (SSE-S3) under another key than s3.sse.kek or s3.sse.key "
                    "in security.toml"
                )
            raise KeyMissing(_NO_KEK)
        return await self._with_filer_kek(sealed, self._read_kek)

    async def close(self) -> None:
        """Forget the keys and close what speaks to a KMS."""
        self._configured, self._filer_kek = (), b""
        self._data_keys.clear()
        for kms in self._kms:
            await kms.close()

    async def _with_filer_kek(self, sealed: SealedKey, read_kek: ReadKek) -> bytes:
        key = _opened(self._filer_kek, sealed.nonce, sealed.wrapped)
        if key:
            return key
        async with self._reading:
            # Somebody may have changed it; who asks for many objects does not read it for each.
            if time.monotonic() - self._filer_kek_read_at >= _READ_AGAIN_S or not self._filer_kek:
                content = await read_kek()
                self._filer_kek = unwrap_kek(content, self._passphrase)
                self._filer_kek_read_at = time.monotonic()
        key = _opened(self._filer_kek, sealed.nonce, sealed.wrapped)
        if not key:
            others = " and than those in security.toml" if self._configured else ""
            raise KeyMissing(
                "encrypted by the S3 gateway (SSE-S3) under another key than the filer's "
                f"{KEK_DIRECTORY}/{KEK_NAME}{others}"
            )
        return key

    async def _from_kms(self, sealed: SealedKey) -> bytes:
        name = (sealed.wrapped, tuple(sorted(sealed.context.items())))
        found = self._kept(name)
        if found:
            return found
        # Several chunks of a part ask at the same time.
        lock = self._asking.setdefault(name, asyncio.Lock())
        async with lock:
            found = self._kept(name)
            if found:
                return found
            key = await self._ask_kms(sealed)
            self._data_keys[name] = _Kept(key, time.monotonic() + _KEEP_S)
            while len(self._data_keys) > _KEPT_DATA_KEYS:
                self._data_keys.popitem(last=False)
            return key

    def _kept(self, name: tuple[object, ...]) -> bytes:
        kept = self._data_keys.get(name)
        if kept is None or kept.until < time.monotonic():
            return b""
        self._data_keys.move_to_end(name)
        return kept.key

    async def _ask_kms(self, sealed: SealedKey) -> bytes:
        envelope = envelope_of(sealed.wrapped)
        refusal: KeyMissing | None = None
        for kms in self._kms:
            if envelope.provider in kms.providers:
                try:
                    return await kms.decrypt(envelope, sealed.context)
                except KeyMissing as error:
                    refusal = refusal or error
        if refusal is not None:
            raise refusal
        if envelope.provider == "local":
            raise KeyMissing(
                "encrypted with SSE-KMS by SeaweedFS's local provider, which keeps its keys in the gateway's "
                "memory only"
            )
        raise KeyMissing(
            f"encrypted with SSE-KMS by provider {envelope.provider!r}, and no [kms.providers] of that type "
            "in security.toml can be asked"
        )


def unwrap_kek(content: bytes, passphrase: str) -> bytes:
    """The KEK that the filer's file holds, in hex or wrapped under the passphrase. Raises KeyMissing."""
    where = f"the filer's {KEK_DIRECTORY}/{KEK_NAME}"
    if not content:
        raise KeyMissing(f"encrypted by the S3 gateway (SSE-S3), and {where} does not exist")
    try:
        kek = bytes.fromhex(content.decode("ascii").strip())
        if len(kek) == KEY_BYTES:
            return kek
    except ValueError:
        pass
    try:
        raw = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        raise KeyMissing(f"{where} holds no key") from None
    if not passphrase:
        raise KeyMissing(f"{where} is wrapped: set s3.sse.kek.passphrase in security.toml")
    salt = _WRAP_SALT
    if raw.startswith(_WRAP_MAGIC) and len(raw) > len(_WRAP_MAGIC) + _SALT_BYTES:
        salt, raw = raw[len(_WRAP_MAGIC) :][:_SALT_BYTES], raw[len(_WRAP_MAGIC) + _SALT_BYTES :]
    kek = _opened(_derived(passphrase, salt, _WRAP_INFO), raw[:NONCE_BYTES], raw[NONCE_BYTES:])
    if len(kek) != KEY_BYTES:
        raise KeyMissing(f"{where} is wrapped under another passphrase than s3.sse.kek.passphrase")
    return kek


def _configured_keks(settings: SseSettings) -> tuple[bytes, ...]:
    if settings.kek:
        return (bytes.fromhex(settings.kek.reveal()),)
    if settings.key:
        return (_derived(settings.key.reveal(), None, _KEK_INFO),)
    return ()


def _derived(secret: str, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret.encode())


def _opened(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """What is inside, or empty when this is not the key."""
    if not key or len(nonce) != NONCE_BYTES:
        return b""
    try:
        return AESGCM(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return b""
