"""Every sink that the contract suite runs on.

A sink joins with one file here, `harness_<name>.py`, that holds `HARNESS = Harness(...)`.
"""

from __future__ import annotations

import importlib
import pkgutil

import tests.contract
from tests.contract.place import Harness


def _found() -> list[Harness]:
    names = sorted(module.name for module in pkgutil.iter_modules(tests.contract.__path__))
    return [
        importlib.import_module(f"{tests.contract.__name__}.{name}").HARNESS
        for name in names
        if name.startswith("harness_")
    ]


harnesses: list[Harness] = _found()
