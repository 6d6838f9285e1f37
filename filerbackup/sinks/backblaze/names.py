"""Which names B2 takes, and where a listing has to begin."""

from __future__ import annotations

import re

from filerbackup.errors import ObjectRejected
from filerbackup.sinks.keys import shown

MOST_NAME_BYTES = 1024

_control = re.compile(r"[\x00-\x1f\x7f]").search


def can_exist(name: str) -> bool:
    """Whether B2 takes such a name: no control characters, and no empty component.

    (Backblaze's older documentation, and b2sdk, also limit a component to 250 bytes: the service may
    say so itself.)
    """
    framed = f"/{name}/"
    return "//" not in framed and not _control(name) and len(name.encode()) <= MOST_NAME_BYTES


def check_name(name: str) -> None:
    """Raise ObjectRejected for a name that B2 does not take."""
    if not can_exist(name):
        raise ObjectRejected(
            f"the name {shown(name)} cannot be kept on B2: it has a control character, an empty component, "
            f"or more than {MOST_NAME_BYTES} bytes"
        )


def first_behind(prefix: str, after: str) -> str | None:
    """The first name of the prefix that can come behind `after`; None when there is none.

    No name has a character below the space, so that a space behind a name makes the next one.
    """
    if _control(prefix) or (after > prefix and not after.startswith(prefix)):
        return None
    if not after or after < prefix:
        return prefix
    bad = _control(after)
    if bad is None:
        return f"{after} "
    return after[: bad.start()] + ("\x80" if bad[0] == "\x7f" else " ")
