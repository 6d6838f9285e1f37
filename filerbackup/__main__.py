"""The entry: one command, its error as one line for a person, its exit code."""

from __future__ import annotations

import sys

from filerbackup.errors import FilerBackupError

EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit codes are in the README."""
    from filerbackup.cli.parser import parse  # noqa: PLC0415  --help needs nothing but the parser

    command, options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return command(options)
    except FilerBackupError as error:
        print(f"filerbackup: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
