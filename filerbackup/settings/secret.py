"""A value that does not show itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

CREDENTIAL_FIELDS = ("private_key", "refresh_token", "client_secret")
"""What of Google's credentials must not be seen."""


class Secret:
    """Holds a secret; `repr`, `str`, formatting and pickling never give it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the one call that needs it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not pickled")


def secrets_in(settings: object) -> Iterator[Secret]:
    """Every secret in settings, however deep, for whoever keeps them out of sight.

    Of credentials in JSON the single fields too: a library may show one of them.
    """
    if isinstance(settings, Secret):
        if settings:
            yield settings
            yield from _fields_of(settings.reveal())
    elif isinstance(settings, (tuple, list)):
        for item in settings:
            yield from secrets_in(item)
    elif is_dataclass(settings) and not isinstance(settings, type):
        for field in fields(settings):
            yield from secrets_in(getattr(settings, field.name))


def _fields_of(text: str) -> Iterator[Secret]:
    try:
        document = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        found = (document.get(name) for name in CREDENTIAL_FIELDS)
        yield from (Secret(value) for value in found if isinstance(value, str) and value)
