"""File info: what goes into ten names, and comes back the same."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from filerbackup.events import Chunk
from filerbackup.sinks.backblaze.dialect import (
    DIALECT,
    MOST_NAMES,
    ROOM_BYTES,
    ROOM_ENCRYPTED_BYTES,
    file_info,
    own_info,
    user_metadata,
)
from filerbackup.sinks.metadata import ObjectMetadata, object_metadata, with_proof
from tests.contract.contents import file_entry

times = st.integers(-(10**18), 4 * 10**18)


@given(times)
def test_times_come_back_exactly(time_ns: int) -> None:
    info = DIALECT.time(time_ns)
    assert DIALECT.parse_time(info) == time_ns
    assert int(info["src_last_modified_millis"]) == time_ns // 10**6
    assert len(info) == (1 if time_ns % 10**6 == 0 else 2)


@given(times, times)
def test_milliseconds_that_another_program_set_win(time_ns: int, other_ns: int) -> None:
    info = {**DIALECT.time(time_ns), "src_last_modified_millis": str(other_ns // 10**6)}
    same = time_ns // 10**6 == other_ns // 10**6
    assert DIALECT.parse_time(info) == (time_ns if same else other_ns // 10**6 * 10**6)


def test_times_that_are_none() -> None:
    for text in ("", "x", "1.5", "1" * 17, "٣", " 1", "1_0"):
        assert DIALECT.parse_time({"src_last_modified_millis": text}) is None
    assert DIALECT.parse_time({}) is None
    assert DIALECT.parse_time({"src_last_modified_millis": "5", "filerbackup-mtime": "x"}) == 5_000_000


extended = st.dictionaries(
    st.one_of(
        st.builds("X-Amz-Meta-{}".format, st.text(max_size=60)),
        st.sampled_from(["Cache-Control", "Expires", "X-Amz-Meta-Mode", "X-Amz-Meta-Filerbackup"]),
    ),
    st.binary(max_size=900),
    max_size=20,
)


@given(extended, times, st.booleans(), st.sampled_from([ROOM_BYTES, ROOM_ENCRYPTED_BYTES]))
def test_what_is_sent_fits_and_comes_back(
    extended: dict[str, bytes], time_ns: int, has_md5: bool, room: int
) -> None:
    entry = dataclasses.replace(
        file_entry("f", 4, mtime_ns=time_ns),
        extended=extended,
        md5=hashlib.md5(b"data").digest() if has_md5 else b"",
        chunks=(Chunk("3,01", 0, 4, 1),),
    )
    metadata = with_proof(object_metadata(entry, DIALECT), entry, DIALECT, tag_is_md5=False)
    info, left_out = file_info("some/näme", metadata, room)

    assert len(info) <= MOST_NAMES
    assert len(quote("some/näme")) + sum(len(k) + len(quote(v)) for k, v in info.items()) <= room
    assert all("\n" not in each and "\r" not in each for each in (*info, *info.values()))
    back = user_metadata(info)
    assert DIALECT.parse_time(back) == time_ns
    kept = {name: value for name, value in metadata.user.items() if name not in left_out}
    assert {name: value for name, value in back.items() if not name.startswith("b2-")} == kept
    assert own_info(metadata).items() <= info.items()
    # Nobody's metadata can pass for ours.
    assert back["mode"] == "100644"
    if has_md5:
        assert back["md5chksum"] == base64.b64encode(hashlib.md5(b"data").digest()).decode()


def test_headers_come_before_users_names() -> None:
    user = {**DIALECT.time(1), **{f"n{number}": "x" for number in range(9)}}
    metadata = ObjectMetadata(user=user, cache_control="no-cache", expires="never")
    info, left_out = file_info("name", metadata, ROOM_BYTES)
    assert list(info)[:4] == ["src_last_modified_millis", "filerbackup", "b2-cache-control", "b2-expires"]
    assert left_out == ["n6", "n7", "n8"]


def test_own_info_that_is_broken_is_nobodys() -> None:
    info = {"filerbackup": "mode=1=2 = uid gid=7 nonsense=x  ", "mode": "foreign", "other": "kept"}
    assert user_metadata(info) == {"mode": "1=2", "gid": "7", "other": "kept"}
