"""Parsers for where things are: filers, folders, directories, services, buckets and containers."""

from __future__ import annotations

import ipaddress
import os.path
import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from filerbackup.settings.values import BadValue, as_choice, as_list, as_text, shown

GRPC_PORT_OFFSET = 10_000
"""How far a SeaweedFS server's gRPC port lies above its HTTP port unless its address says otherwise."""

_FILER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):([0-9]{1,5})(?:\.([0-9]{1,5}))?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/._-]{1,1024}")
_GCS_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_AZURE_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_AZURE_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*|\$web")
_B2_BUCKET = re.compile(r"(?!b2-)[A-Za-z0-9-]{6,63}")
_REPLICATION = re.compile(r"[0-9]{0,3}")
_CANNED_ACLS = (
    "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read",
    "bucket-owner-read", "bucket-owner-full-control",
)  # fmt: skip
_STORAGE_CLASS = re.compile(r"[A-Za-z0-9_-]{0,64}")


def as_filers(value: object) -> tuple[str, ...]:
    """Filer addresses, each once; an item of a list may hold several with commas, too."""
    addresses = dict.fromkeys(address for item in as_list(value) for address in as_list(item))
    if not addresses:
        raise BadValue("must name a filer as host:port")
    for address in addresses:
        _check_filer(address)
    return tuple(addresses)


def _check_filer(address: str) -> None:
    match = _FILER.fullmatch(address)
    if match is None:
        raise BadValue(f"must be host:port or host:port.grpcPort without http://, not {shown(address)}")
    port, grpc = int(match[2]), match[3]
    _check_host(match[1])
    grpc_port = int(grpc) if grpc else port + GRPC_PORT_OFFSET
    if not 1 <= port <= 65535 or (grpc and not 1 <= grpc_port <= 65535):
        raise BadValue(f"a port must be from 1 to 65535, not as in {shown(address)}")
    if grpc_port > 65535:
        raise BadValue(
            f"the gRPC port {grpc_port} (port + {GRPC_PORT_OFFSET}) of {shown(address)} does not exist: "
            "give it as host:port.grpcPort"
        )


def _check_host(host: str) -> None:
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1].partition("%")[0])
        except ValueError:
            raise BadValue(f"not an IPv6 address: {shown(host)}") from None
    elif not _HOST.fullmatch(host):
        raise BadValue(f"not a host name: {shown(host)}")


def as_grpc_address(value: object) -> str:
    """The gRPC address of one filer, `host:grpcPort`."""
    address = as_text(value).strip()
    match = _FILER.fullmatch(address)
    if match is None or match[3] is not None:
        raise BadValue(
            f"must be one host:grpcPort without http:// (the gRPC port is the filer's port + "
            f"{GRPC_PORT_OFFSET}), not {shown(address)}"
        )
    _check_host(match[1])
    if not 1 <= int(match[2]) <= 65535:
        raise BadValue(f"a port must be from 1 to 65535, not as in {shown(address)}")
    return address


def grpc_endpoint(address: str) -> tuple[str, int]:
    """Host, to compare by, and gRPC port of a filer's `host:port[.grpcPort]`."""
    host, _, ports = address.rpartition(":")
    port, _, grpc = ports.partition(".")
    return comparable_host(host), int(grpc) if grpc else int(port) + GRPC_PORT_OFFSET


def comparable_host(name: str) -> str:
    """A host to compare by: all names of this machine's loopback are one."""
    name = name.strip("[]").lower().rstrip(".")
    try:
        return "localhost" if ipaddress.ip_address(name).is_loopback else name
    except ValueError:
        return name


def as_filer_folder(value: object) -> str:
    """A folder of the filer, without a trailing slash."""
    path = as_text(value)
    if not path.startswith("/"):
        raise BadValue(f"must be an absolute path on the filer such as /buckets/photos, not {shown(path)}")
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise BadValue('must not hold "." or ".." as a component')
    return "/" + "/".join(parts)


def as_local_directory(value: object) -> str:
    """A directory of this machine: absolute, without a trailing slash."""
    text = as_text(value)
    if not text.startswith("/"):
        raise BadValue(f"must be an absolute path such as /data/backup, not {shown(text)}")
    if ".." in text.split("/"):
        raise BadValue('must not hold ".."')
    directory = os.path.normpath("/" + text.lstrip("/"))
    if directory == "/":
        raise BadValue("must be a directory of its own, not the root of this machine")
    return directory


def as_target_folder(value: object) -> str:
    """A folder of the filer that is copied to, without a trailing slash."""
    folder = as_filer_folder(value)
    if folder == "/":
        raise BadValue("must be a folder of its own, not the root, which holds the target's own files too")
    return folder


def as_key_directory(value: object) -> str:
    """A directory of an object store: a leading slash, no trailing one."""
    parts = [part for part in as_text(value).split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise BadValue('must not hold "." or ".." as a component')
    return "/" + "/".join(parts)


def as_bucket(value: object) -> str:
    """The name of a bucket, or the ARN of an access point."""
    text = as_text(value)
    if not _BUCKET.fullmatch(text):
        raise BadValue(f"must be the name of a bucket alone, without s3:// or a path, not {shown(text)}")
    return text


def as_gcs_bucket(value: object) -> str:
    """The name of a bucket of Google Cloud Storage."""
    text = as_text(value)
    if not _GCS_BUCKET.fullmatch(text):
        raise BadValue(
            "must be the name of a bucket alone (lower-case letters, digits, -, _ and dots), without gs:// "
            f"or a path, not {shown(text)}"
        )
    return text


def as_b2_bucket(value: object) -> str:
    """The name of a bucket of Backblaze B2."""
    text = as_text(value)
    if not _B2_BUCKET.fullmatch(text):
        raise BadValue(
            f"must be the name of a bucket (6 to 63 letters, digits and -), without a path, not {shown(text)}"
        )
    return text


def as_azure_account(value: object) -> str:
    """The name of a storage account, which becomes a part of a host name."""
    text = as_text(value)
    if not _AZURE_ACCOUNT.fullmatch(text):
        raise BadValue(
            "must be the name of a storage account (3 to 24 lower-case letters and digits), without "
            f".blob.core.windows.net, not {shown(text)}"
        )
    return text


def as_azure_container(value: object) -> str:
    """The name of a container."""
    text = as_text(value)
    if not _AZURE_CONTAINER.fullmatch(text):
        raise BadValue(
            "must be the name of a container (3 to 63 lower-case letters, digits and single -), without a "
            f"path, not {shown(text)}"
        )
    return text


def as_endpoint(value: object) -> str:
    """The URL of the service. Without a scheme it is https, as weed's S3 library has it."""
    problem = 'must be a URL such as "https://s3.example.com" or "http://host:8333"'
    url = _as_url(value, problem)
    if url is None:
        return ""
    if url.path.strip("/"):
        raise BadValue(f"{problem}, not {shown(value)}")
    return f"{url.scheme}://{url.netloc}"


def as_azure_endpoint(value: object) -> str:
    """The URL of a blob service, without a trailing slash. Some have the account as a path."""
    problem = 'must be the URL of a blob service such as "https://account.blob.core.usgovcloudapi.net"'
    url = _as_url(value, problem)
    if url is None:
        return ""
    path = url.path.strip("/")
    if path and not _AZURE_ACCOUNT.fullmatch(path):
        raise BadValue(f"{problem}, without a container, not {shown(value)}")
    return f"{url.scheme}://{url.netloc}" + (f"/{path}" if path else "")


def _as_url(value: object, problem: str) -> SplitResult | None:
    text = as_text(value).strip()
    if not text:
        return None
    try:
        url = urlsplit(text if "://" in text else "https://" + text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise BadValue(problem) from None
    # What may be a password or a token is not repeated.
    if "@" in text or "?" in text:
        raise BadValue(f"{problem}, without a password or a token in it")
    if url.scheme not in ("http", "https") or not host or url.fragment or any(c.isspace() for c in text):
        raise BadValue(f"{problem}, not {shown(text)}")
    return url


def as_storage_class(value: object) -> str:
    """The name of a storage class of S3; services have names of their own."""
    text = as_text(value)
    if not _STORAGE_CLASS.fullmatch(text):
        raise BadValue(f'must be a storage class such as STANDARD_IA, or "source", not {shown(text)}')
    return text


def as_one_of_classes(*names: str) -> Callable[[object], str]:
    """A parser for a storage class of a service that has these; capitals do not matter. Empty is none."""
    spelled = {name.lower(): name for name in names}

    def parse(value: object) -> str:
        text = as_text(value)
        if text and text.lower() not in spelled:
            raise BadValue(f"must be one of {', '.join(names)}, not {shown(text)}")
        return spelled.get(text.lower(), "")

    return parse


def as_replication(value: object) -> str:
    """How many copies a SeaweedFS cluster keeps and where, up to three digits; empty is its default."""
    text = as_text(value)
    if not _REPLICATION.fullmatch(text) or int(text or "0") > 255:
        raise BadValue(f'must be the replication of a volume such as "001", not {shown(text)}')
    return text


def as_canned_acl(value: object) -> str:
    """A canned ACL of S3, or empty."""
    return "" if value == "" else as_choice(*_CANNED_ACLS)(value)
