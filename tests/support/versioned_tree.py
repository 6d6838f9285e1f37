"""A bucket with versions as a filer keeps it, in memory: what the gateway of weed 4.48 was seen to write."""

from __future__ import annotations

from filerbackup.filer.stubs import filer_pb2 as pb

BUCKET = "/buckets/b"
_GO_DIRECTORY = 1 << 31


class VersionedTree:
    """Lists and looks up as a filer client does; `asked` counts look-ups."""

    def __init__(self) -> None:
        self.entries: dict[str, pb.Entry] = {}
        self.asked = 0
        self._number = 0
        self.make_directory("/buckets")
        self.make_directory(BUCKET)
        self.entries[BUCKET].extended["Seaweed-X-Amz-Versioning"] = b"Enabled"

    # -- what the gateway does ----------------------------------------------------------------------

    def put(self, key: str, data: bytes, path: str = BUCKET) -> str:
        """A new current version; its file's name."""
        return self._version(f"{path}/{key}", data)

    def put_null(self, key: str, data: bytes) -> None:
        """What is put while versioning is suspended."""
        path = f"{BUCKET}/{key}"
        self.make_file(path, data, {"Seaweed-X-Amz-Version-Id": b"null"})
        if path + ".versions" in self.entries:
            self._point(path, "")

    def put_marker(self, key: str) -> str:
        """A delete marker."""
        return self._version(f"{BUCKET}/{key}", b"", {"Seaweed-X-Amz-Delete-Marker": b"true"})

    def make_file(self, path: str, data: bytes, extended: dict[str, bytes] | None = None) -> None:
        """A file, with its parents."""
        self._number += 1
        directory, _, name = path.rpartition("/")
        self.make_directory(directory)
        entry = pb.Entry(name=name, content=data)
        entry.attributes.mtime = self._number
        entry.attributes.file_mode = 0o660
        for key, value in (extended or {}).items():
            entry.extended[key] = value
        self.entries[path] = entry

    def make_directory(self, path: str) -> None:
        """A directory, with its parents."""
        if not path or path in self.entries:
            return
        self.make_directory(path.rpartition("/")[0])
        entry = pb.Entry(name=path.rpartition("/")[2], is_directory=True)
        entry.attributes.file_mode = _GO_DIRECTORY | 0o771
        self.entries[path] = entry

    def _version(self, path: str, data: bytes, extended: dict[str, bytes] | None = None) -> str:
        identity = f"{(1 << 32) - self._number:032x}"
        name = f"v_{identity}"
        self.make_file(
            f"{path}.versions/{name}",
            data,
            {"Seaweed-X-Amz-Version-Id": identity.encode(), **(extended or {})},
        )
        self._point(path, name)
        return name

    def _point(self, path: str, name: str) -> None:
        extended = self.entries[path + ".versions"].extended
        extended.clear()
        if name:
            extended["Seaweed-X-Amz-Latest-Version-File-Name"] = name.encode()
        else:
            extended["Seaweed-X-Amz-Null-Version-Is-Latest"] = b"true"

    # -- what a filer answers -----------------------------------------------------------------------

    async def lookup(self, directory: str, name: str) -> pb.Entry | None:
        self.asked += 1
        return self.entries.get(f"{directory.rstrip('/')}/{name}")

    async def list_some(
        self, directory: str, after: str, limit: int, *, prefix: str = ""
    ) -> tuple[list[pb.Entry], bool]:
        page = await self.list_page(directory, after, limit, prefix=prefix)
        return page, len(page) < limit

    async def list_page(self, directory: str, after: str, limit: int, *, prefix: str = "") -> list[pb.Entry]:
        below = directory.rstrip("/") + "/"
        names = sorted(
            (
                path[len(below) :]
                for path in self.entries
                if path.startswith(below + prefix) and "/" not in path[len(below) :]
            ),
            key=str.encode,
        )
        return [self.entries[below + name] for name in names if name.encode() > after.encode()][:limit]
