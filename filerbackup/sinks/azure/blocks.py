"""Blocks of a large blob: their ids, and the list that makes a blob of them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence

_UPLOAD_BYTES = 12


def new_upload_id() -> str:
    """An id that no other upload has ever had, on any host."""
    return secrets.token_hex(_UPLOAD_BYTES)


def block_id(upload_id: str, number: int) -> str:
    """The id of one block: 24 characters for all, as the service wants them equally long for one blob.

    No two uploads share one: what a broken upload has left is never part of another's blob.
    """
    return base64.b64encode(bytes.fromhex(upload_id) + number.to_bytes(6, "big")).decode()


def block_list(ids: Sequence[str]) -> bytes:
    """The body of Put Block List. "Uncommitted": nothing but what was just sent."""
    blocks = "".join(f"<Uncommitted>{each}</Uncommitted>" for each in ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()
