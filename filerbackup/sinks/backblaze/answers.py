"""What the service answers, as values: parsed here, trusted nowhere."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote_plus, urlsplit

from filerbackup.sinks.backblaze.dialect import user_metadata
from filerbackup.sinks.backblaze.errors import Answered, not_b2
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.store import Found, Head

_INFO = "x-bz-info-"
_T = TypeVar("_T")
_is_size = re.compile(r"[0-9]{1,19}").fullmatch
_is_sha1 = re.compile(r"[0-9a-f]{40}").fullmatch
_is_md5 = re.compile(r"[0-9a-f]{32}").fullmatch
_is_token = re.compile(r"[!-~]{1,2000}").fullmatch


@dataclass(frozen=True, slots=True)
class Grant:
    """What authorizing gave: a token for up to a day, where to go with it, and what it allows.

    `buckets`: ids by name, None when the key is good for all buckets of the account.
    """

    account_id: str
    token: str
    api_url: str
    download_url: str
    capabilities: frozenset[str]
    buckets: Mapping[str, str] | None
    prefix: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file. `action`: upload, hide (a mark that the file is deleted), start, folder."""

    name: str
    file_id: str
    action: str
    size: int
    sha1: str
    md5: str
    info: Mapping[str, str]


def parse_json(status: int, content_type: str, body: bytes) -> dict[str, Any]:
    """An answer's JSON object. Raises Unanswered."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise not_b2(status, content_type or "no content type") from None
    if not isinstance(answer, dict):
        raise not_b2(status, "JSON of another kind")
    return answer


def parse_error(status: int, body: bytes) -> Answered:
    """An answer that is no success."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Answered(status, spoke=not body.strip())
    if not isinstance(answer, dict) or not isinstance(answer.get("code"), str):
        return Answered(status, spoke=False)
    return Answered(status, answer["code"][:80], str(answer.get("message", ""))[:1000])


def parse_grant(answer: dict[str, Any], *, secure: bool) -> Grant:
    """The answer to b2_authorize_account. `secure`: a token must not go where there is no TLS."""
    try:
        storage = answer["apiInfo"]["storageApi"]
        allowed = storage["allowed"]
        return Grant(
            account_id=_typed(answer["accountId"], str),
            token=token_of(answer["authorizationToken"]),
            api_url=url_of(storage["apiUrl"], secure=secure),
            download_url=url_of(storage["downloadUrl"], secure=secure),
            capabilities=frozenset(_typed(allowed["capabilities"], list)),
            buckets=_buckets(allowed.get("buckets")),
            prefix=_typed(allowed.get("namePrefix") or "", str),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unanswered("the answer to b2_authorize_account is not understood") from None


def _buckets(given: object) -> dict[str, str] | None:
    if not given:
        return None
    return {str(each.get("name") or ""): _typed(each["id"], str) for each in _typed(given, list)}


def parse_bucket(answer: dict[str, Any], name: str) -> tuple[str, bool]:
    """From the answer to b2_list_buckets: the bucket's id ("": no such bucket), and whether it is plain.

    Plain: surely without default encryption and Object Lock, so that there is more room for info.
    """
    for each in _typed(answer.get("buckets", []), list):
        if isinstance(each, dict) and each.get("bucketName") == name:
            encryption = _inside(each, "defaultServerSideEncryption", "value")
            lock = _inside(each, "fileLockConfiguration", "value")
            plain = (
                "mode" in encryption
                and encryption["mode"] in (None, "none")
                and lock.get("isFileLockEnabled") is False
            )
            return _typed(each.get("bucketId"), str), plain
    return "", False


def parse_version(answer: object) -> Version:
    """A file as calls with JSON describe it."""
    given = _typed(answer, dict)
    info = _typed(given.get("fileInfo") or {}, dict)
    action = _typed(given.get("action", "upload"), str)
    return Version(
        name=_typed(given.get("fileName"), str),
        file_id=_typed(given.get("fileId") or "", str),
        action=action,
        size=_size(given.get("contentLength", 0)),
        sha1=_sha1(given.get("contentSha1")),
        md5=str(given.get("contentMd5") or ""),
        info=user_metadata(
            {str(name).lower(): value for name, value in info.items() if isinstance(value, str)}
        ),
    )


def parse_versions(answer: dict[str, Any]) -> list[Version]:
    """The files of a listing; names that are not valid Unicode are left out: nobody could ask for them."""
    versions = [parse_version(each) for each in _typed(answer.get("files"), list)]
    return [version for version in versions if _is_unicode(version.name)]


def found_of(version: Version, md5_name: str) -> Found:
    """A listed file. Its MD5 is the service's, or what was kept with it."""
    md5 = bytes.fromhex(version.md5) if _is_md5(version.md5) else _kept_md5(version.info.get(md5_name, ""))
    return Found(version.name, version.size, version.file_id, md5, version.info)


def parse_head(name: str, headers: Mapping[str, str]) -> Head:
    """The answer to HEAD."""
    size, file_id = headers.get("Content-Length", ""), headers.get("X-Bz-File-Id", "")
    if not _is_size(size) or not file_id:
        raise Unanswered("the answer has no Content-Length or no X-Bz-File-Id")
    user = {
        key.lower().removeprefix(_INFO): unquote_plus(value)
        for key, value in headers.items()
        if key.lower().startswith(_INFO)
    }
    return Head(name, int(size), file_id, b"", user_metadata(user))


def check_stored(version: Version, name: str, size: int, sha1: str = "") -> None:
    """Raise Unanswered unless this is what was sent. `sha1`: where the service must know it."""
    if version.name != name or version.size != size or (sha1 and version.sha1 != sha1):
        raise Unanswered(
            f"the service has stored {version.size} bytes where {size} with another checksum were sent"
        )


def text_of(answer: dict[str, Any], key: str) -> str:
    """A text in an answer. Raises Unanswered."""
    return _typed(answer.get(key), str)


def token_of(given: object) -> str:
    """What may stand in a header. Raises Unanswered."""
    token = _typed(given, str)
    if not _is_token(token):
        raise Unanswered("the answer has a token that no header can hold")
    return token


def url_of(given: object, *, secure: bool) -> str:
    """Where the service sends us, without a slash behind. Raises Unanswered."""
    url = _typed(given, str).rstrip("/")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Unanswered("the answer names a URL that cannot be used") from None
    if parts.scheme not in (("https",) if secure else ("http", "https")) or not parts.hostname:
        raise Unanswered("the answer names a URL that cannot be used")
    return url


def _typed(value: object, wanted: type[_T]) -> _T:
    if isinstance(value, wanted) and not isinstance(value, bool):
        return value
    raise Unanswered("the answer has another form than B2's")


def _inside(given: dict[str, Any], *path: str) -> dict[str, Any]:
    found: object = given
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _size(value: object) -> int:
    size = _typed(0 if value is None else value, int)
    if size < 0:
        raise Unanswered("the answer has a negative length")
    return size


def _sha1(value: object) -> str:
    """Empty where the service knows none, as of a file that was put together from parts."""
    text = str(value or "").removeprefix("unverified:")
    return text if _is_sha1(text) else ""


def _kept_md5(text: str) -> bytes:
    try:
        md5 = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return md5 if len(md5) == 16 else b""


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
