"""What a request carries to say who sends it: a signature with the account's key, or a token.

The signature is "Shared Key" as Microsoft's documentation describes it for the blob service: an
HMAC-SHA256 over the method, some headers, all `x-ms-` headers and the resource. The SDK signs in
the same way, for three times the CPU of the whole request here.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Mapping, MutableMapping
from email.utils import formatdate
from typing import Protocol

from filerbackup.errors import UsageError
from filerbackup.settings.secret import Secret
from filerbackup.sinks.azure.identity import Tokens

API_VERSION = "2021-12-02"
"""The oldest that has all that is used (tier Cold, tags, encoded names, blocks of 4,000 MiB)."""
_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip
_ORDER = str.maketrans({"-": None, "_": "!"})
"""The service sorts by culture and not by bytes: "-" counts nothing, "_" comes before digits."""


class Signer(Protocol):
    """Adds what identifies the sender. Header names are in lower case."""

    async def sign(
        self, method: str, path: str, query: Mapping[str, str], headers: MutableMapping[str, str]
    ) -> None:
        """Add `authorization` and what it needs. `path`: as in the URL, encoded; `query`: not encoded.

        Raises Unanswered where no token can be had.
        """
        ...

    def renew(self) -> bool:
        """What was sent is too old: whether there may be something newer now."""
        ...


class SharedKey:
    """Signs with the account's key. Raises UsageError for a key that is none."""

    def __init__(self, account: str, key: Secret) -> None:
        try:
            self._key = base64.b64decode(key.reveal(), validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(
                "[sink.azure] account_key is not a key of a storage account (base64)",
                hint="take it from the account's page 'Access keys', whole, without quotes",
            ) from None
        self._account = account
        self._second, self._date = 0, ""

    async def sign(
        self, method: str, path: str, query: Mapping[str, str], headers: MutableMapping[str, str]
    ) -> None:
        """See the protocol."""
        self.sign_now(method, path, query, headers)

    def sign_now(
        self, method: str, path: str, query: Mapping[str, str], headers: MutableMapping[str, str]
    ) -> None:
        """As `sign`; a key needs no waiting."""
        headers["x-ms-date"] = self._now()
        lines = [method]
        for name in _SIGNED:
            value = headers.get(name, "")
            lines.append("" if name == "content-length" and value == "0" else value)
        own = [name for name in headers if name.startswith("x-ms-")]
        own.sort(key=lambda name: name.translate(_ORDER))
        lines += [f"{name}:{headers[name]}" for name in own]
        lines.append(f"/{self._account}{path}")
        lines += [f"{name}:{query[name]}" for name in sorted(query)]
        digest = hmac.digest(self._key, "\n".join(lines).encode(), "sha256")
        headers["authorization"] = f"SharedKey {self._account}:{base64.b64encode(digest).decode()}"

    def renew(self) -> bool:
        """Never: a key does not change by itself."""
        return False

    def _now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date


class Bearer:
    """Sends a token of Entra ID."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def sign(
        self, method: str, path: str, query: Mapping[str, str], headers: MutableMapping[str, str]
    ) -> None:
        """See the protocol."""
        headers["authorization"] = f"Bearer {await self._tokens.token()}"

    def renew(self) -> bool:
        """The next request asks for a new token."""
        self._tokens.forget()
        return True
