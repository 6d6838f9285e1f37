"""`filerbackup scaffold`."""

from __future__ import annotations

import argparse
from pathlib import Path

from filerbackup.errors import UsageError
from filerbackup.settings.scaffold import scaffold as example


def scaffold(options: argparse.Namespace) -> int:
    """Print a commented replication.toml, or write it to a new file."""
    if not options.output:
        print(example(), end="")
        return 0
    try:
        with Path(options.output).open("x", encoding="utf-8") as file:
            file.write(example())
    except OSError as error:
        raise UsageError(f"cannot write {options.output}: {error.strerror}") from None
    print(f"wrote {options.output}")
    return 0
