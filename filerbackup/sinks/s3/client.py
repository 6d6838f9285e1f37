"""The calls of the AWS SDK that are used: botocore makes its clients at run time, without types."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol


class S3Client(Protocol):
    """An aiobotocore client for S3. Every call raises botocore's ClientError and BotoCoreError."""

    def generate_presigned_url(self, operation: str, /, **parameters: object) -> Awaitable[str]:
        """A URL that carries its own signature. `Params`, `ExpiresIn` (seconds), `HttpMethod`."""
        ...

    def put_object(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """PutObject."""
        ...

    def delete_object(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """DeleteObject."""
        ...

    def delete_objects(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """DeleteObjects: up to 1,000."""
        ...

    def create_multipart_upload(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """CreateMultipartUpload."""
        ...

    def complete_multipart_upload(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """CompleteMultipartUpload."""
        ...

    def abort_multipart_upload(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """AbortMultipartUpload."""
        ...

    def list_multipart_uploads(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """ListMultipartUploads."""
        ...

    def copy_object(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """CopyObject: up to 5 GiB."""
        ...

    def upload_part_copy(self, **parameters: object) -> Awaitable[dict[str, Any]]:
        """UploadPartCopy."""
        ...
