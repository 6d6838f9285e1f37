"""What an error says: one line for a person, and never a secret."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from filerbackup.errors import SinkError
from filerbackup.settings.secret import Secret
from tests.contract.place import WRONG_KEY, Place

_LONGEST = 700


class Said:
    """Filled when the block has raised."""

    error: SinkError
    text: str


@contextmanager
def said_by(place: Place, expected: type[SinkError]) -> Iterator[Said]:
    """Expect this error, and look at all that a log could show of it."""
    said = Said()
    with pytest.raises(expected) as caught:
        yield said
    said.error = caught.value
    said.text = f"{said.error} {said.error.hint}"
    assert "\n" not in said.text
    assert len(said.text) < _LONGEST
    assert "<html" not in said.text.lower()
    everything = "".join(traceback.format_exception(said.error)) + repr(said.error) + said.text
    for secret in (WRONG_KEY, *_secrets(place)):
        assert secret not in everything


def _secrets(place: Place) -> list[str]:
    settings = place.settings()
    if settings is None:
        return []
    values = [getattr(settings, field.name) for field in dataclasses.fields(settings)]
    return [value.reveal() for value in values if isinstance(value, Secret) and value]
