"""What is on a filer, looked at with gRPC and HTTP calls of its own: not through filerbackup's sink."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import quote

import grpc

from filerbackup.filer.stubs import filer_pb2 as pb
from filerbackup.filer.stubs.filer_pb2_grpc import SeaweedFilerStub
from tests.support.weed import WeedServer

GO_DIRECTORY, GO_SYMLINK = 1 << 31, 1 << 27


class Looks:
    """Blocking calls on one filer."""

    def __init__(self, weed: WeedServer) -> None:
        self.weed = weed
        options = [("grpc.max_receive_message_length", 1 << 28)]
        self._channel = grpc.insecure_channel(weed.filer_grpc, options=options)
        self.stub = SeaweedFilerStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def entry(self, path: str) -> pb.Entry | None:
        directory, _, name = path.rpartition("/")
        request = pb.LookupDirectoryEntryRequest(directory=directory or "/", name=name)
        try:
            return self.stub.LookupDirectoryEntry(request, timeout=30).entry
        except grpc.RpcError as error:
            if "no entry is found" in (error.details() or ""):
                return None
            raise

    def children(self, directory: str) -> list[pb.Entry]:
        request = pb.ListEntriesRequest(directory=directory or "/", limit=100_000)
        return [answer.entry for answer in self.stub.ListEntries(request, timeout=60)]

    def below(self, directory: str) -> Iterator[tuple[str, pb.Entry]]:
        """Every entry below, with its path relative to the directory."""
        for child in self.children(directory):
            yield child.name, child
            if child.attributes.file_mode & GO_DIRECTORY:
                for path, entry in self.below(f"{directory}/{child.name}"):
                    yield f"{child.name}/{path}", entry

    def needle(self, file_id: str) -> bytes | None:
        """What the volume server has under this id."""
        connection = http.client.HTTPConnection("127.0.0.1", self.weed.volume_port, timeout=60)
        try:
            connection.request("GET", f"/{file_id}", headers={"Accept-Encoding": "identity"})
            response = connection.getresponse()
            body = response.read()
            return body if response.status == 200 else None
        finally:
            connection.close()

    def content(self, path: str) -> bytes | None:
        """Through the filer's own HTTP server, or from its volumes when the head of the answer is huge."""
        connection = http.client.HTTPConnection("127.0.0.1", self.weed.filer_port, timeout=60)
        try:
            # A path of the filer: a question mark or a trailing blank in a name is part of it.
            connection.request("GET", quote(path, safe="/"))
            response = connection.getresponse()
            body = response.read()
            return body if response.status == 200 else None
        except http.client.LineTooLong:
            entry = self.entry(path)
            assert entry is not None
            return b"".join(self.needle(chunk.file_id) or b"" for chunk in entry.chunks)
        finally:
            connection.close()
