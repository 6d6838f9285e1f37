"""Finding and reading the TOML files, and nothing about what their keys mean."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomli

from filerbackup.errors import UsageError
from filerbackup.settings.values import Raw, printable

SYSTEM_DIRECTORIES = (Path("/usr/local/etc/seaweedfs"), Path("/etc/seaweedfs"))
"""Where weed looks after the working directory and `~/.seaweedfs`."""

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that was read: its keys in lower case, dotted, as weed sees them.

    `sections` are the names of all tables, with the empty ones.
    """

    path: Path
    raw: Mapping[str, Raw] = field(repr=False)
    sections: frozenset[str] = frozenset()


def search_directories(config: Path | None, home: Path, cwd: Path, system: Sequence[Path]) -> list[Path]:
    """Where to look, in order: the place that `--config` names, then as weed does."""
    places = [cwd, home / ".seaweedfs", *system]
    if config is not None:
        places.insert(0, config if config.is_dir() else config.parent)
    return list(dict.fromkeys(places))


def find(name: str, directories: Sequence[Path]) -> Path | None:
    """The first directory that has the file. One that we may not look into counts as not having it."""
    for directory in directories:
        candidate = directory / name
        try:
            if candidate.exists():
                return candidate
        except OSError:
            continue
    return None


def contents(path: Path, label: str = "") -> bytes:
    """A small file. Raises UsageError, which begins with `label`, if there is one, and the file."""
    shown = f"{label}: {printable(str(path))}" if label else str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{shown}: larger than {MAX_FILE_BYTES} bytes, surely not a configuration file")
    return data


def read(path: Path) -> ConfigFile:
    """Read a TOML file. Raises UsageError with the file, and the line where there is one."""
    data = contents(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}: line {line}: not valid UTF-8") from None
    try:
        document = tomli.loads(text.replace("\r\n", "\n"))
    except tomli.TOMLDecodeError as error:
        # The parser's error carries the whole document: it is not passed on.
        message = f"{path}: line {error.lineno}, column {error.colno}: {error.msg}"
        raise UsageError(message, hint="The file is TOML: key = value, and text stands in quotes.") from None
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path}: not usable as TOML: {type(error).__name__}") from None
    raw: dict[str, Raw] = {}
    sections: set[str] = set()
    for spelled, value in _leaves(document, (), sections, path):
        key = spelled.lower()
        label = f"{path}: {printable(spelled)}"
        if key in raw:
            raise UsageError(f"{label}: given twice (capitals do not count)")
        raw[key] = Raw(value, str(path), label)
    return ConfigFile(path, raw, frozenset(sections))


def _leaves(
    table: Mapping[str, object], above: tuple[str, ...], sections: set[str], path: Path
) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        parts = (*above, name)
        if len(parts) > MAX_DEPTH:
            raise UsageError(f"{path}: sections nested more than {MAX_DEPTH} deep")
        dotted = ".".join(parts)
        if isinstance(value, dict):
            sections.add(dotted.lower())
            yield from _leaves(value, parts, sections, path)
        else:
            yield dotted, value


def named_file(text: str, label: str, bases: Sequence[Path]) -> Path:
    """The file that a key names, looked for in `bases` in turn, and readable.

    Raises UsageError, which begins with `label`.
    """
    candidates = list(dict.fromkeys(base / text for base in bases))
    for candidate in candidates:
        try:
            if not candidate.exists():
                continue
            with candidate.open("rb") as file:
                file.read(1)
        except OSError as error:
            where = printable(str(candidate))
            raise UsageError(f"{label}: {where} cannot be read: {error.strerror}") from None
        return candidate
    looked = " and ".join(printable(str(candidate)) for candidate in candidates)
    raise UsageError(f"{label}: no such file: {looked}")


def open_to_others(path: Path) -> str | None:
    """A warning when somebody else than the owner may read or write a file that holds a secret."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    if not mode & 0o077:
        return None
    return f"{path}: holds a secret but is open to others (mode {mode:04o}): chmod 600 {path}"
