"""The Backblaze B2 sink, on the native API: b2sdk for identity, aiohttp for everything that is frequent."""

from __future__ import annotations

from filerbackup.settings.model import BackblazeSettings
from filerbackup.sinks.backblaze.store import B2Store
from filerbackup.sinks.base import SinkIdentity
from filerbackup.sinks.objects.sink import ObjectSink

__all__ = ["B2Store", "backblaze_sink"]


def backblaze_sink(settings: BackblazeSettings) -> ObjectSink:
    """A sink on one bucket. Raises UsageError for settings that cannot be used."""
    identity = SinkIdentity("backblaze", settings.endpoint, settings.bucket, settings.directory)
    return ObjectSink(settings, B2Store(settings), identity=identity)
