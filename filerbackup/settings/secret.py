"""A value that does not show itself, and what blanks it where somebody else shows it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from urllib.parse import quote

from filerbackup.redact import BLANK, without_tokens

CREDENTIAL_FIELDS = ("private_key", "refresh_token", "client_secret")
"""What of Google's credentials must not be seen."""


MIN_SECRET_LENGTH = 4
"""A shorter secret is not looked for: it would blank parts of ordinary words."""
_MIN_FORM_LENGTH = 8
_MIN_LINE_LENGTH = 32


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


class Redactor:
    """Blanks every secret it was told of, also where it was quoted for a URL, as a literal, or in base64.

    And besides what looks like a token: those that services hand out are never known beforehand.
    """

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: Secret) -> None:
        """Blank this from now on."""
        value = secret.reveal()
        if len(value) < MIN_SECRET_LENGTH:
            return
        self._forms.update(_forms(value))
        for line in value.splitlines():
            # A library may quote one line of a key.
            if len(line) >= _MIN_LINE_LENGTH:
                self._forms.update(_forms(line))
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def clean(self, text: str) -> str:
        """The text without the secrets."""
        return without_tokens(self.clean_name(text))

    def clean_name(self, text: str) -> str:
        """The name of a file without the secrets; it may look like a token."""
        return self._pattern.sub(BLANK, text) if self._pattern is not None else text


def _forms(value: str) -> Iterator[str]:
    yield value
    yield quote(value, safe="")
    yield quote(value, errors="replace")
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    data = value.encode(errors="surrogateescape")
    for shift, first in enumerate((0, 2, 3)):
        # Wherever it stands in what is encoded: without the characters that its neighbours have a part in.
        text = base64.b64encode(bytes(shift) + data).decode()[first : (shift + len(data)) * 8 // 6]
        if len(text) >= _MIN_FORM_LENGTH:
            yield text
            yield text.replace("+", "-").replace("/", "_")
            yield quote(text, safe="")
