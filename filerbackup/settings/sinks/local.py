"""`[sink.local]`."""

from __future__ import annotations

from filerbackup.settings import places, values
from filerbackup.settings.model import LocalSettings
from filerbackup.settings.sinks.section import Section, common


def read(section: Section) -> LocalSettings:
    """Raises UsageError."""
    written = section.named("directory", "the directory to copy into")
    return LocalSettings(
        **common(section),
        directory=section.get("directory", places.as_local_directory, ""),
        weed_identity=("local", written),
        keep_set_id=section.get("keep_set_id", values.as_bool, False),
    )
