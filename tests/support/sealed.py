"""A SeaweedFS whose S3 gateway encrypts, with a KMS beside it, and objects of every kind of encryption."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session

from tests.support.moto import MotoServer, running_moto
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, Peer, peer_of
from tests.support.weed import WeedServer, running_weed

KEK = "4f" * 32
BUCKET = "sealed"
MIB = 1 << 20
S3: dict[str, Any] = {"ServerSideEncryption": "AES256"}
CUSTOMER: dict[str, Any] = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}


@dataclass(frozen=True, slots=True)
class Scene:
    """`expected`: what the gateway answers to a GET of each object that is not for its client's key alone."""

    weed: WeedServer
    moto: MotoServer
    kms_key: str
    expected: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def kms(self) -> dict[str, Any]:
        """What asks for SSE-KMS."""
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key}

    def keys_toml(self, *, kek: str = KEK, region: str = "us-east-1") -> str:
        """A `security.toml` with the keys."""
        return (
            f'[s3.sse]\nkek = "{kek}"\n[kms]\ndefault_provider = "main"\n[kms.providers.main]\ntype = "aws"\n'
            f'region = "{region}"\nendpoint = "{self.moto.endpoint}"\n'
            'access_key = "a"\nsecret_key = "hidden-b"\n'
        )


@contextlib.contextmanager
def sealed_scene(directory: Path) -> Iterator[Scene]:
    """Start everything and write the objects."""
    with running_moto(directory / "moto") as moto:
        kms_key = asyncio.run(_kms_key(moto))
        data = directory / "data"
        data.mkdir(parents=True)
        (data / "security.toml").write_text(f'[s3.sse]\nkek = "{KEK}"\n')
        provider = {
            "type": "aws", "region": "us-east-1", "endpoint": moto.endpoint,
            "access_key": "a", "secret_key": "b",
        }  # fmt: skip
        config = {
            "identities": [
                {
                    "name": "admin",
                    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ],
            "kms": {"default_provider": "main", "providers": {"main": provider}},
        }
        (directory / "s3.json").write_text(json.dumps(config))
        with running_weed(data, filer_args=[f"-s3.config={directory / 's3.json'}"]) as weed:
            scene = Scene(weed, moto, kms_key)
            asyncio.run(_fill(scene))
            yield scene


async def _kms_key(moto: MotoServer) -> str:
    arguments = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    async with get_session().create_client("kms", endpoint_url=moto.endpoint, **arguments) as client:
        return str((await client.create_key())["KeyMetadata"]["Arn"])


async def _fill(scene: Scene) -> None:
    bytes_of = random.Random(4711).randbytes
    parts = [bytes_of(5 * MIB), bytes_of(5 * MIB), bytes_of(5 * MIB + 3)]
    odd = [bytes_of(5 * MIB + 7), bytes_of(3)]
    text = b"a text that compresses well\n" * 4_000
    async with peer_of(scene.weed, BUCKET) as peer:
        await peer.put("plain", text, ContentType="text/plain")
        for name, how in (("s3", S3), ("kms", scene.kms)):
            more: dict[str, Any] = {**how, "Metadata": {"color": "blue"}}
            await peer.put(f"{name}/empty", **more)
            await peer.put(f"{name}/one", b"1", **more)
            if name == "s3":
                await peer.put("s3/five", bytes_of(5 * MIB + 3), **more)
                await copy(peer, "s3/five", "from-s3/five")
            await peer.put(f"{name}/text", text, ContentType="text/plain", **more)
            await upload(peer, f"{name}/parts", parts, **more)
            await upload(peer, f"{name}/odd", odd, **more)
            await copy(peer, "plain", f"{name}/from-plain", **how)
            await copy(peer, f"{name}/text", f"from-{name}/text")
            await copy(peer, f"{name}/odd", f"from-{name}/odd")
        await copy(peer, "s3/odd", "kms/from-s3", **scene.kms)
        await copy(peer, "kms/odd", "s3/from-kms", **S3)
        for name in await peer.names():
            data = await peer.get(name)
            assert data is not None
            scene.expected[name] = data
        await peer.put("customer/one", b"1", **CUSTOMER)
        await upload(peer, "customer/odd", odd, **CUSTOMER)
    assert scene.expected["s3/parts"] == b"".join(parts)
    assert scene.expected["s3/odd"] == scene.expected["kms/from-s3"] == b"".join(odd)


async def upload(peer: Peer, name: str, parts: Sequence[bytes], **how: Any) -> None:
    """A multipart upload."""
    client, place = peer.client, {"Bucket": peer.bucket, "Key": name}
    upload_id = (await client.create_multipart_upload(**place, **how))["UploadId"]
    each = {key: value for key, value in how.items() if key.startswith("SSECustomer")}
    done = []
    for number, part in enumerate(parts, 1):
        answer = await client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=part, **each)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    await client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload={"Parts": done})


async def copy(peer: Peer, old: str, new: str, **how: Any) -> None:
    """A copy that the gateway makes by itself."""
    await peer.client.copy_object(
        Bucket=peer.bucket, Key=new, CopySource={"Bucket": peer.bucket, "Key": old}, **how
    )
