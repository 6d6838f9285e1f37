"""Which keys a sink takes, and the order in which sinks list them."""

from __future__ import annotations

from filerbackup.errors import ObjectRejected
from filerbackup.sinks.base import OWN_PREFIX

TEMPORARY_PREFIX = OWN_PREFIX + "-tmp-"
"""A name that begins so is an unfinished copy of filerbackup's, wherever it stands."""

_OWN_BELOW = OWN_PREFIX + "/"
_SHOWN_CHARACTERS = 200


def check_key(key: str) -> None:
    """Raise ObjectRejected, with the reason in one line, for a key that no sink may hold.

    Called for every operation: a good key costs a few searches in C.
    """
    framed = f"/{key}/"
    if "//" in framed or "/./" in framed or "/../" in framed or "/.filerbackup" in framed or "\0" in key:
        _refuse(key)
    _check_encodable(key)


def check_own_key(key: str) -> None:
    """Raise ObjectRejected unless `key` names something of filerbackup's own (`read_own`, `write_own`)."""
    below = key.removeprefix(_OWN_BELOW)
    if below in (key, "tmp") or below.startswith("tmp/"):
        raise ObjectRejected(f"{shown(key)} is not a file of filerbackup's own")
    check_key(below)


def sort_key(key: str, is_directory: bool) -> bytes:
    """What sinks sort their listings by: the key's UTF-8 bytes, a directory's with a slash behind."""
    return f"{key}/".encode() if is_directory else key.encode()


def is_own(key: str) -> bool:
    """Whether a key, as a service lists it, belongs to filerbackup and is never shown."""
    return key == OWN_PREFIX or key.startswith(_OWN_BELOW)


def shown(key: str) -> str:
    """A key for a message: on one line, printable, cut when it is very long."""
    text = ascii(key) if any("\ud800" <= character <= "\udfff" for character in key) else repr(key)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _check_encodable(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ObjectRejected(f"the name {shown(key)} is not valid Unicode (a lone surrogate)") from error


def _refuse(key: str) -> None:
    """Find the reason; returns when the key only looked suspicious."""
    if not key:
        raise ObjectRejected("an empty key names nothing")
    if is_own(key):
        raise ObjectRejected(f"{shown(key)} lies under {OWN_PREFIX}/, which is filerbackup's own")
    if "\0" in key:
        raise ObjectRejected(f"the name {shown(key)} holds a NUL character")
    for component in key.split("/"):
        if component == "":
            raise ObjectRejected(f"the name {shown(key)} has an empty component")
        if component in (".", ".."):
            raise ObjectRejected(f"the name {shown(key)} has the component {component!r}")
        if component.startswith(TEMPORARY_PREFIX):
            raise ObjectRejected(f"the name {shown(key)} is reserved for filerbackup's unfinished copies")
