"""What requests carry: an object's description with its bytes, the fields that change, deletes in bulk."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from filerbackup.sinks.gcs.dialect import with_google_names
from filerbackup.sinks.metadata import ObjectMetadata

JSON_TYPE = "application/json; charset=UTF-8"
BOUNDARY = f"filerbackup-{secrets.token_hex(16)}"
"""Nobody who could put it into a file knows it."""
RELATED_TYPE = f"multipart/related; boundary={BOUNDARY}"
MIXED_TYPE = f"multipart/mixed; boundary={BOUNDARY}"
END = f"\r\n--{BOUNDARY}--\r\n".encode()
_FIELDS = {
    "cacheControl": "cache_control",
    "contentDisposition": "content_disposition",
    "contentEncoding": "content_encoding",
    "contentLanguage": "content_language",
}


def resource(name: str, metadata: ObjectMetadata, md5: bytes = b"") -> dict[str, object]:
    """The object as it shall be. With `md5` the service takes no other bytes.

    Google knows no `Expires` and no tags.
    """
    fields: dict[str, object] = {
        "name": name,
        "contentType": metadata.content_type,
        "metadata": with_google_names(name, metadata.user),
    }
    if metadata.storage_class:
        fields["storageClass"] = metadata.storage_class
    for field, attribute in _FIELDS.items():
        if value := getattr(metadata, attribute):
            fields[field] = value
    if md5:
        fields["md5Hash"] = base64.b64encode(md5).decode()
    return fields


def patch(name: str, metadata: ObjectMetadata, before: Mapping[str, str]) -> dict[str, object]:
    """What makes an object's metadata just this: what is not in it any more is null.

    The storage class stays: a change of it would be a new object.
    """
    user: dict[str, str | None] = dict.fromkeys(before)
    user.update(with_google_names(name, metadata.user))
    fields: dict[str, object] = {"contentType": metadata.content_type, "metadata": user}
    for field, attribute in _FIELDS.items():
        fields[field] = getattr(metadata, attribute) or None
    return fields


def dumped(value: object) -> bytes:
    """As JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def opening(fields: Mapping[str, object], content_type: str) -> bytes:
    """What stands before the bytes in an upload of the form `multipart`; `END` stands behind."""
    return (
        f"--{BOUNDARY}\r\nContent-Type: {JSON_TYPE}\r\n\r\n".encode()
        + dumped(fields)
        + f"\r\n--{BOUNDARY}\r\nContent-Type: {content_type}\r\n\r\n".encode()
    )


def object_path(bucket: str, name: str) -> str:
    """The path of an object in the API."""
    return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"


def deletes(bucket: str, names: Sequence[str]) -> bytes:
    """A batch of deletes, numbered from 0."""
    return b"".join(_delete(bucket, number, name) for number, name in enumerate(names)) + (
        f"--{BOUNDARY}--\r\n".encode()
    )


def _delete(bucket: str, number: int, name: str) -> bytes:
    return (
        f"--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: <item-{number}>\r\n\r\nDELETE {object_path(bucket, name)} HTTP/1.1\r\n\r\n\r\n"
    ).encode()


def grouped(items: Sequence[tuple[str, str]], most: int) -> Iterator[Sequence[tuple[str, str]]]:
    """In groups of at most so many."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
