"""Every test that the documents name as the proof of a claim is there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
DOCUMENTS = ("security.md", "reliability.md", "architecture.md")
_NAMED = re.compile(r"`((?:[\w-]+/)*test_\w+\.py)((?:::\w+)*)(?:\[[^\]`]*\])?`")
_SECTIONS = (
    "Threat model", "What it reaches", "Rights in each service", "Secrets", "Source", "Hostile input",
    "The local sink", "Hardening", "Claims and their tests",
)  # fmt: skip


def named(document: str) -> set[tuple[str, str]]:
    """File and test of each `path/test_x.py::test_y`; of a file alone the test is empty."""
    return {(path, test) for path, test in _NAMED.findall((DOCS / document).read_text())}


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """`::function` and `::Class::method` of a file, without importing it."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(f"::{name}")
            case ast.ClassDef(name=name, body=body):
                methods = [
                    each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
                found.update(f"::{name}::{method}" for method in methods)
    return frozenset(found)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_a_document_names_exists(document: str) -> None:
    missing = []
    for path, test in sorted(named(document)):
        files = [TESTS / path] if (TESTS / path).exists() else list(TESTS.rglob(path))
        if not any(not test or test in names_in(file) for file in files):
            missing.append(path + test)
    assert not missing
    assert len(named(document)) > 10


def test_the_sections_are_there() -> None:
    headings = re.findall(r"^## (.+)$", (DOCS / "security.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading in _SECTIONS] == list(_SECTIONS)


def test_each_claim_has_a_test() -> None:
    table = (DOCS / "security.md").read_text().partition("## Claims and their tests")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| -")][1:]
    assert len(rows) > 20
    assert [row for row in rows if not _NAMED.search(row.rpartition(" | ")[2])] == []
