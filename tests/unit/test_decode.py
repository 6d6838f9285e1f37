"""The filer's messages become entries, whatever is in them."""

from __future__ import annotations

import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.events import EntryKind
from filerbackup.filer.fileid import file_id_of
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.source.decode import chunk_from_pb, entry_from_pb

DIRECTORY, SYMLINK, DEVICE, PIPE, SOCKET, CHARACTER = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24, 1 << 21
SETUID, SETGID, STICKY = 1 << 23, 1 << 22, 1 << 20


def entry(**attributes: object) -> pb.Entry:
    return pb.Entry(name="n", attributes=pb.FuseAttributes(**attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("volume_id", "key", "cookie", "expected"),
    [
        (5, 2, 0x557ED9DB, "5,02557ed9db"),
        (3, 0x03, 0x03EEF2DB, "3,0303eef2db"),
        (7, 0x123, 1, "7,012300000001"),
        (2**32 - 1, 2**64 - 1, 2**32 - 1, "4294967295,ffffffffffffffffffffffff"),
        (1, 0, 0, "1,00000000"),
        (1, 0x100, 0xFF, "1,0100000000ff"),
    ],
)
def test_file_ids(volume_id: int, key: int, cookie: int, expected: str) -> None:
    """The first two were seen on a running filer, beside the text form of the same id."""
    assert file_id_of(volume_id, key, cookie) == expected
    message = pb.FileChunk(fid=pb.FileId(volume_id=volume_id, file_key=key, cookie=cookie))
    assert chunk_from_pb(message).file_id == expected


def test_a_file_id_in_text_wins() -> None:
    message = pb.FileChunk(file_id="9,0102030405", fid=pb.FileId(volume_id=1, file_key=2, cookie=3))
    assert chunk_from_pb(message).file_id == "9,0102030405"


def test_a_chunk_keeps_everything() -> None:
    message = pb.FileChunk(
        file_id="1,0102030405",
        offset=7,
        size=8,
        modified_ts_ns=9,
        cipher_key=b"k",
        is_compressed=True,
        is_chunk_manifest=True,
        sse_type=3,
        e_tag="tag",
    )
    chunk = chunk_from_pb(message)
    assert (chunk.offset, chunk.size, chunk.modified_ts_ns, chunk.cipher_key) == (7, 8, 9, b"k")
    assert (chunk.is_compressed, chunk.is_manifest, chunk.sse_type, chunk.e_tag) == (True, True, 3, "tag")


@pytest.mark.parametrize(
    ("go_mode", "kind", "mode"),
    [
        (0o660, EntryKind.FILE, stat.S_IFREG | 0o660),
        (0, EntryKind.FILE, stat.S_IFREG),
        (0o4755, EntryKind.FILE, stat.S_IFREG | 0o4755),
        (0o755 | SETUID, EntryKind.FILE, stat.S_IFREG | 0o4755),
        (0o755 | SETGID, EntryKind.FILE, stat.S_IFREG | 0o2755),
        (0o777 | STICKY | DIRECTORY, EntryKind.DIRECTORY, stat.S_IFDIR | 0o1777),
        (0o771 | DIRECTORY, EntryKind.DIRECTORY, stat.S_IFDIR | 0o771),
        (0o777 | SYMLINK, EntryKind.SYMLINK, stat.S_IFLNK | 0o777),
        (0o600 | PIPE, EntryKind.SPECIAL, stat.S_IFIFO | 0o600),
        (0o600 | SOCKET, EntryKind.SPECIAL, stat.S_IFSOCK | 0o600),
        (0o600 | DEVICE, EntryKind.SPECIAL, stat.S_IFBLK | 0o600),
        (0o600 | DEVICE | CHARACTER, EntryKind.SPECIAL, stat.S_IFCHR | 0o600),
        (2**32 - 1, EntryKind.DIRECTORY, stat.S_IFDIR | 0o7777),
    ],
)
def test_modes(go_mode: int, kind: EntryKind, mode: int) -> None:
    found = entry_from_pb("/d", entry(file_mode=go_mode))
    assert found.kind is kind
    assert found.mode == mode


def test_directory_without_its_bit_and_no_attributes() -> None:
    assert entry_from_pb("/", pb.Entry(name="d", is_directory=True)).mode == stat.S_IFDIR | 0o755
    assert entry_from_pb("/", pb.Entry(name="f")).mode == stat.S_IFREG | 0o644
    marked = pb.Entry(name="d", is_directory=True, attributes=pb.FuseAttributes(file_mode=0o770))
    assert entry_from_pb("/", marked).kind is EntryKind.DIRECTORY


@pytest.mark.parametrize(
    ("directory", "name", "path"),
    [
        ("/", "a", "/a"),
        ("", "a", "/a"),
        ("/b", "a", "/b/a"),
        ("/b/", "a", "/b/a"),
        ("/b", "a/", "/b/a"),
        ("/b", " x \n%20é", "/b/ x \n%20é"),
    ],
)
def test_paths(directory: str, name: str, path: str) -> None:
    assert entry_from_pb(directory, pb.Entry(name=name)).path == path


def test_sizes() -> None:
    chunk = pb.FileChunk(offset=5, size=10)
    assert entry_from_pb("/", pb.Entry(chunks=[chunk])).size == 15
    assert entry_from_pb("/", pb.Entry(content=b"abc")).size == 3
    sparse = pb.Entry(chunks=[chunk], attributes=pb.FuseAttributes(file_size=99))
    assert entry_from_pb("/", sparse).size == 99


def test_remote_sizes() -> None:
    remote = pb.RemoteEntry(remote_size=50, remote_mtime=10)
    chunk = pb.FileChunk(size=20)
    only_there = entry_from_pb("/", pb.Entry(remote_entry=remote))
    assert (only_there.size, only_there.remote_size) == (50, 50)
    cached = pb.Entry(chunks=[chunk], remote_entry=remote, attributes=pb.FuseAttributes(mtime=10))
    assert entry_from_pb("/", cached).size == 20
    cached.attributes.mtime = 9
    assert entry_from_pb("/", cached).size == 50
    assert entry_from_pb("/", pb.Entry(remote_entry=pb.RemoteEntry(remote_size=-1))).remote_size == 0


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "expected"),
    [
        (1_795_296_814, 216_249_302, 1_795_296_814_216_249_302),
        (-62_135_596_800, 0, 0),
        (-5, 7, -4_999_999_993),
        (-(2**63), 0, 0),
        (2**63 - 1, 0, 253_402_300_799 * 10**9),
        (1, -5, 10**9),
        (1, 2**31 - 1, 1_999_999_999),
    ],
)
def test_times(seconds: int, nanoseconds: int, expected: int) -> None:
    """Go's time that was never set is the first second of year 1; seen as `ctime` of every file."""
    found = entry_from_pb(
        "/", entry(mtime=seconds, mtime_ns=nanoseconds, crtime=seconds, crtime_ns=nanoseconds)
    )
    assert found.mtime_ns == found.crtime_ns == expected


def test_what_else_is_taken_over() -> None:
    message = entry(uid=3, gid=4, mime="text/plain", md5=b"m" * 16, ttl_sec=60, symlink_target="../t")
    message.extended["X-Amz-Meta-a"] = b"1"
    message.hard_link_id = b"h"
    message.content = b"inline"
    found = entry_from_pb("/", message)
    assert (found.uid, found.gid, found.mime, found.md5, found.ttl_s) == (3, 4, "text/plain", b"m" * 16, 60)
    assert (found.symlink_target, found.hard_link_id) == ("../t", b"h")
    assert found.extended == {"X-Amz-Meta-a": b"1"}
    assert entry_from_pb("/", entry(ttl_sec=-1)).ttl_s == 0


def test_only_an_md5_of_this_content_is_taken_over() -> None:
    whole = entry(md5=b"m" * 16, file_size=9)
    whole.chunks.add(file_id="1,0102030405", size=9)
    assert entry_from_pb("/", whole).md5 == b"m" * 16
    for left_behind in (entry(md5=b"m" * 16), entry(md5=b"m" * 16, file_size=9), entry(md5=b"short")):
        assert entry_from_pb("/", left_behind).md5 == b""
    whole.chunks.add(file_id="1,0102030406", offset=3, size=2)
    assert entry_from_pb("/", whole).md5 == b""


_ints = {"i32": st.integers(-(2**31), 2**31 - 1), "u32": st.integers(0, 2**32 - 1)}
_i64, _u64 = st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)
_chunks = st.builds(
    pb.FileChunk,
    file_id=st.text(max_size=5),
    offset=_i64,
    size=_u64,
    modified_ts_ns=_i64,
    e_tag=st.text(max_size=5),
    sse_type=_ints["i32"],
)
_attributes = st.builds(
    pb.FuseAttributes,
    file_size=_u64,
    mtime=_i64,
    mtime_ns=_ints["i32"],
    file_mode=_ints["u32"],
    md5=st.binary(max_size=20),
    ttl_sec=_ints["i32"],
)
_entries = st.builds(
    pb.Entry,
    name=st.text(max_size=5),
    is_directory=st.booleans(),
    chunks=st.lists(_chunks, max_size=3),
    attributes=_attributes,
    content=st.binary(max_size=3),
    remote_entry=st.none() | st.builds(pb.RemoteEntry, remote_size=_i64, remote_mtime=_i64),
)


@given(message=_entries, directory=st.text(max_size=5))
def test_nothing_breaks_it(message: pb.Entry, directory: str) -> None:
    found = entry_from_pb(directory, message)
    assert found.size >= len(found.content)
    assert found.remote_size >= 0
    assert len(found.md5) in (0, 16)
    assert stat.S_IFMT(found.mode) != 0
    assert -62_135_596_800 * 10**9 < found.mtime_ns < 253_402_300_800 * 10**9


def test_it_is_quick() -> None:
    message = entry(file_size=4096, mtime=1, file_mode=0o644, md5=b"m" * 16)
    message.chunks.add(fid=pb.FileId(volume_id=5, file_key=2, cookie=3), size=4096, e_tag="x" * 24)
    begun = time.perf_counter()
    for _ in range(2_000):
        entry_from_pb("/some/folder", message)
    assert time.perf_counter() - begun < 0.5
