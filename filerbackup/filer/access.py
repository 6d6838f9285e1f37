"""What volume servers ask for: a token for reading, and TLS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl

from filerbackup.errors import UsageError
from filerbackup.settings.model import ClientTls
from filerbackup.settings.secret import Secret

_TOKEN_LIFE_S = 600


def read_token(key: Secret, file_id: str, now: float) -> str:
    """The JSON Web Token (HS256) that a volume server wants for one chunk; bound to its file id."""
    claims = {"fid": file_id.partition("_")[0], "exp": int(now) + _TOKEN_LIFE_S}
    body = _base64url(json.dumps(claims, separators=(",", ":")).encode())
    signed = f"{_TOKEN_HEADER}.{body}"
    mac = hmac.digest(key.reveal().encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64url(mac)}"


def tls_context(tls: ClientTls) -> ssl.SSLContext:
    """For HTTPS to volume servers and filers. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key or None)
    except (OSError, ssl.SSLError) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"cannot use the TLS files of https.client: {said}",
            hint="check ca, cert and key of [https.client] in security.toml",
        ) from None
    return context


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_TOKEN_HEADER = _base64url(b'{"alg":"HS256","typ":"JWT"}')
