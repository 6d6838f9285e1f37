"""TLS towards filers and volume servers: from the files of `security.toml` to what a connection needs."""

from __future__ import annotations

import enum
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from filerbackup.errors import UsageError
from filerbackup.settings.model import ClientTls


class Keys(NamedTuple):
    """What `security.toml` calls the three files, for messages."""

    ca: str
    cert: str
    key: str


GRPC = Keys("grpc.ca", "grpc.client.cert", "grpc.client.key")
HTTPS = Keys("https.client.ca", "https.client.cert", "https.client.key")

_DATES = (9, 10)
_NAMES = (62, 64)
"""OpenSSL's numbers of what a verification can find: too early, too late; host name, IP address."""
_MOST_LINKS = 8


class Fault(enum.Enum):
    """What a failed handshake means."""

    OUT_OF_DATE = "the server's certificate has run out or is not good yet"
    OTHER_NAME = "the server's certificate is for another host"
    UNTRUSTED = "the server's certificate is not from the authority that we trust"
    REFUSED = "the server refuses our certificate, or asks for one"
    NO_TLS = "the server does not speak TLS"
    OTHER = "the handshake failed"


def fault_of(error: ssl.SSLError) -> Fault:
    """From OpenSSL's words to ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _DATES:
            return Fault.OUT_OF_DATE
        return Fault.OTHER_NAME if error.verify_code in _NAMES else Fault.UNTRUSTED
    reason = said(error)
    if "alert" in reason and any(word in reason for word in ("cert", "unknown ca", "access denied")):
        return Fault.REFUSED
    if any(word in reason for word in ("wrong version", "record layer", "packet length", "http request")):
        return Fault.NO_TLS
    return Fault.OTHER


def said(error: ssl.SSLError) -> str:
    """OpenSSL's reason, in lower case."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or "").replace("_", " ").lower()


def refusal_in(error: BaseException) -> ssl.SSLError | None:
    """What one side said about TLS, if that is behind an error; a connection that was cut is not."""
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if link is None:
            break
        # aiohttp keeps OpenSSL's own error in an attribute, of one that only looks like it.
        for found in (getattr(link, "certificate_error", None), getattr(link, "os_error", None), link):
            if isinstance(found, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                return None
            if isinstance(found, ssl.SSLError):
                return found
        link = link.__cause__ or link.__context__
    return None


def tls_context(tls: ClientTls, keys: Keys = HTTPS) -> ssl.SSLContext:
    """Checks chain, dates and name of a server, and shows it our certificate if there is one.

    Raises UsageError, naming the file, for files that cannot be used or a certificate out of date.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(keys.ca, tls.ca, error) from None
    if tls.ca:
        # From Python 3.13 on demands extensions that neither Go nor older Pythons ask for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.cert:
        own = own_certificate(tls, keys)
        now = datetime.now(UTC)
        if not own.not_valid_before_utc <= now <= own.not_valid_after_utc:
            raise UsageError(
                f"{keys.cert}: {tls.cert} is good from {_day(own.not_valid_before_utc)} "
                f"to {_day(own.not_valid_after_utc)}, and now it is {_day(now)}",
                hint="renew the certificate; if it should be good today, check this host's clock",
            )
        load_own(context, tls, keys)
    return context


def load_own(context: ssl.SSLContext, tls: ClientTls, keys: Keys = HTTPS) -> None:
    """Show this certificate on connections from now on. Raises UsageError.

    In the thread that makes connections with the context: OpenSSL has no lock for it.
    """
    try:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(tls.cert, tls.key or None, password="")
    except (OSError, ssl.SSLError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"{keys.key}: {tls.key} is not the key of {tls.cert}",
                hint=f"{keys.cert} and {keys.key} must be a pair, made together",
            ) from None
        raise _unusable(keys.key, f"{tls.key} (for {tls.cert})", error) from None


def own_certificate(tls: ClientTls, keys: Keys = HTTPS) -> x509.Certificate:
    """The first certificate of the file. Raises UsageError."""
    try:
        return x509.load_pem_x509_certificates(Path(tls.cert).read_bytes())[0]
    except (OSError, ValueError) as error:
        raise _unusable(keys.cert, tls.cert, error) from None


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that a certificate is for; without any, its common name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return common_names(certificate.subject)
    return [
        *found.get_values_for_type(x509.DNSName),
        *map(str, found.get_values_for_type(x509.IPAddress)),
    ] or common_names(certificate.subject)


def common_names(of: x509.Name) -> list[str]:
    """The common name, in a list that is empty without one."""
    return [str(attribute.value) for attribute in of.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _unusable(key: str, file: str, error: Exception) -> UsageError:
    match error:
        case ssl.SSLError():
            why = said(error) or "not a PEM key without a password"
        case OSError():
            why = error.strerror or type(error).__name__
        case _:
            why = "no PEM certificate in it"
    return UsageError(
        f"{key}: {file} cannot be used: {why}",
        hint="TLS files are PEM, readable for this user, keys without a password; see security.toml",
    )


def _day(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%MZ")
