"""The `[filerbackup]` section, which flags and `FILERBACKUP_…` variables override."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from filerbackup.settings import keys
from filerbackup.settings.model import LogSettings, PipelineSettings, SourceSettings
from filerbackup.settings.values import Values


def source(found: Values) -> SourceSettings:
    """Which filer and which folder. Raises UsageError."""
    names = {
        "filer": "filers", "path": "path", "read_via": "read_via", "connect_timeout": "connect_timeout_s",
        "exclude_paths": "exclude_paths", "exclude_names": "exclude_names", "versions": "versions",
        "remote_entries": "remote_entries", "sse_kek_from_filer": "sse_kek_from_filer",
    }  # fmt: skip
    return SourceSettings(**_given(found, names))


def pipeline(found: Values) -> PipelineSettings:
    """How hard to work. Raises UsageError."""
    names = {
        "concurrency": "concurrency", "memory": "memory_bytes", "start": "start",
        "adopt_weed_checkpoint": "adopt_weed_checkpoint", "no_delete": "no_delete", "claim": "claim",
        "dry_run": "dry_run", "grace": "grace_s", "reconcile_every": "reconcile_every_s",
    }  # fmt: skip
    given = _given(found, names)
    guard = PipelineSettings().delete_guard
    limit = _given(found, {"delete_guard": "limit"}).get("limit")
    if limit is not None:
        guard = replace(guard, limit=limit.number, share=limit.share)
    guard = replace(guard, **_given(found, {"delete_guard_window": "window_s"}))
    return PipelineSettings(**given, delete_guard=guard)


def log(found: Values) -> LogSettings:
    """How to log. Raises UsageError."""
    return LogSettings(**_given(found, {"log_format": "format", "log_level": "level"}))


def _given(found: Values, fields: Mapping[str, str]) -> dict[str, Any]:
    """Parsed values of what was given, by the name of the settings' field; the rest keeps its default."""
    return {
        fields[option.name]: found.get(keys.SECTION + option.name, option.parse, None)
        for option in keys.OPTIONS
        if option.name in fields and found.has(keys.SECTION + option.name)
    }
