"""What volume servers and filers ask for before they give file content: a signed token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

from filerbackup.settings.secret import Secret

TOKEN_LIFE_S = 600
"""A server compares this with its own clock, which may be ahead of ours by nearly as much.

Nothing in a token says when it was made, so that a clock that is behind ours does not matter.
"""


def read_token(key: Secret, file_id: str, now: float) -> str:
    """The JSON Web Token (HS256) that a volume server wants for one chunk; bound to its file id."""
    return _signed(key, {"fid": file_id.partition("_")[0], "exp": int(now) + TOKEN_LIFE_S})


def filer_token(key: Secret, now: float) -> str:
    """The JSON Web Token (HS256) that a filer wants for reads."""
    return _signed(key, {"exp": int(now) + TOKEN_LIFE_S})


def _signed(key: Secret, claims: Mapping[str, object]) -> str:
    body = _base64url(_compact(claims).encode())
    signed = f"{_TOKEN_HEADER}.{body}"
    mac = hmac.digest(key.reveal().encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64url(mac)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_TOKEN_HEADER = _base64url(b'{"alg":"HS256","typ":"JWT"}')
_compact = json.JSONEncoder(separators=(",", ":")).encode
