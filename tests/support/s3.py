"""Looking at a bucket, without the sink that is tested."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.weed import WeedServer, running_weed

ACCESS_KEY = "AKIDADMIN"
SECRET_KEY = "secret-of-admin"
READER_KEY = "AKIDREADER"
READER_SECRET = "secret-of-reader"
_SESSION = get_session()
"""One for all tests: it parses the SDK's description of S3 once."""


@contextlib.contextmanager
def guarded_weed(directory: Path) -> Iterator[WeedServer]:
    """A SeaweedFS whose S3 gateway checks signatures: an administrator, and one who may only read."""
    directory.mkdir(parents=True)
    identities = {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": access, "secretKey": secret}],
                "actions": actions,
            }
            for name, access, secret, actions in (
                ("admin", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
                ("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
            )
        ]
    }
    config = directory / "s3.json"
    config.write_text(json.dumps(identities))
    with running_weed(directory / "data", filer_args=[f"-s3.config={config}"]) as server:
        yield server


class Peer:
    """Another client of one bucket: a plain SDK client with its own settings."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    async def put(self, name: str, data: bytes = b"", **parameters: Any) -> None:
        await self.client.put_object(Bucket=self.bucket, Key=name, Body=data, **parameters)

    async def get(self, name: str) -> bytes | None:
        try:
            answer = await self.client.get_object(Bucket=self.bucket, Key=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        return await answer["Body"].read()

    async def head(self, name: str) -> dict[str, Any] | None:
        try:
            return await self.client.head_object(Bucket=self.bucket, Key=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    async def names(self, prefix: str = "") -> set[str]:
        """All object names below a prefix."""
        found: set[str] = set()
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        async for page in pages:
            found.update(item["Key"] for item in page.get("Contents", []))
        return found

    async def tags(self, name: str) -> dict[str, str]:
        answer = await self.client.get_object_tagging(Bucket=self.bucket, Key=name)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    async def uploads(self, prefix: str = "") -> set[str]:
        """The objects that an unfinished multipart upload is for."""
        answer = await self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix)
        return {upload["Key"] for upload in answer.get("Uploads", [])}


@asynccontextmanager
async def peer_of(
    server: WeedServer | str, bucket: str, *, access: str = ACCESS_KEY, secret: str = SECRET_KEY
) -> AsyncIterator[Peer]:
    """A peer on a bucket, which is made when it is not there; `server` may be the URL of another S3."""
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    async with _SESSION.create_client(
        "s3",
        endpoint_url=server if isinstance(server, str) else server.s3_endpoint,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=config,
    ) as client:
        with contextlib.suppress(
            client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
        ):
            await client.create_bucket(Bucket=bucket)
        yield Peer(client, bucket)


def make_certificate(path: Path, issuer: Path | None = None) -> Path:
    """A certificate for localhost with its key in one PEM file; without an issuer its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    issuer_name, issuer_key = name, key
    if issuer is not None:
        pem = issuer.read_bytes()
        issuer_name = x509.load_pem_x509_certificate(pem).subject
        issuer_key = serialization.load_pem_private_key(pem, None)  # type: ignore[assignment]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    pem_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + pem_key)
    return path


def s3_error(
    status: int, code: str, message: str = "told so by a test", *, extra: str = "", **headers: str
) -> web.Response:
    """An error answer as S3 writes it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}<RequestId>1</RequestId></Error>"
    )
    return web.Response(status=status, text=body, content_type="application/xml", headers=headers)
