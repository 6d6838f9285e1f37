"""JSON that was kept on the filer, as dataclasses whose fields have their types, or not at all.

Anybody who may write below the state directory, and another version of this program, can have put
anything there. What is wrong is found here, where it is read, and not where it is used.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")

_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1
_CHECKED: dict[object, type] = {int: int, str: str, bool: bool}
"""Fields of other types (tuples, enumerations) are the caller's to make and to check."""


def parse(raw: bytes) -> object:
    """Any JSON value. Raises ValueError, also for what is nested too deep to be read."""
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError."""
    value = parse(raw)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def built(cls: type[T], record: dict[str, Any], **made: object) -> T:
    """The dataclass from the fields that it knows; `made` are those that the caller has converted.

    Raises ValueError when one is missing or has a value that its type cannot hold.
    """
    values = dict(made)
    for name, kind, is_optional, is_needed in _fields_of(cls):
        if name in values:
            continue
        if name not in record:
            if is_needed:
                raise ValueError(f"{name} is missing")
            continue
        value = record[name]
        if not (value is None and is_optional):
            checked(value, kind)
        values[name] = value
    return cls(**values)


def checked(value: object, kind: type[T]) -> T:
    """A whole number of 64 bits, a text that can be encoded, or true or false. Raises ValueError."""
    # True is an int too.
    if not isinstance(value, kind) or type(value) is not kind:
        raise ValueError(f"{type(value).__name__} where {kind.__name__} is wanted")
    if isinstance(value, int) and not _LOWEST <= value <= _HIGHEST:
        raise ValueError("a number with more than 64 bits")
    if isinstance(value, str):
        value.encode()
    return value


def _read_fields(cls: type) -> tuple[tuple[str, type, bool, bool], ...]:
    """Name and type of each field, whether it may be None, and whether it has no default."""
    hints = get_type_hints(cls)
    found = []
    for field in fields(cls):
        hint = hints[field.name]
        is_optional = hint == int | None
        kind = int if is_optional else _CHECKED.get(hint)
        if kind is not None:
            found.append((field.name, kind, is_optional, field.default is MISSING))
    return tuple(found)


_fields_of: Callable[[type], tuple[tuple[str, type, bool, bool], ...]] = functools.cache(_read_fields)
