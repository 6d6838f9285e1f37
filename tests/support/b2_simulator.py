"""The raw simulator inside b2sdk, with the rules of Backblaze's that it leaves open."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from b2sdk import v3
from b2sdk._internal import exception as b2
from b2sdk._internal import raw_simulator

SMALLEST_PART = 5_000_000


class Bucket(raw_simulator.BucketSimulator):
    """A bucket with room for many files, and with a few rules of Backblaze's that b2sdk does not simulate."""

    FIRST_FILE_NUMBER = 9_999_999_999
    FIRST_FILE_ID = str(FIRST_FILE_NUMBER)
    FILES_OF_A_BUCKET = 1_000_000
    MAX_SIMPLE_COPY_SIZE = 5_000_000_000

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # A file's id is its own among all buckets: rclone downloads by it, without a bucket's name.
        first = self.FIRST_FILE_NUMBER - self.FILES_OF_A_BUCKET * int(self.bucket_id.rpartition("_")[2])
        self.file_id_counter = itertools.count(first, -1)  # type: ignore[assignment]
        self.upload_timestamp_counter = itertools.count(1_700_000_000_000)  # type: ignore[assignment]
        self.upload_url_counter = itertools.count()  # type: ignore[assignment]

    def current(self, name: str) -> Any:
        """The newest version that is no unfinished large file, None when there is none or it is hidden."""
        ids = [file_id for known, file_id in self.file_name_and_id_to_file if known == name]
        for file_id in sorted(ids):
            found = self.file_id_to_file[file_id]
            if found.action != "start":
                return found if found.is_visible() else None
        return None

    def hide_file(self, account_auth_token: str, file_name: str) -> Any:
        if self.current(file_name) is None:
            known = any(name == file_name for name, _ in self.file_name_and_id_to_file)
            code = "already_hidden" if known else "no_such_file"
            raise b2.BadRequest(f"File not present: {file_name}", code)
        return super().hide_file(account_auth_token, file_name)

    def cancel_large_file(self, file_id: str) -> Any:
        if self.file_id_to_file[file_id].action != "start":
            raise b2.BadRequest(f"No active upload for: {file_id}", "bad_request")
        return super().cancel_large_file(file_id)

    def list_file_names(self, token: str, start: Any = None, most: Any = None, prefix: Any = None) -> Any:
        # An unfinished large file does not hide the version below it, as it does in the simulator.
        with self._without_unfinished():
            return super().list_file_names(token, start, most, prefix)

    @contextmanager
    def _without_unfinished(self) -> Iterator[None]:
        files = self.file_name_and_id_to_file
        if any(each.action == "start" for each in files.values()):
            self.file_name_and_id_to_file = {key: v for key, v in files.items() if v.action != "start"}
        try:
            yield
        finally:
            self.file_name_and_id_to_file = files

    def _simulate_chunked_post(self, stream: Any, _length: int, *_rest: Any, **_named: Any) -> bytes:
        return stream.read()


class Simulator(v3.RawSimulator):
    """The simulator with keys that are restricted as Backblaze restricts them."""

    BUCKET_SIMULATOR_CLASS = Bucket
    MIN_PART_SIZE = SMALLEST_PART

    def _assert_account_auth(
        self,
        _url: str,
        token: str,
        _account: str,
        capability: str,
        bucket_id: Any = None,
        file_name: Any = None,
    ) -> None:
        key = self.auth_token_to_key.get(token)
        if key is None:
            raise b2.InvalidAuthToken("Invalid authorization token", "bad_auth_token")
        if token in self.expired_auth_tokens:
            raise b2.InvalidAuthToken("Authorization token has expired", "expired_auth_token")
        allowed = {each["id"] for each in key.buckets_or_none or ()}
        foreign = allowed and (bucket_id or capability == "listBuckets") and bucket_id not in allowed
        outside = key.name_prefix_or_none and file_name and not file_name.startswith(key.name_prefix_or_none)
        if capability not in key.capabilities or foreign or outside:
            raise b2.Unauthorized("Application key is restricted", "unauthorized")
