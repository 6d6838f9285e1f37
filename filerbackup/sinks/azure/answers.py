"""What the service answers, as values: parsed here, trusted nowhere."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from filerbackup.sinks.objects import xml
from filerbackup.sinks.objects.store import Found, Head, Page

FOLDER = "hdi_isfolder"
"""Metadata `true`: a directory, in an account with hierarchical namespace or as rclone keeps one."""
_META = "x-ms-meta-"
_MOST_ANSWERS = 256

_is_size = re.compile(r"[0-9]{1,19}").fullmatch
_is_count = re.compile(r"[0-9]{1,4}").fullmatch
_status = re.compile(rb"^HTTP/1\.[01] ([0-9]{3})\b").match
_content_id = re.compile(rb"^content-id:[ \t]*([0-9]{1,5})[ \t]*\r?$", re.I | re.M).search
_error_code = re.compile(rb"^x-ms-error-code:[ \t]*([A-Za-z0-9]{1,80})[ \t]*\r?$", re.I | re.M).search


class NotAzure(ValueError):
    """An answer that the service would never give."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's headers. `pending`: it is the target of a copy that has not ended."""

    head: Head
    content_type: str
    cache_control: str
    content_disposition: str
    content_encoding: str
    content_language: str
    tags: int
    copy_id: str
    copy_status: str

    @property
    def is_folder(self) -> bool:
        """A directory of an account with hierarchical namespace, under a file's name."""
        return is_folder(self.head.name, self.head.size, self.head.user)


def is_folder(name: str, size: int, user: Mapping[str, str]) -> bool:
    """Whether a blob is no object but a directory that shows under its plain name."""
    return size == 0 and not name.endswith("/") and user.get(FOLDER, "").lower() == "true"


def etag_of(raw: str | None) -> str:
    """An ETag without quotes, or empty."""
    return (raw or "").strip().removeprefix("W/").strip('"')


def md5_of_header(raw: str | None) -> bytes:
    """16 bytes, or empty."""
    try:
        digest = base64.b64decode(raw or "", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return digest if len(digest) == 16 else b""


def parse_blob(name: str, headers: Mapping[str, str]) -> Blob:
    """The answer to HEAD. Raises NotAzure."""
    size = headers.get("Content-Length", "")
    if not _is_size(size):
        raise NotAzure("no Content-Length")
    user = {
        key.lower().removeprefix(_META): value
        for key, value in headers.items()
        if key.lower().startswith(_META)
    }
    status = headers.get("x-ms-copy-status", "")
    tags = headers.get("x-ms-tag-count", "")
    return Blob(
        # Bytes that are still being copied are nobody's yet: no entry has this size.
        Head(
            name,
            -1 if status == "pending" else int(size),
            etag_of(headers.get("ETag")),
            md5_of_header(headers.get("Content-MD5")),
            user,
        ),
        headers.get("Content-Type", ""),
        headers.get("Cache-Control", ""),
        headers.get("Content-Disposition", ""),
        headers.get("Content-Encoding", ""),
        headers.get("Content-Language", ""),
        int(tags) if _is_count(tags) else 0,
        headers.get("x-ms-copy-id", ""),
        status,
    )


def parse_page(body: bytes, prefix: str) -> Page:
    """A List Blobs answer. Raises NotAzure.

    Directories of an account with hierarchical namespace are left out: what is in them has names of
    its own. So are names that are not valid Unicode, which nobody could ask for.
    """
    root = _parse(body)
    if root.tag != "EnumerationResults":
        raise NotAzure(f"a <{root.tag[:40]}> where a listing was asked for")
    objects: list[Found] = []
    prefixes: list[str] = []
    for child in root.iterfind("Blobs/*"):
        name = _name(child.find("Name"))
        if not name:
            continue
        if not name.startswith(prefix):
            raise NotAzure("the listing names blobs of another prefix")
        if child.tag == "BlobPrefix":
            if name.endswith("/"):
                prefixes.append(name)
        elif child.tag == "Blob":
            found = _found(child, name)
            if found is not None:
                objects.append(found)
    token = (root.findtext("NextMarker") or "").strip()
    return Page(objects, prefixes, bool(token), token)


def _found(element: Element, name: str) -> Found | None:
    properties = element.find("Properties")
    size = "" if properties is None else (properties.findtext("Content-Length") or "").strip()
    if properties is None or not _is_size(size):
        raise NotAzure("a listed blob without a size")
    user = {each.tag.lower(): each.text or "" for each in element.iterfind("Metadata/*")}
    if properties.findtext("ResourceType") == "directory" or is_folder(name, int(size), user):
        return None
    return Found(
        name,
        int(size),
        etag_of(properties.findtext("Etag")),
        md5_of_header(properties.findtext("Content-MD5")),
        user,
    )


def _name(element: Element | None) -> str:
    text = "" if element is None else element.text or ""
    if element is None or element.get("Encoded", "").lower() != "true":
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return ""


def parse_error(body: bytes) -> tuple[str, str, str]:
    """Code, message and detail of an error answer; empty strings where it is none of the service's."""
    try:
        root = _parse(body)
    except NotAzure:
        return "", "", ""
    if root.tag != "Error":
        return "", "", ""
    message = (root.findtext("Message") or "").strip().partition("\n")[0]
    detail = (root.findtext("AuthenticationErrorDetail") or "").strip()
    return (root.findtext("Code") or "").strip(), message, detail


def parse_batch(content_type: str, body: bytes) -> dict[int, tuple[int, str]]:
    """Status and error code of each part of a batch's answer, by Content-ID (-1: it has none).

    Raises NotAzure.
    """
    found = re.search(r'boundary="?([^";\s]{1,100})"?', content_type)
    if found is None:
        raise NotAzure("an answer to a batch without parts")
    answers: dict[int, tuple[int, str]] = {}
    for part in body.split(b"--" + found[1].encode())[1:]:
        if part.startswith(b"--"):
            break
        head, _, answer = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        status, number = _status(answer), _content_id(head + b"\r\n")
        if status is None or len(answers) >= _MOST_ANSWERS:
            raise NotAzure("a part of the answer to a batch is no answer")
        code = _error_code(answer.partition(b"\r\n\r\n")[0] + b"\r\n")
        answers[int(number[1]) if number else -1] = (int(status[1]), code[1].decode() if code else "")
    return answers


def _parse(body: bytes) -> Element:
    try:
        return xml.parse(body)
    except xml.NotXml as error:
        raise NotAzure(f"no XML of the service's: {error}") from None
