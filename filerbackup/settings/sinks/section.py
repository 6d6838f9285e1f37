"""One section while it is read, and what the sections of several kinds share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filerbackup.errors import UsageError
from filerbackup.settings import files, keys, places, values
from filerbackup.settings.model import ObjectSettings, PipelineSettings
from filerbackup.settings.values import Values

T = TypeVar("T")

_DEFAULTS = ObjectSettings(name="")


@dataclass(frozen=True, slots=True)
class Section:
    """`[sink.<kind>]`, whatever supplied its keys. Names are spelled as weed's scaffold spells them.

    `bases`: where relative paths are looked for, in turn. `warnings` collects.
    """

    found: Values
    kind: str
    pipeline: PipelineSettings
    bases: tuple[Path, ...]
    home: Path
    warnings: list[str]

    def key(self, name: str) -> str:
        """The full key."""
        return f"sink.{self.kind}.{name}"

    def label(self, name: str) -> str:
        """Where the key stands, or should stand: the start of a message."""
        return self.found.label(self.key(name))

    def get(self, name: str, parse: Callable[[object], T], default: T) -> T:
        """The typed value, or the default. Raises UsageError."""
        return self.found.get(self.key(name).lower(), parse, default)

    def text(self, name: str, default: str = "") -> str:
        """Text as it was written. Raises UsageError."""
        return self.get(name, values.as_text, default)

    def has(self, name: str) -> bool:
        """Whether anything supplied the key."""
        return self.found.has(self.key(name).lower())

    def named(self, name: str, what: str) -> str:
        """A name that must be given and must not be the scaffold's placeholder. Raises UsageError."""
        text = self.text(name)
        if text in ("", keys.PLACEHOLDERS.get(self.key(name))):
            raise UsageError(f"{self.label(name)}: must name {what}")
        return text

    def file(self, name: str) -> Path:
        """The readable file that a key names; `~/` is the home directory. Raises UsageError."""
        text = self.text(name)
        if text.startswith("~/"):
            text = str(self.home / text[2:])
        return files.named_file(text, self.label(name), self.bases)

    def both_or_neither(self, one: str, other: str, hint: str) -> None:
        """Raises UsageError when only one of two keys has a value. Neither value is looked at."""
        if bool(self.text(one)) != bool(self.text(other)):
            given, missing = (one, other) if self.text(one) else (other, one)
            raise UsageError(f"{self.label(missing)}: missing, while {self.key(given)} is set", hint=hint)


def common(section: Section) -> dict[str, Any]:
    """What every sink has, but for its directory."""
    return {
        "name": section.kind,
        "is_incremental": section.get("is_incremental", values.as_bool, False),
        "timezone": section.get("timezone", values.as_timezone, "UTC"),
        "concurrency": section.get("concurrency", values.as_int(1, keys.MAX_CONCURRENCY), 0) or None,
    }


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service takes as parts of an upload, in bytes."""

    smallest: int
    largest: int


def objects(section: Section, parts: Parts, storage_class: Callable[[object], str]) -> dict[str, Any]:
    """What every object store has, its directory with it."""
    size, at_once = part_sizes(section, parts)
    return {
        **common(section),
        "directory": section.get("directory", places.as_key_directory, "/"),
        "symlinks": section.get(
            "symlinks", values.as_choice("rclonelink", "follow-metadata", "skip"), _DEFAULTS.symlinks
        ),
        "directory_markers": section.get("directory_markers", values.as_bool, False),
        "storage_class": section.get("storage_class", storage_class, ""),
        "part_size_bytes": size,
        "part_concurrency": at_once,
    }


def part_sizes(section: Section, parts: Parts) -> tuple[int, int]:
    """Size of a part in bytes and how many of one file travel at once: our keys, else weed's.

    weed has keys for S3 alone. Together the parts stay within the memory of the whole process.
    """
    memory = section.pipeline.memory_bytes
    shown = values.format_size(memory)
    size_name = _first_given(section, "part_size", "uploader_part_size")
    in_mib = section.get("uploader_part_size", values.as_int(0, parts.largest >> 20), 0)
    weeds_size = max(in_mib << 20, parts.smallest) if in_mib else _DEFAULTS.part_size_bytes
    size = section.get("part_size", values.as_size(parts.smallest, parts.largest), weeds_size)
    if size > memory:
        raise UsageError(
            f"{section.label(size_name)}: {values.format_size(size)} do not fit into a memory of {shown}",
            hint="Make the parts smaller, or give more with memory in [filerbackup] or --memory.",
        )
    weeds_count = section.get("uploader_concurrency", values.as_int(0, 1024), 0)
    given = section.get("part_concurrency", values.as_int(1, 1024), weeds_count)
    wanted = given or _DEFAULTS.part_concurrency
    fitting = min(wanted, memory // size)
    if fitting < wanted and given:
        name = _first_given(section, "part_concurrency", "uploader_concurrency")
        section.warnings.append(
            f"{section.label(name)}: {fitting} instead of {wanted}, so that parts of "
            f"{values.format_size(size)} fit into a memory of {shown}"
        )
    return size, fitting


def _first_given(section: Section, ours: str, weeds: str) -> str:
    return ours if section.has(ours) or not section.has(weeds) else weeds


def in_plain_text(endpoint: str) -> bool:
    """Whether what goes to an endpoint can be read on the network; this machine itself is none."""
    url = urlsplit(endpoint)
    return url.scheme == "http" and places.comparable_host(url.hostname or "") != "localhost"
