"""What a bucket holds, read with a plain SDK call, without filerbackup's own code."""

from __future__ import annotations

import asyncio
from typing import Any

from aiobotocore.session import get_session

from tests.support.trees import Tree, digest
from tests.support.weed import WeedServer


def client(weed: WeedServer) -> Any:
    """An S3 client of a weed's gateway, to be used as an async context manager."""
    return get_session().create_client(
        "s3",
        endpoint_url=weed.s3_endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any-secret",
        region_name="us-east-1",
    )


def make_bucket(weed: WeedServer, bucket: str) -> str:
    """Create a bucket and return its name."""

    async def create() -> None:
        async with client(weed) as s3:
            await s3.create_bucket(Bucket=bucket)

    asyncio.run(create())
    return bucket


def s3_tree(weed: WeedServer, bucket: str, prefix: str = "") -> Tree:
    """All objects below a prefix but filerbackup's own."""

    async def read() -> Tree:
        found: Tree = {}
        async with client(weed) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            async for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"][len(prefix) :]
                    if key.startswith(".filerbackup/"):
                        continue
                    try:
                        body = (await s3.get_object(Bucket=bucket, Key=item["Key"]))["Body"]
                    except s3.exceptions.NoSuchKey:
                        # Removed since the listing.
                        continue
                    found[key] = digest(await body.read())
        return found

    return asyncio.run(read())


async def s3_heads(weed: WeedServer, bucket: str, prefix: str = "") -> dict[str, dict[str, Any]]:
    """What HEAD says of all objects below a prefix but filerbackup's own."""
    async with client(weed) as s3:
        listed = await s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        names = [
            item["Key"] for item in listed.get("Contents", []) if "/.filerbackup/" not in f"/{item['Key']}"
        ]
        return {name[len(prefix) :]: await s3.head_object(Bucket=bucket, Key=name) for name in names}
