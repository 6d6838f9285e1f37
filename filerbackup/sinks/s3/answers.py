"""What the service answers, as values: parsed here, trusted nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from filerbackup.sinks.objects import xml
from filerbackup.sinks.objects.store import Found, Page

_is_size = re.compile(r"[0-9]{1,19}").fullmatch
_control = re.compile("[\x00-\x1f\x7f\ufffe\uffff]").search
_is_md5 = re.compile(r"[0-9a-f]{32}").fullmatch
_is_parts = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}").fullmatch


class NotS3(ValueError):
    """An answer that S3 would never give."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An object's headers. `opaque_etag`: encrypted so that the ETag says nothing about the bytes."""

    size: int
    etag: str
    opaque_etag: bool
    user: Mapping[str, str] = field(default_factory=dict)


def is_clean(name: str) -> bool:
    """Whether a name is without control characters: obstore refuses them, and XML cannot hold all."""
    return _control(name) is None


def etag_of(raw: str | None) -> str:
    """An ETag in lower case without quotes, or empty."""
    return (raw or "").strip().removeprefix("W/").strip('"').lower()


def is_md5(etag: str) -> bool:
    """Whether an ETag looks like the MD5 of a single request's bytes."""
    return _is_md5(etag) is not None


def is_md5_of_parts(etag: str) -> bool:
    """Whether an ETag looks like that of a multipart upload."""
    return _is_parts(etag) is not None


def parse_head(headers: Mapping[str, str]) -> Answer:
    """The answer to HEAD. Raises NotS3."""
    size = headers.get("Content-Length", "")
    if not _is_size(size):
        raise NotS3("no Content-Length")
    user = {
        name.lower().removeprefix("x-amz-meta-"): value
        for name, value in headers.items()
        if name.lower().startswith("x-amz-meta-")
    }
    return Answer(int(size), etag_of(headers.get("ETag")), has_opaque_etag(headers), user)


def has_opaque_etag(headers: Mapping[str, str]) -> bool:
    """Whether the answer says that the ETag is not made from the clear bytes."""
    encryption = headers.get("x-amz-server-side-encryption", "")
    customer = headers.get("x-amz-server-side-encryption-customer-algorithm", "")
    return encryption.startswith("aws:kms") or bool(customer)


def parse_page(body: bytes) -> Page:
    """A ListObjectsV2 answer. Raises NotS3.

    Names that are not valid Unicode are left out: S3 allows none, and nobody could ask for them.
    """
    root = _parse(body)
    if _local(root.tag) != "ListBucketResult":
        raise NotS3(f"a <{_local(root.tag)[:40]}> where a listing was asked for")
    objects: list[Found] = []
    prefixes: list[str] = []
    values = {_local(child.tag): child.text or "" for child in root if len(child) == 0}
    encoded = values.get("EncodingType", "").lower() == "url"
    for child in root:
        tag = _local(child.tag)
        if tag == "Contents":
            found = _found(child, encoded)
            if found is not None:
                objects.append(found)
        elif tag == "CommonPrefixes":
            name = _name({_local(part.tag): part.text or "" for part in child}.get("Prefix", ""), encoded)
            if name.endswith("/"):
                prefixes.append(name)
    truncated = values.get("IsTruncated", "").lower() == "true"
    return Page(objects, prefixes, truncated, values.get("NextContinuationToken", ""))


def parse_error(body: bytes) -> tuple[str, str, str]:
    """Code, message and region of an error answer; empty strings where it is none of S3's."""
    try:
        root = _parse(body)
    except NotS3:
        return "", "", ""
    if _local(root.tag) != "Error":
        return "", "", ""
    values = {_local(child.tag): (child.text or "").strip() for child in root}
    return values.get("Code", ""), values.get("Message", ""), values.get("Region", "")


def _found(element: Element, encoded: bool) -> Found | None:
    values = {_local(part.tag): part.text or "" for part in element}
    size = values.get("Size", "").strip()
    if not _is_size(size):
        raise NotS3("a listed object without a size")
    name = _name(values.get("Key", ""), encoded)
    return Found(name, int(size), etag_of(values.get("ETag"))) if name else None


def _name(text: str, encoded: bool) -> str:
    if not encoded:
        return text
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        return ""


def _parse(body: bytes) -> Element:
    try:
        return xml.parse(body)
    except xml.NotXml as error:
        raise NotS3(f"no XML of S3's: {error}") from None


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
