"""Many deletes in one request: Blob Batch, 256 at most, each signed as if it came alone.

By hand because the SDK tells answers apart by their order alone, and its batches do not reach a
service behind a path (as Azurite's).
"""

from __future__ import annotations

from collections.abc import Sequence

from filerbackup.sinks.azure.signing import Signer

MOST_NAMES = 256
DELETE_HEADERS = {"x-ms-delete-snapshots": "include"}
"""A blob with snapshots is deleted together with them, or not at all."""


async def batch_body(boundary: str, paths: Sequence[str], signer: Signer) -> bytes:
    """A DELETE for each path (encoded), with its index as the Content-ID. Raises Unanswered."""
    pieces: list[str] = []
    for number, path in enumerate(paths):
        headers = {**DELETE_HEADERS, "content-length": "0"}
        await signer.sign("DELETE", path, {}, headers)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        pieces.append(
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: {number}\r\n\r\nDELETE {path} HTTP/1.1\r\n{lines}\r\n"
        )
    return ("".join(pieces) + f"--{boundary}--\r\n").encode()
