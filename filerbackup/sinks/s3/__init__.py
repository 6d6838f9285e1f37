"""The S3 sink: Amazon S3 and everything that speaks its protocol.

`store` is what the sink of `filerbackup.sinks.objects` works with; read it first. `bucket`,
`multipart` and `copies` hold every call to the service, `uploads` checks what it stored.
"""

from __future__ import annotations

from filerbackup.errors import UsageError
from filerbackup.settings.model import S3Settings
from filerbackup.sinks.base import SinkIdentity
from filerbackup.sinks.objects.sink import ObjectSink
from filerbackup.sinks.s3.store import S3Store


class S3Sink(ObjectSink):
    """A sink in a bucket. Raises UsageError for settings that cannot be used."""

    def __init__(self, settings: S3Settings) -> None:
        if not settings.bucket:
            raise UsageError(f"[sink.{settings.name}] has no `bucket`")
        identity = SinkIdentity("s3", settings.endpoint, settings.bucket, settings.directory)
        super().__init__(settings, S3Store(settings), identity=identity)


__all__ = ["S3Sink"]
