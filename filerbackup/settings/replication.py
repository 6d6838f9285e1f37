"""Which of the `[sink.*]` sections of `replication.toml` are enabled, and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from filerbackup.errors import UsageError
from filerbackup.settings import keys, values
from filerbackup.settings.model import PipelineSettings, SinkSettings
from filerbackup.settings.sinks import azure, backblaze, filer, gcs, local, s3
from filerbackup.settings.sinks.section import Section
from filerbackup.settings.values import Values

_READERS: Mapping[str, Callable[[Section], SinkSettings]] = {
    "local": local.read,
    "s3": s3.read,
    "google_cloud_storage": gcs.read,
    "azure": azure.read,
    "backblaze": backblaze.read,
    "filer": filer.read,
}


def enabled_sinks(
    found: Values, pipeline: PipelineSettings, warnings: list[str], *, bases: tuple[Path, ...], home: Path
) -> tuple[SinkSettings, ...]:
    """All enabled sinks, in the order of `keys.SINKS`. Raises UsageError.

    Unlike weed, which takes the first one only. Relative paths are looked for in `bases`.
    """
    for key in found.under("sink."):
        kind = key.split(".")[1]
        if key != f"sink.{kind}.enabled" or kind in keys.SINKS:
            continue
        if found.get(key, values.as_bool, False):
            raise UsageError(
                f"{found.label(key)}: there is no sink of this kind; there are: {', '.join(keys.SINKS)}",
                hint="Set enabled = false in that section.",
            )
    return tuple(
        _READERS[kind](Section(found, kind, pipeline, bases, home, warnings))
        for kind in keys.SINKS
        if found.get(f"sink.{kind}.enabled", values.as_bool, False)
    )
