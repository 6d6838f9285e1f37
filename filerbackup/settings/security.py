"""`security.toml`: what of it a client needs. The rest of that file is for servers, and not looked at."""

from __future__ import annotations

from pathlib import Path

from filerbackup.errors import UsageError
from filerbackup.settings import values
from filerbackup.settings.encryption import encryption
from filerbackup.settings.files import named_file, open_to_others
from filerbackup.settings.model import ClientTls, SecuritySettings
from filerbackup.settings.secret import Secret
from filerbackup.settings.values import Values


class _Material:
    """Resolves the files that TLS keys name."""

    def __init__(self, found: Values, bases: list[Path], warnings: list[str]) -> None:
        self._found = found
        self._bases = bases
        self._warnings = warnings

    def named(self, key: str) -> bool:
        return bool(self._found.get(key, values.as_text, ""))

    def path(self, key: str, *, secret: bool = False) -> str:
        """The file's full path, or empty when the key is. Raises UsageError when it cannot be read."""
        text = self._found.get(key, values.as_text, "")
        if not text:
            return ""
        file = named_file(text, self._found.label(key), self._bases)
        if secret and (warning := open_to_others(file)):
            self._warnings.append(warning)
        return str(file)


def security(found: Values, *, file: Path | None, cwd: Path, warnings: list[str]) -> SecuritySettings:
    """TLS files and signing keys. Raises UsageError.

    A relative path is looked for beside the file that names it, then in the working directory,
    where weed looks.
    """
    material = _Material(found, [file.parent, cwd] if file is not None else [cwd], warnings)
    return SecuritySettings(
        grpc=_grpc(found, material, warnings),
        https=_https(found, material, warnings),
        volume_read_key=_key(found, "jwt.signing.read.key"),
        filer_read_key=_key(found, "jwt.filer_signing.read.key"),
        sse=encryption(found, material.path, warnings),
    )


def _key(found: Values, key: str) -> Secret | None:
    return found.get(key, values.as_secret, Secret()) or None


def _grpc(found: Values, material: _Material, warnings: list[str]) -> ClientTls | None:
    cert, key = "grpc.client.client_cert", "grpc.client.client_key"
    if not (material.named(cert) and material.named(key)):
        if material.named(cert) or material.named(key):
            given = cert if material.named(cert) else key
            warnings.append(
                f"{found.label(given)}: ignored, since client_cert and client_key are only used together"
            )
        cert, key = "grpc.client.cert", "grpc.client.key"
    _both_or_neither(found, material, cert, key)
    if not material.named(cert):
        if material.named("grpc.ca"):
            warnings.append(
                f"{found.label('grpc.ca')}: not used, since grpc.client has no cert and key: "
                "connections to the filer are in plain text"
            )
        return None
    if not material.named("grpc.ca"):
        raise UsageError(
            f"{found.label('grpc.ca')}: missing, while {cert} is set",
            hint="SeaweedFS speaks TLS only with ca, cert and key together.",
        )
    return ClientTls(
        ca=material.path("grpc.ca"),
        cert=material.path(cert),
        key=material.path(key, secret=True),
        server_name=found.get("grpc.client.server_name", values.as_text, ""),
    )


def _https(found: Values, material: _Material, warnings: list[str]) -> ClientTls | None:
    if not found.get("https.client.enabled", values.as_bool, False):
        return None
    skip = "https.client.insecure_skip_verify"
    if found.get(skip, values.as_bool, False):
        warnings.append(f"{found.label(skip)}: not supported, server certificates are always checked")
    cert, key = "https.client.cert", "https.client.key"
    _both_or_neither(found, material, cert, key)
    return ClientTls(
        ca=material.path("https.client.ca"), cert=material.path(cert), key=material.path(key, secret=True)
    )


def _both_or_neither(found: Values, material: _Material, cert: str, key: str) -> None:
    if material.named(cert) != material.named(key):
        given, missing = (cert, key) if material.named(cert) else (key, cert)
        raise UsageError(f"{found.label(missing)}: missing, while {given} is set")
