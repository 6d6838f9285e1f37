"""A SeaweedFS that asks for certificates and tokens, as its own security.toml says."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import Authority, Identity
from tests.support.weed import WeedServer

WRITE_KEY = "signs writes to volume servers"
READ_KEY = "signs reads from volume servers"
FILER_WRITE_KEY = "signs writes to filers"
FILER_READ_KEY = "signs reads from filers"

_COMPONENTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, slots=True)
class Asks:
    """What a cluster asks of its clients.

    `grpc`: a certificate, on gRPC. `https`: TLS on HTTP; `https_client`: with a certificate.
    `jwt`: signed tokens, for volume servers and filers, for reads and writes. `names`: the servers'
    certificates are for the hosts on which they run.
    """

    grpc: bool = False
    https: bool = False
    https_client: bool = False
    jwt: bool = False
    names: bool = True


@dataclass(slots=True)
class Pki:
    """All the certificates: the right ones and the wrong ones."""

    directory: Path
    authority: Authority = field(init=False)
    other: Authority = field(init=False)
    server: Identity = field(init=False)
    client: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority(self.directory, "authority")
        self.other = Authority(self.directory / "other", "other-authority")
        self.server = self.authority.issue("server")
        self.client = self.authority.issue("client", hosts=())


class SecuredWeed(WeedServer):
    """Master, volume server and filer in one process, secured as `asks` says.

    The files of the servers' certificate, `served`, are read again about every half second.
    """

    def __init__(self, directory: Path, asks: Asks) -> None:
        super().__init__(directory, filer_args=["-s3=false"], volume_max=20)
        self.asks = asks
        self.pki = Pki(directory / "pki")
        served = self.pki.server if asks.names else self.pki.authority.issue("filer01", hosts=())
        self.served = Identity(directory / "pki/served.crt", directory / "pki/served.key")
        self.serve(served)
        (directory / "security.toml").write_text(self._security())
        self.environ = {"WEED_TLS_CERT_REFRESH_INTERVAL": "500ms"}

    def serve(self, identity: Identity) -> None:
        """Have the servers show this certificate, in a while if they are running."""
        for source, target in ((identity.key, self.served.key), (identity.cert, self.served.cert)):
            fresh = target.with_suffix(".new")
            shutil.copy(source, fresh)
            fresh.replace(target)

    def _security(self) -> str:
        ca, cert, key = self.pki.authority.ca, self.served.cert, self.served.key
        lines: list[str] = []
        if self.asks.grpc:
            lines += ["[grpc]", f'ca = "{ca}"']
            for component in (*_COMPONENTS, "client"):
                names = (
                    [f'allowed_commonNames = "{self.pki.client.cert.stem}"'] if component == "filer" else []
                )
                # What a component shows as a client stays good whatever it shows as a server.
                lines += [f"[grpc.{component}]", f'cert = "{cert}"', f'key = "{key}"']
                lines += [f'client_cert = "{self.pki.client.cert}"', f'client_key = "{self.pki.client.key}"']
                lines += names
        if self.asks.https:
            lines += ["[https.client]", "enabled = true", "insecure_skip_verify = true", f'ca = "{ca}"']
            lines += [f'cert = "{self.pki.client.cert}"', f'key = "{self.pki.client.key}"']
            for component in ("volume", "filer"):
                lines += [f"[https.{component}]", f'cert = "{cert}"', f'key = "{key}"']
                if self.asks.https_client:
                    lines += [f'ca = "{ca}"']
            if not self.asks.https_client:
                lines += ["disable_tls_verify_client_cert = true"]
        if self.asks.jwt:
            lines += ["[jwt.signing]", f'key = "{WRITE_KEY}"', "[jwt.signing.read]", f'key = "{READ_KEY}"']
            lines += ["[jwt.filer_signing]", f'key = "{FILER_WRITE_KEY}"']
            lines += ["[jwt.filer_signing.read]", f'key = "{FILER_READ_KEY}"']
        return "\n".join(lines) + "\n"

    def put(self, path: str, data: bytes, *, query: str = "", headers: dict[str, str] | None = None) -> int:
        """Write a file; returns the HTTP status."""
        return super().put(
            path, data, query=query, headers={**self._token(FILER_WRITE_KEY), **(headers or {})}
        )

    def _token(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(key)}"} if self.asks.jwt else {}

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        if not self.asks.https:
            with super()._connection() as connection:
                yield connection
            return
        context = ssl.create_default_context(cafile=str(self.pki.authority.ca))
        context.check_hostname = False
        context.load_cert_chain(self.pki.client.cert, self.pki.client.key)
        connection = http.client.HTTPSConnection("127.0.0.1", self.filer_port, timeout=60, context=context)
        try:
            yield connection
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        return self.put("/.probe/ready", b"ready" * 1000) < 300


def token(key: str, **claims: object) -> str:
    """A JSON Web Token for a minute."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"exp": int(time.time()) + 60, **claims}]
    text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_base64url(hmac.digest(key.encode(), text.encode(), hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
