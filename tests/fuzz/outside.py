"""Targets for what a sink's service answers, and for what lies on the filer and in the sink."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

from filerbackup.errors import FilerBackupError, ObjectRejected, SinkRefused, StateError, UsageError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.pipeline.mark import require_ours
from filerbackup.sinks.azure import answers as azure
from filerbackup.sinks.backblaze import answers as b2
from filerbackup.sinks.backblaze.errors import Answered as B2Answered
from filerbackup.sinks.base import Sink
from filerbackup.sinks.filer.rules import prefixes_of
from filerbackup.sinks.gcs import answers as gcs
from filerbackup.sinks.gcs import errors as gcs_errors
from filerbackup.sinks.keys import check_key
from filerbackup.sinks.local.durability import record_at_start
from filerbackup.sinks.objects.errors import Unanswered
from filerbackup.sinks.objects.forms import Forms
from filerbackup.sinks.objects.journal import Journal
from filerbackup.sinks.objects.names import Names
from filerbackup.sinks.objects.store import Found, Store
from filerbackup.sinks.s3 import answers as s3
from filerbackup.state.checkpoints import FilerCheckpoints, FilerStatus
from filerbackup.state.held import FilerHeldDeletes
from filerbackup.state.kv import Answers, KeyValues
from filerbackup.state.letters import FilerDeadLetters, PairDirectory
from filerbackup.state.pair import Pair
from tests.fuzz.targets import DIALECTS, settled

_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1

# -- answers of services -----------------------------------------------------------------------------

_NAMES = [Names("backup/of", dialect, most_bytes=1024, markers=markers)
          for dialect in DIALECTS for markers in (True, False)]  # fmt: skip


def answers(data: bytes) -> None:
    """The first byte chooses what was asked for, the rest is the answer's body."""
    which, body = data[:1], data[1:]
    parse = _ASKED[which[0] % len(_ASKED)] if which else _ASKED[0]
    try:
        parse(body)
    except (s3.NotS3, azure.NotAzure, gcs.NotGoogle, Unanswered, B2Answered):
        return


def _listed(found: list[Found]) -> None:
    """Whatever a listing says, what comes of it is a key of this sink."""
    for each in found:
        assert 0 <= each.size < 1 << 64
        for names in _NAMES:
            listed = names.listed(each, links=True)
            if listed is not None and each.name.startswith(names.prefix):
                check_key(listed.key)
                assert listed.mtime_ns is None or isinstance(listed.mtime_ns, int)
                if listed.kind.value == "file":
                    try:
                        assert names.plain(listed.key) == each.name
                    except ObjectRejected:
                        # A longer name than the service would take: it can be listed, not written.
                        assert len(each.name.encode()) > 1024


def _s3_page(body: bytes) -> None:
    _listed(s3.parse_page(body).objects)


def _azure_page(body: bytes) -> None:
    page = azure.parse_page(body, "backup/of/")
    assert all(each.name.startswith("backup/of/") for each in page.objects)
    _listed(page.objects)


def _gcs_page(body: bytes) -> None:
    for each in gcs.parse_listing(body).objects:
        assert 0 <= each.size < 10**20


def _b2_page(body: bytes) -> None:
    versions = b2.parse_versions(b2.parse_json(200, "application/json", body))
    _listed([b2.found_of(each, "md5") for each in versions])


def _b2_answers(body: bytes) -> None:
    answer = b2.parse_json(200, "", body)
    for parse in (
        lambda: b2.parse_grant(answer, secure=True),
        lambda: b2.parse_bucket(answer, "name"),
        lambda: b2.parse_version(answer),
        lambda: b2.text_of(answer, "a"),
        lambda: b2.token_of(answer.get("a")),
        lambda: b2.url_of(answer.get("a"), secure=False),
    ):
        try:
            cast(Callable[[], object], parse)()
        except Unanswered:
            continue


def _heads(body: bytes) -> None:
    """Headers of an answer to HEAD: as many texts as there are lines, in the order of the names."""
    names = ("Content-Length", "ETag", "x-amz-meta-mtime", "x-ms-meta-a", "X-Bz-File-Id", "x-bz-info-a",
             "Content-MD5", "x-ms-copy-status", "x-ms-tag-count", "x-amz-server-side-encryption")  # fmt: skip
    lines = body.decode("latin-1").split("\n")
    headers: Mapping[str, str] = dict(zip(names, lines, strict=False))
    for parse in (
        s3.parse_head,
        lambda given: azure.parse_blob("n", given),
        lambda given: b2.parse_head("n", given),
    ):
        try:
            cast(Callable[[object], object], parse)(headers)
        except (s3.NotS3, azure.NotAzure, Unanswered):
            continue


_ASKED: tuple[Callable[[bytes], object], ...] = (
    _s3_page,
    s3.parse_error,
    _azure_page,
    azure.parse_error,
    lambda body: azure.parse_batch('multipart/mixed; boundary="b"', body),
    _gcs_page,
    lambda body: gcs.parse_resource(gcs.parse_json(body)),
    lambda body: gcs.parse_batch("multipart/mixed; boundary=b", body),
    lambda body: gcs_errors.parse_refusal(400, body),
    _b2_page,
    _b2_answers,
    lambda body: b2.parse_error(400, body),
    _heads,
)

# -- what is kept on the filer and in the sink --------------------------------------------------------

PAIR = Pair("/data", "local", "", "", "/backup")


class _Filer:
    """A filer with one entry, whatever is asked for: in a directory of its own name, too."""

    def __init__(self, entry: pb.Entry) -> None:
        self._entry = entry

    async def lookup(self, _directory: str, _name: str) -> pb.Entry:
        return self._entry

    async def list_page(self, _directory: str, after: str, _limit: int) -> list[pb.Entry]:
        return [] if after == self._entry.name else [self._entry]


class _Values:
    """Every key has this value."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    async def get_all(self, _key: bytes) -> Answers:
        return Answers((self._value, self._value))


class _Objects:
    """A store in which every object has these bytes."""

    label = "fuzz"
    traits = SimpleNamespace(keeps_unfinished=True)

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def get(self, _name: str) -> Any:
        yield self._data


def state(data: bytes) -> None:
    """The first byte chooses what is read, the rest is what lies there."""
    which, kept = data[:1], data[1:]
    read = _KEPT[which[0] % len(_KEPT)] if which else _KEPT[0]
    try:
        read(kept)
    except (StateError, UsageError, SinkRefused) as error:
        assert isinstance(error, FilerBackupError)


def _filer(kept: bytes) -> FilerClient:
    name, _, content = kept.partition(b"\n") if kept[:1] == b"/" else (b"000000000001.json", b"", kept)
    return cast(FilerClient, _Filer(pb.Entry(name=name.decode("utf-8", "replace"), content=content)))


def _values(kept: bytes) -> KeyValues:
    return cast(KeyValues, _Values(kept))


def _checkpoint(kept: bytes) -> None:
    found = settled(FilerCheckpoints(_values(kept), PAIR).load())
    if found is not None:
        _plain(
            found.offset_ns, found.cursor, found.generation, found.updated_ns, found.holder, found.compared_ns
        )
        pb.SubscribeMetadataRequest(since_ns=found.offset_ns)
        assert type(found.sweep) is bool


def _weed_checkpoint(kept: bytes) -> None:
    found = settled(FilerCheckpoints(_values(kept), PAIR, ("local", "/backup")).weed_offset_ns())
    pb.SubscribeMetadataRequest(since_ns=found or 0)


def _status(kept: bytes) -> None:
    found = settled(FilerStatus(_values(kept), PAIR).load())
    if found is not None:
        _plain(found.state, found.updated_ns, found.lag_ns, found.error, found.log_horizon_ns or 0)


def _letters(kept: bytes) -> None:
    for each in settled(FilerDeadLetters(_filer(kept), PAIR).all()):
        _plain(each.key, each.path, each.action, each.reason, each.ts_ns, each.attempts, each.letter_id)
        json.dumps([each.key, each.reason])


def _pairs(kept: bytes) -> None:
    directory = PairDirectory(_filer(kept))
    for each in settled(directory.all()):
        _plain(each.pair_id, each.describe(), each.entry_directory)
    _plain(settled(directory.cluster_id(create=False)))


def _guard(kept: bytes) -> None:
    found = settled(FilerHeldDeletes(_filer(kept), PAIR).load())
    _plain(found.held, found.decided_to, found.tripped_ns, *found.allowed, *sum(found.counts, ()))


def _wish(kept: bytes) -> None:
    found = settled(FilerHeldDeletes(_filer(kept), PAIR).wish())
    assert found is None or (type(found.asked_ns) is int and type(found.kept) is bool)


def _held(kept: bytes) -> None:
    async def collect() -> None:
        store = FilerHeldDeletes(_filer(kept), PAIR)
        async for number, deletes in store.batches():
            _plain(number, *[text for delete in deletes for text in delete])

    settled(collect())


def _mark(kept: bytes) -> None:
    sink = cast(Sink, SimpleNamespace(identity="local:/backup"))
    require_ours(kept, sink, cluster="c", path="/data", layout="mirror")


def _uploads(kept: bytes) -> None:
    names = settled(Journal(cast(Store, _Objects(kept)), "b/.filerbackup/uploads.json", below="b/").load())
    assert all(name.startswith("b/") for name in names)


def _plain(*values: object) -> None:
    for value in values:
        if isinstance(value, str):
            value.encode()
        else:
            assert type(value) is int
            assert _LOWEST <= value <= _HIGHEST


_KEPT: tuple[Callable[[bytes], object], ...] = (
    _checkpoint,
    _weed_checkpoint,
    _status,
    _letters,
    _pairs,
    _guard,
    _wish,
    _held,
    _mark,
    _uploads,
    lambda kept: settled(Forms(cast(Store, _Objects(kept)), "forms").load()),
    lambda kept: record_at_start(kept, 5),
    prefixes_of,
)
