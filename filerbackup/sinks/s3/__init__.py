"""The S3 sink: Amazon S3 and everything that speaks its protocol.

Read `sink` first, then `upload` and `multipart` (how bytes get there), `listing` (how they are
found again), `deletes`, `probe` (what `open` finds out). `bucket` holds every call to the service.
"""

from filerbackup.sinks.s3.sink import S3Sink

__all__ = ["S3Sink"]
