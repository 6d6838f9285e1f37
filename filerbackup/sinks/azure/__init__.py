"""The Azure Blob sink.

Read `store` first, then `http` and `signing` (how a request gets there), `changes` (copies and changes
in place, by the SDK), `dialect` (what metadata looks like), `errors` (what an answer means).
"""

from filerbackup.settings.model import AzureSettings
from filerbackup.sinks.azure.store import AzureStore
from filerbackup.sinks.base import SinkIdentity
from filerbackup.sinks.objects.sink import ObjectSink


def azure_sink(settings: AzureSettings) -> ObjectSink:
    """The sink for these settings, not opened yet. Raises UsageError for settings that cannot be used."""
    store = AzureStore(settings)
    identity = SinkIdentity("azure", store.account.identity, settings.container, settings.directory)
    return ObjectSink(settings, store, identity=identity)


__all__ = ["AzureStore", "azure_sink"]
