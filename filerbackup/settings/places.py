"""Parsers for where things are: filers, folders, directories, S3 services and buckets."""

from __future__ import annotations

import ipaddress
import os.path
import re
from urllib.parse import urlsplit

from filerbackup.settings.values import BadValue, as_choice, as_list, as_text, shown

GRPC_PORT_OFFSET = 10_000
"""How far a SeaweedFS server's gRPC port lies above its HTTP port unless its address says otherwise."""

_FILER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):([0-9]{1,5})(?:\.([0-9]{1,5}))?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/._-]{1,1024}")
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
    host, port, grpc = match[1], int(match[2]), match[3]
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1].partition("%")[0])
        except ValueError:
            raise BadValue(f"not an IPv6 address: {shown(host)}") from None
    elif not _HOST.fullmatch(host):
        raise BadValue(f"not a host name: {shown(host)}")
    grpc_port = int(grpc) if grpc else port + GRPC_PORT_OFFSET
    if not 1 <= port <= 65535 or (grpc and not 1 <= grpc_port <= 65535):
        raise BadValue(f"a port must be from 1 to 65535, not as in {shown(address)}")
    if grpc_port > 65535:
        raise BadValue(
            f"the gRPC port {grpc_port} (port + {GRPC_PORT_OFFSET}) of {shown(address)} does not exist: "
            "give it as host:port.grpcPort"
        )


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


def as_endpoint(value: object) -> str:
    """The URL of the service. Without a scheme it is https, as weed's S3 library has it."""
    text = as_text(value).strip()
    if not text:
        return ""
    problem = 'must be a URL such as "https://s3.example.com" or "http://host:8333"'
    try:
        url = urlsplit(text if "://" in text else "https://" + text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise BadValue(problem) from None
    if "@" in text:
        raise BadValue(f"{problem}, without a user name and password in it")
    plain = not (url.query or url.fragment or url.path.strip("/"))
    if url.scheme not in ("http", "https") or not host or not plain or any(c.isspace() for c in text):
        raise BadValue(f"{problem}, not {shown(text)}")
    return f"{url.scheme}://{url.netloc}"


def as_storage_class(value: object) -> str:
    """The name of a storage class; services have names of their own."""
    text = as_text(value)
    if not _STORAGE_CLASS.fullmatch(text):
        raise BadValue(f"must be a storage class such as STANDARD_IA, not {shown(text)}")
    return text


def as_canned_acl(value: object) -> str:
    """A canned ACL of S3, or empty."""
    return "" if value == "" else as_choice(*_CANNED_ACLS)(value)
