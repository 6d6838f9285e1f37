"""The entry: one command, its error as one line for a person, its exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

from filerbackup.errors import FilerBackupError

EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit codes are in the README."""
    # gRPC's core writes to standard error itself, a line for every failed handshake.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from filerbackup.cli.parser import parse  # noqa: PLC0415  --help needs nothing but the parser

    command, options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return command(options)
    except FilerBackupError as error:
        print(f"filerbackup: {_shown(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {_shown(error.hint)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _shown(text: str) -> str:
    """Without secrets, and without what a terminal would obey."""
    from filerbackup.observe.logs import cleaned, escaped  # noqa: PLC0415

    return escaped(cleaned(text))


def entry() -> NoReturn:
    """Run a command and leave at once.

    Nothing is left to be done then. Going through the interpreter's own end can abort the process
    (seen with obstore 0.12, whose threads outlive it), and a done run would end with code 134.
    """
    code = main()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
