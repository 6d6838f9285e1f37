"""Every target over its corpus, over bytes, and over the corpus cut up and put together in other ways."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import NAMES
from tests.fuzz.catalogue import TARGETS

fuzzing = settings(
    derandomize="CI" in os.environ,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
named = pytest.mark.parametrize("name", TARGETS)


def test_the_names_on_the_command_line_are_those_of_the_targets() -> None:
    assert set(NAMES) == set(TARGETS)


@named
def test_corpus(name: str) -> None:
    for seed in TARGETS[name].corpus():
        TARGETS[name].run(seed)


@named
@fuzzing
@given(data=st.binary(max_size=300))
def test_bytes(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


@named
@fuzzing
@given(data=st.data())
def test_spoiled_corpus(name: str, data: st.DataObject) -> None:
    """What decodes, but for a few bytes: a flipped bit, a piece that is missing, twice there, or foreign."""
    corpus = TARGETS[name].corpus()
    spoiled = bytearray(data.draw(st.sampled_from(corpus)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(spoiled)))
        size = data.draw(st.integers(0, 8))
        piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from(SPLICED)))
        spoiled[at : at + size] = piece
    TARGETS[name].run(bytes(spoiled))


ODD: list[object] = [None, True, -1, 1 << 63, 1e300, float("inf"), float("nan"), "", "\ud800", "x" * 70_000,
       [], [[]], {}, [1], [None], ["a", "b", "c"], {"a": None}, [[1, 2, 3]], "9" * 30, 0.5]  # fmt: skip


@pytest.mark.parametrize("name", ["state", "answers"])
def test_fields_of_other_types(name: str) -> None:
    """Each value of each document in the corpus, however deep, replaced by what does not belong there."""
    replaced = 0
    for seed in TARGETS[name].corpus():
        try:
            document = json.loads(seed[1:])
        except (ValueError, RecursionError):
            continue
        for spoiled in _spoiled(document):
            replaced += 1
            TARGETS[name].run(seed[:1] + json.dumps(spoiled).encode())
    assert replaced > 500


def _spoiled(document: object) -> Iterator[object]:
    yield from ODD
    keys: Iterable[Any] = ()
    changed: Any = document
    if isinstance(document, dict):
        keys = list(document)
        yield from ({name: document[name] for name in keys if name != key} for key in keys)
    elif isinstance(document, list):
        keys = range(len(document))
    for key in keys:
        for inner in _spoiled(changed[key]):
            copied = copy.copy(changed)
            copied[key] = inner
            yield copied


# fmt: off
SPLICED = [
    b"\xff" * 9 + b"\x01", b"\x80\x80\x80\x80\x10", b"\x00", b"/", b"..", b"\r\n", b"9" * 25, b"9" * 5000,
    b"-1", b"null", b"true", b"[]", b"{}", b"1e999", b"NaN", b'"\\ud800"', b"\xed\xa0\x80", b"<a>", b"&lt;",
    b"<!DOCTYPE", b"<?xml version='1.0' encoding='cp037'?>", b"[" * 3000, b'{"a":' * 3000,
]
# fmt: on
