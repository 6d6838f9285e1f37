"""The sink on Google Cloud Storage.

Read `store` first, then `bucket` (every call to the service), `composing` (objects in parts),
`identity` (who asks), `dialect` (what objects carry beside their bytes).
"""

from filerbackup.settings.model import GcsSettings
from filerbackup.sinks.base import SinkIdentity
from filerbackup.sinks.gcs.store import GcsStore
from filerbackup.sinks.objects.sink import ObjectSink

__all__ = ["GcsStore", "gcs_sink"]


def gcs_sink(settings: GcsSettings) -> ObjectSink:
    """A sink on a bucket of Google Cloud Storage, not opened yet. Raises UsageError."""
    identity = SinkIdentity("google_cloud_storage", settings.endpoint, settings.bucket, settings.directory)
    return ObjectSink(settings, GcsStore(settings), identity=identity)
