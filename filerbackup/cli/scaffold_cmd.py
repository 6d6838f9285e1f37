"""`filerbackup scaffold`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from filerbackup.errors import UsageError
from filerbackup.settings.scaffold import scaffold as example


def scaffold(options: argparse.Namespace) -> int:
    """Print a commented replication.toml, or write it to a new file."""
    if not options.output:
        print(example(), end="")
        return 0
    try:
        # Keys will stand in it: for its owner only from the first moment.
        fd = os.open(Path(options.output), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(example())
    except OSError as error:
        raise UsageError(f"cannot write {options.output}: {error.strerror}") from None
    print(f"wrote {options.output}")
    return 0
