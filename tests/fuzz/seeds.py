"""A small corpus for each target, made here: shapes that random bytes would take long to come to."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.settings.scaffold import scaffold
from filerbackup.state.base import Checkpoint, DeadLetter, GuardRecord, Status
from tests.fuzz.outside import PAIR
from tests.fuzz.targets import ROOT

SEPARATOR = b"\0\0\0"


def _chunk(offset: int, size: int, **more: Any) -> pb.FileChunk:
    return pb.FileChunk(file_id="3,01637037d6", offset=offset, size=size, modified_ts_ns=offset % 97, **more)


def _entry(name: str, **more: Any) -> pb.Entry:
    attributes = pb.FuseAttributes(file_size=30, mtime=1_700_000_000, file_mode=0o644, mime="text/plain")
    return pb.Entry(name=name, attributes=attributes, **more)


def _message(**more: Any) -> bytes:
    return pb.SubscribeMetadataResponse(
        directory=ROOT, ts_ns=5, event_notification=pb.EventNotification(**more)
    ).SerializeToString()


def event_seeds() -> list[bytes]:
    """A create, an update, a rename, a delete, a marker, a heartbeat, and one of a hostile client."""
    plain = _entry("file", chunks=[_chunk(0, 10), _chunk(10, 20, is_compressed=True)])
    rich = _entry("rich", content=b"inline", hard_link_id=b"l" * 17)
    for name in (
        "X-Amz-Meta-a",
        "X-Amz-Tagging-t",
        "Cache-Control",
        "Content-Disposition",
        "x-seaweedfs-sse-s3-key",
    ):
        rich.extended[name] = "v \r\n\u00e4".encode()
    far = _entry("far", remote_entry=pb.RemoteEntry(remote_size=9, remote_mtime=1 << 40))
    odd = _entry("../..", chunks=[_chunk(-(1 << 63), (1 << 64) - 1), _chunk((1 << 63) - 1, 1 << 63)])
    odd.attributes.mtime, odd.attributes.file_mode = -(1 << 63), (1 << 27) | 0o7777
    odd.attributes.file_size, odd.attributes.symlink_target = (1 << 64) - 1, "/\0/../x"
    both = pb.SubscribeMetadataResponse(ts_ns=9, directory=ROOT)
    both.events.add(directory=f"{ROOT}/d", ts_ns=8).event_notification.new_entry.CopyFrom(rich)
    return [
        _message(new_entry=plain),
        _message(old_entry=plain, new_entry=rich),
        _message(old_entry=plain, new_entry=plain, new_parent_path="/elsewhere"),
        _message(old_entry=rich, new_entry=_entry("a/b\0c"), new_parent_path=f"{ROOT}/.."),
        _message(old_entry=_entry("d", is_directory=True)),
        _message(old_entry=plain, new_entry=far),
        _message(new_entry=odd),
        _message(),
        both.SerializeToString(),
    ]


def chunk_seeds() -> list[bytes]:
    """Plain, overlapping, sparse, and manifests: whole, of themselves, of each other."""

    def of(*listed: pb.FileChunk) -> bytes:
        return _entry("f", chunks=listed).SerializeToString()

    def manifest(*listed: pb.FileChunk) -> bytes:
        return pb.FileChunkManifest(chunks=listed).SerializeToString()

    spans = _chunk(0, 30, is_chunk_manifest=True)
    other = pb.FileChunk(file_id="4,02637037d6", offset=0, size=30, is_chunk_manifest=True)
    return [
        of(_chunk(0, 10), _chunk(10, 20)),
        of(_chunk(0, 30), _chunk(5, 5), _chunk(8, 30), _chunk(100, 0)),
        of(_chunk(-5, 10), _chunk(1 << 62, 1 << 63)),
        SEPARATOR.join([of(spans), manifest(_chunk(0, 10), _chunk(10, 20))]),
        SEPARATOR.join([of(spans, _chunk(3, 4)), manifest(spans, _chunk(0, 30))]),
        SEPARATOR.join([of(spans, other), manifest(other), manifest(spans)]),
    ]


def settings_seeds() -> list[bytes]:
    """What `scaffold` writes, and the shortest of each."""
    security = (
        b'[grpc]\nca = "/nowhere"\n[grpc.client]\ncert = "a"\nkey = "b"\n[jwt.signing.read]\nkey = "k"\n'
    )
    local = b'[sink.local]\nenabled = true\ndirectory = "/backup"\n'
    return [
        scaffold().encode(),
        local,
        local
        + b'[filerbackup]\nfiler = ["a:1"]\npath = "/x"\nmemory = "1GiB"\nmax_delete = "10%"\n\0'
        + security,
        b'[sink.s3]\nenabled = true\nbucket = "b"\n[sink.azure]\nenabled = "x"\n[sink.local]\na.b.c = 1\n',
    ]


def answer_seeds() -> list[bytes]:
    """One of each parser of `outside.answers`, in its order."""
    s3 = (
        b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3"><EncodingType>url</EncodingType>'
        b"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>backup/of/a%2F"
        b'..%2Fb</Key><Size>5</Size><ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag></Contents><CommonPrefixes><Prefix>'
        b"backup/of/d/</Prefix></CommonPrefixes></ListBucketResult>"
    )
    azure = (
        b'<EnumerationResults><Blobs><Blob><Name Encoded="true">backup/of/%FFa</Name><Properties>'
        b"<Content-Length>5</Content-Length></Properties><Metadata><mtime>2001-02-03T04:05:06.789Z</mtime></Metadata></Blob><BlobPrefix>"
        b"<Name>backup/of/d/</Name></BlobPrefix></Blobs><NextMarker>m</NextMarker></EnumerationResults>"
    )
    batch = (
        b"--b\r\nContent-Type: application/http\r\nContent-ID: <response-item-1>\r\n\r\n"
        b"HTTP/1.1 404 Not Found\r\nx-ms-error-code: BlobNotFound\r\n\r\n{}\r\n--b--"
    )
    google = {"name": "backup/of/a", "size": "5", "generation": "1", "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    b2 = {
        "fileName": "backup/of/a",
        "fileId": "4_z",
        "action": "upload",
        "contentLength": 5,
        "fileInfo": {"a": "b"},
        "buckets": [{"bucketName": "name", "bucketId": "i"}],
        "accountId": "a",
        "authorizationToken": "t",
        "apiInfo": {
            "storageApi": {
                "apiUrl": "https://a",
                "downloadUrl": "https://b",
                "allowed": {"capabilities": ["listFiles"], "buckets": [{"id": "i", "name": "n"}]},
            }
        },
    }
    bodies = [
        s3,
        b"<Error><Code>NoSuchKey</Code><Message>no</Message><Region>eu</Region></Error>",
        azure,
        b"\xef\xbb\xbf<Error><Code>BlobNotFound</Code><Message>no\nTime</Message></Error>",
        batch.replace(b"<response-item-1>", b"1"),
        json.dumps(
            {"kind": "storage#objects", "items": [google], "prefixes": ["d/"], "nextPageToken": "t"}
        ).encode(),
        json.dumps(google).encode(),
        batch,
        b'{"error": {"errors": [{"reason": "notFound"}], "message": "no"}}',
        json.dumps({"files": [b2]}).encode(),
        json.dumps(b2).encode(),
        b'{"status": 400, "code": "bad_request", "message": "no"}',
        b'5\n"e"\n1.5\nv\n4_z\n%41\n1B2M2Y8AsgTpgAmY7PhCfg==\npending\n3\naws:kms',
    ]
    bombs = [b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 50 + b'"><!ENTITY d "' + b"&b;" * 50 + b'">]><a>&d;</a>',
             b'<?xml version="1.0" encoding="zlib"?><a/>']  # fmt: skip
    return [bytes([number]) + body for number, body in enumerate(bodies)] + [b"\0" + bomb for bomb in bombs]


def state_seeds() -> list[bytes]:
    """One of each reader of `outside.state`, in its order."""
    letter = DeadLetter("k", "/data/k", "write", "no", 5, 6, 7, 8)
    bodies: list[Any] = [
        {"version": 1, "pair": asdict(PAIR), **asdict(Checkpoint(5, cursor="a/b")), "phase": "snapshot"},
        (5).to_bytes(8, "big"),
        {"version": 1, **asdict(Status("following", 5, "h"))},
        asdict(letter),
        {**asdict(PAIR), "cluster": "c"},
        {"version": 1, **asdict(GuardRecord(allowed=(1, 2), counts=((1, 2),)))},
        {"version": 1, "decision": "allow", "asked_ns": 5, "kept": True},
        {"version": 1, "deletes": [["k", "/data/k"]]},
        {"version": 1, "source": {"cluster": "c", "path": "/data"}, "layout": "mirror"},
        {"version": 1, "names": ["b/a", "elsewhere"]},
        {"version": 1, "symlinks": True},
        {"version": 1, "boot_id": "x", "flushed_ns": 5, "suspect": [[1, 2]]},
        {"locations": [{"locationPrefix": "/a"}]},
    ]
    # Of two's complement and of more than 64 bits.
    weeds = [b"\1" + b"\xff" * 8, b"\1" + bytes(9)]
    raw = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    odd = [
        b"[" * 20_000,
        b'{"version": 1, "offset_ns": 1e999, "phase": "follow"}',
        b'{"version":1,"offset_ns":"\\ud800"}',
    ]
    return (
        [bytes([number]) + body for number, body in enumerate(raw)]
        + weeds
        + [bytes([number]) + body for number in range(len(raw)) for body in odd]
    )
