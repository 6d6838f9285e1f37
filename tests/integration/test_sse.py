"""Objects that the S3 gateway has encrypted: decrypted with the right keys, else a dead letter."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from filerbackup.errors import KeyMissing, Unreadable
from filerbackup.events import Entry
from filerbackup.filer.client import FilerClient
from filerbackup.runtime.build import make_keys
from filerbackup.settings.model import KmsSettings, SecuritySettings, Settings, SourceSettings, SseSettings
from filerbackup.settings.secret import Secret
from filerbackup.source.content import FileContent
from filerbackup.source.decode import entry_from_pb
from filerbackup.source.kms import AwsKms
from filerbackup.source.sse_keys import SseKeys
from filerbackup.source.volumes import Volumes
from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.filer_entries import look_up, make_entry, update_entry
from tests.support.reading import connected, reading, streamed
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, peer_of
from tests.support.sealed import BUCKET, KEK, S3, Scene, sealed_scene
from tests.support.trees import Tree, difference, digest, local_tree

FOLDER = f"/buckets/{BUCKET}"
OTHER_KEK = "5e" * 32
CUSTOMER = {"customer/one", "customer/odd"}
COPIES = ["from-s3", "from-kms"]
NOT_THE_COPIES = [f"{FOLDER}/{name}" for name in COPIES]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with sealed_scene(tmp_path_factory.mktemp("sealed")) as found:
        yield found


def caught_up(
    scene: Scene,
    directory: Path,
    security: str = "",
    *,
    more: str = "",
    retry: bool = False,
    **options: object,
) -> tuple[Tree, dict[str, str], str]:
    """What a one-shot run has copied, the reasons of its dead letters, and all that it said."""
    target = directory / "copy"
    process = Daemon(directory / "d", general(scene.weed, FOLDER, **options) + local_sink(target))
    if security:
        file = process.config.with_name("security.toml")
        file.write_text(security)
        file.chmod(0o600)
    if retry:
        assert process.run("dead-letters retry", "--all").returncode == 0
    done = process.run("catchup", "--log-level", "debug", "--log-format", "json")
    assert done.returncode == 1, done.stderr[-3000:]
    letters = json.loads(process.run("dead-letters list", "--json").stdout)
    reasons = {
        letter["key"]: letter["reason"] for letter in letters if letter.get("sink", "local") == "local"
    }
    return local_tree(target, directories=False), reasons, done.stdout + done.stderr


def clear(scene: Scene) -> Tree:
    """What should arrive."""
    return {name: digest(data) for name, data in scene.expected.items()}


def unsealed(scene: Scene) -> Tree:
    """What should arrive without the right keys, but for decrypted copies."""
    names = scene.expected.keys() - encrypted(scene)
    return {name: digest(scene.expected[name]) for name in names if name.split("/")[0] not in COPIES}


def test_with_the_right_keys_everything_arrives_in_the_clear(scene: Scene, tmp_path: Path) -> None:
    copied, reasons, said = caught_up(scene, tmp_path, scene.keys_toml())
    assert not difference(clear(scene), copied), said[-3000:]
    assert reasons.keys() == CUSTOMER
    assert all("only the client has (SSE-C)" in reason for reason in reasons.values())
    assert KEK not in said
    assert "hidden-b" not in said


def encrypted(scene: Scene) -> set[str]:
    """The names of what cannot be read without the gateway's keys: all but what is empty."""
    return {name for name, data in scene.expected.items() if data and name.startswith(("s3/", "kms/"))}


def test_without_keys_each_object_is_a_dead_letter_that_says_so(scene: Scene, tmp_path: Path) -> None:
    copied, reasons, _ = caught_up(scene, tmp_path, exclude_paths=NOT_THE_COPIES)
    sealed = encrypted(scene)
    assert not difference(unsealed(scene), copied)
    assert reasons.keys() == sealed | CUSTOMER
    for name in sealed:
        kind = name.split("/")[0].upper()
        assert re.search(rf"SSE-{kind}\b.*security.toml", reasons[name]), reasons[name]
    # Once the keys are there.
    keys = scene.keys_toml()
    copied, reasons, _ = caught_up(scene, tmp_path, keys, retry=True, exclude_paths=NOT_THE_COPIES)
    assert {name: item for name, item in clear(scene).items() if name.split("/")[0] not in COPIES} == copied
    assert reasons.keys() == CUSTOMER


def test_with_the_wrong_keys_nothing_garbled_arrives(scene: Scene, tmp_path: Path) -> None:
    security = scene.keys_toml(kek=OTHER_KEK, region="eu-west-1")
    copied, reasons, said = caught_up(
        scene, tmp_path, security, exclude_paths=[f"{FOLDER}/{name}" for name in COPIES]
    )
    sealed = encrypted(scene)
    assert not difference(unsealed(scene), copied)
    assert reasons.keys() == sealed | CUSTOMER
    for name in sealed:
        expected = "under another key than" if name.startswith("s3/") else "does not unwrap the key"
        assert expected in reasons[name], reasons[name]
    assert OTHER_KEK not in said


async def test_changes_renames_and_attributes_of_an_encrypted_object(scene: Scene, tmp_path: Path) -> None:
    async with peer_of(scene.weed, "moving") as peer, peer_of(scene.weed, "copies") as copies:
        await peer.put("first", b"1", Metadata={"color": "blue"}, **S3)
        target = tmp_path / "copy"
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        config = general(scene.weed, "/buckets/moving") + local_sink(target)
        with daemon(tmp_path / "d", config + s3_sink(scene.weed, "copies", **keys)) as process:
            file = process.config.with_name("security.toml")
            file.write_text(scene.keys_toml())
            file.chmod(0o600)
            process.start()
            tree = {"first": digest(b"1")}
            wait_until(lambda: local_tree(target, directories=False) == tree)
            # From here on it is the log that tells.
            tree["five"] = digest(scene.expected["s3/five"])
            await peer.put("five", scene.expected["s3/five"], **S3)
            wait_until(lambda: local_tree(target, directories=False) == tree)
            inode = (target / "five").stat().st_ino
            entry = look_up(scene.weed, "/buckets/moving/five")
            entry.attributes.file_mode = 0o640
            update_entry(scene.weed, "/buckets/moving", entry)
            wait_until(lambda: (target / "five").stat().st_mode & 0o777 == 0o640)
            assert scene.weed.rename("/buckets/moving/five", "/buckets/moving/below/six") < 300
            tree["below/six"] = tree.pop("five")
            wait_until(lambda: local_tree(target, directories=False) == tree)
            assert (target / "below/six").stat().st_ino == inode, "the bytes were not copied again"
            await peer.put("last", b"again", Metadata={"color": "blue"}, **scene.kms)
            tree["last"] = digest(b"again")
            wait_until(lambda: local_tree(target, directories=False) == tree)
            async with asyncio.timeout(60):
                while {
                    one for one in await copies.names() if not one.startswith(".filerbackup/")
                } != tree.keys():
                    await asyncio.sleep(0.1)
            assert process.stop() == 0
        for name, data in (("first", b"1"), ("below/six", scene.expected["s3/five"]), ("last", b"again")):
            head = await copies.head(name)
            assert head is not None, name
            assert await copies.get(name) == data
            assert not {key for key in head if key.startswith(("SSE", "ServerSide", "BucketKey"))}
            assert not {key for key in head["Metadata"] if "sse" in key}
            assert head["Metadata"].get("color") == (None if name == "below/six" else "blue")


# -- one object at a time -----------------------------------------------------------------------------


def entry_at(scene: Scene, name: str, folder: str = FOLDER) -> Entry:
    directory, _, _ = f"{folder}/{name}".rpartition("/")
    return entry_from_pb(directory, look_up(scene.weed, f"{folder}/{name}"))


def keys_of(client: FilerClient, sse: SseSettings, *, from_filer: bool = False) -> SseKeys:
    settings = Settings(
        source=SourceSettings(sse_kek_from_filer=from_filer), security=SecuritySettings(sse=sse)
    )
    return make_keys(settings, client)


async def test_the_key_that_lies_on_the_filer_is_read_when_that_is_allowed(scene: Scene) -> None:
    entry = entry_at(scene, "s3/odd")
    async with connected(scene.weed) as client, reading(client) as volumes:

        async def read(**settings: bool) -> bytes:
            keys = keys_of(client, SseSettings(), **settings)
            return await FileContent(entry, volumes, keys=keys).read()

        with pytest.raises(KeyMissing, match=r"sse_kek does not exist"):
            await read(from_filer=True)
        make_entry(scene.weed, "/etc/s3/sse_kek", OTHER_KEK.encode())
        with pytest.raises(KeyMissing, match=r"under another key than the filer's"):
            await read(from_filer=True)
        make_entry(scene.weed, "/etc/s3/sse_kek", KEK.encode())
        assert await read(from_filer=True) == scene.expected["s3/odd"]
        with pytest.raises(KeyMissing, match="or sse_kek_from_filer"):
            await read()
        scene.weed.delete("/etc/s3/sse_kek")


class Counting(Volumes):
    """Counts reads, and damages what is read when told so."""

    reads = 0
    damage = b""

    async def read(self, chunk, offset=0, size=None):  # type: ignore[no-untyped-def]
        self.reads += 1
        data = await super().read(chunk, offset, size)
        return bytes([data[0] ^ 1]) + data[1:] if self.damage else data


def kms_keys(scene: Scene) -> SseKeys:
    settings = KmsSettings(
        "main", "aws", endpoint=scene.moto.endpoint, access_key_id="a", secret_access_key=Secret("b")
    )
    return SseKeys(SseSettings(), kms=[AwsKms(settings)])


@pytest.mark.parametrize("name", ["s3/five", "s3/parts", "kms/parts", "kms/from-s3", "s3/from-plain"])
async def test_damaged_ciphertext_is_noticed_by_the_md5_of_the_clear_bytes(scene: Scene, name: str) -> None:
    """Counter mode turns a damaged bit into another damaged bit, without a word."""
    async with connected(scene.weed) as client:
        volumes = Counting(client.lookup_volumes)
        keys = keys_of(client, SseSettings(kek=Secret(KEK)))
        if name.startswith("kms"):
            keys = kms_keys(scene)
        try:
            content = FileContent(entry_at(scene, name), volumes, keys=keys, piece_bytes=100_000)
            assert await streamed(content) == scene.expected[name]
            volumes.damage = b"yes"
            with pytest.raises(Unreadable, match="MD5"):
                await streamed(FileContent(entry_at(scene, name), volumes, keys=keys, piece_bytes=100_000))
        finally:
            await keys.close()
            await volumes.close()
