"""Keys of the S3 gateway's server-side encryption, in `security.toml`.

`s3.sse.*` as the gateway reads them. `[kms]` as SeaweedFS's own replication commands read it: it is the
`kms` section of the gateway's JSON configuration, written as TOML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from filerbackup.errors import UsageError
from filerbackup.settings import places, values
from filerbackup.settings.model import ClientTls, KmsSettings, SseSettings
from filerbackup.settings.secret import Secret
from filerbackup.settings.values import BadValue, Raw, Values, printable, shown

T = TypeVar("T")

_PROVIDERS = "kms.providers."
_DEFAULT = "kms.default_provider"
_KEK_BYTES = 32
_SECRETS = frozenset({"secret_key", "session_token", "token", "secret_id"})
_KNOWN = {
    "aws": {"region", "access_key", "secret_key", "session_token", "endpoint", "profile"},
    "openbao": {
        "address", "token", "role_id", "secret_id", "transit_path", "tls_skip_verify",
        "ca_cert", "client_cert", "client_key",
    },
}  # fmt: skip
_KNOWN["vault"] = _KNOWN["openbao"]
_OF_THE_GATEWAY = frozenset(
    {
        "type",
        "cache_enabled",
        "cache_ttl",
        "max_cache_size",
        "connect_timeout",
        "request_timeout",
        "max_retries",
    }
)

Path = Callable[..., str]
"""From a key that names a file to the file's full path; `secret`: others should not read it."""


def providers(raw: Mapping[str, Raw], environ: Mapping[str, str]) -> dict[str, Raw]:
    """What `[kms]` holds, with environment variables such as WEED_KMS_PROVIDERS_AWS1_SECRET_KEY over it."""
    found = {key: value for key, value in raw.items() if key == _DEFAULT or _name_of(key)}
    for name in {_name_of(key) for key in found} - {""}:
        for leaf in sorted({leaf for known in _KNOWN.values() for leaf in known}):
            key = f"{_PROVIDERS}{name}.{leaf}"
            variable = "WEED_" + key.upper().replace(".", "_").replace("-", "_")
            if value := environ.get(variable):
                origin = f"environment variable {variable}"
                found[key] = Raw(value, origin, origin)
    return found


def has_secret(raw: Mapping[str, Raw]) -> bool:
    """Whether a provider's secret is among the keys of a file."""
    return any(_name_of(key) and key.rpartition(".")[2] in _SECRETS and raw[key].value for key in raw)


def encryption(found: Values, path: Path, warnings: list[str]) -> SseSettings:
    """What decrypts objects of the S3 gateway. Raises UsageError."""
    kek, key = found.get("s3.sse.kek", _as_kek, None), found.get("s3.sse.key", _as_key, None)
    if kek and key:
        raise UsageError(
            f"{found.label('s3.sse.key')}: set while s3.sse.kek is set too",
            hint="The gateway has one of the two; use that one.",
        )
    return SseSettings(
        kek=kek,
        key=key,
        kek_passphrase=found.get("s3.sse.kek.passphrase", _as_key, None),
        kms=tuple(_services(found, path, warnings)),
    )


def _services(found: Values, path: Path, warnings: list[str]) -> Iterator[KmsSettings]:
    names = dict.fromkeys(name for key in found.under(_PROVIDERS) if (name := _name_of(key)))
    default = found.get(_DEFAULT, values.as_text, "").lower()
    for name in sorted(names, key=lambda name: name != default):
        service = _Service(found, name, path, warnings).read()
        if service is not None:
            yield service


class _Service:
    """Reads one `[kms.providers.<name>]`."""

    def __init__(self, found: Values, name: str, path: Path, warnings: list[str]) -> None:
        self._found = found
        self._name = name
        self._above = f"{_PROVIDERS}{name}."
        self._path = path
        self._warnings = warnings

    def read(self) -> KmsSettings | None:
        kind = self._get("type", values.as_text, "").lower()
        label = self._found.label(self._above + "type")
        if kind not in _KNOWN:
            self._warnings.append(
                f"{label}: {shown(kind)} cannot be asked: what is encrypted with it becomes dead letters"
            )
            return KmsSettings(self._name, kind)
        for key in self._found.under(self._above):
            if key.rpartition(".")[2] not in _KNOWN[kind] | _OF_THE_GATEWAY:
                self._warnings.append(f"{self._found.label(key)}: not supported, ignored")
        return self._aws() if kind == "aws" else self._transit(kind)

    def _aws(self) -> KmsSettings:
        self._both_or_neither("access_key", "secret_key")
        return KmsSettings(
            self._name,
            "aws",
            endpoint=self._get("endpoint", places.as_endpoint, ""),
            region=self._get("region", values.as_text, ""),
            profile=self._get("profile", values.as_text, ""),
            access_key_id=self._get("access_key", values.as_text, ""),
            secret_access_key=self._secret("secret_key"),
            session_token=self._secret("session_token"),
        )

    def _transit(self, kind: str) -> KmsSettings:
        token, role = self._secret("token"), self._get("role_id", values.as_text, "")
        if not token and not (role and self._secret("secret_id")):
            raise UsageError(
                f"{self._found.label(self._above + 'token')}: missing", hint="or role_id and secret_id"
            )
        self._both_or_neither("client_cert", "client_key")
        if self._get("tls_skip_verify", values.as_bool, False):
            label = self._found.label(self._above + "tls_skip_verify")
            self._warnings.append(f"{label}: not supported, server certificates are always checked")
        return KmsSettings(
            self._name,
            kind,
            endpoint=self._get("address", places.as_endpoint, "") or "http://localhost:8200",
            token=token,
            role_id=role,
            secret_id=self._secret("secret_id"),
            transit_path=self._get("transit_path", values.as_text, "") or "transit",
            tls=ClientTls(
                ca=self._path(self._above + "ca_cert"),
                cert=self._path(self._above + "client_cert"),
                key=self._path(self._above + "client_key", secret=True),
            ),
        )

    def _both_or_neither(self, one: str, other: str) -> None:
        given = [leaf for leaf in (one, other) if self._secret(leaf)]
        if len(given) == 1:
            missing = other if given == [one] else one
            raise UsageError(f"{self._found.label(self._above + missing)}: missing, while {given[0]} is set")

    def _get(self, leaf: str, parse: Callable[[object], T], default: T) -> T:
        return self._found.get(self._above + leaf, parse, default)

    def _secret(self, leaf: str) -> Secret:
        return self._get(leaf, values.as_secret, Secret())


def _name_of(key: str) -> str:
    """The provider whose key this is, or empty."""
    if not key.startswith(_PROVIDERS):
        return ""
    name, _, leaf = key.removeprefix(_PROVIDERS).partition(".")
    return name if leaf and "." not in leaf and printable(name) == name else ""


def _as_key(value: object) -> Secret | None:
    return values.as_secret(value) or None


def _as_kek(value: object) -> Secret | None:
    secret = _as_key(value)
    if secret is None:
        return None
    try:
        if len(bytes.fromhex(secret.reveal())) == _KEK_BYTES:
            return secret
    except ValueError:
        pass
    # The value itself stays out of the message.
    raise BadValue(f"must be {_KEK_BYTES} bytes as {2 * _KEK_BYTES} hexadecimal digits")
