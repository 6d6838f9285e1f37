"""What every integration test may use."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture
def folder() -> str:
    """The name of a folder for one test."""
    return f"f-{secrets.token_hex(4)}"
