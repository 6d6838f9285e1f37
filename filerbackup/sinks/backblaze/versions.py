"""The versions that B2 keeps of every file: deleting a file only hides it, replacing it keeps the old one."""

from __future__ import annotations

from filerbackup.sinks.backblaze.answers import Version, parse_versions
from filerbackup.sinks.backblaze.api import Api
from filerbackup.sinks.backblaze.errors import Answered
from filerbackup.sinks.objects.errors import Unanswered

_PAGE = 1000


class Versions:
    """Removes versions for good. Raises Answered, Unanswered."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def hide(self, name: str) -> None:
        """Delete as B2 does by default: the bytes stay until a lifecycle rule removes them."""
        try:
            await self._api.call("b2_hide_file", {"bucketId": self._api.account.bucket_id, "fileName": name})
        except Answered as error:
            if not error.is_gone:
                raise

    async def remove_all(self, name: str) -> None:
        """Remove every version: the oldest first, so that none comes to light again in between."""
        for version in reversed(await self._of(name)):
            await self.remove(version.name, version.file_id)

    async def remove_older(self, name: str, file_id: str) -> None:
        """Remove what the version `file_id` has replaced."""
        versions = await self._of(name)
        ids = [version.file_id for version in versions]
        if file_id not in ids:
            raise Unanswered("a file that was just written is not listed")
        for version in reversed(versions[ids.index(file_id) + 1 :]):
            await self.remove(version.name, version.file_id)

    async def remove(self, name: str, file_id: str) -> None:
        """Remove one version. Absent is fine."""
        try:
            await self._api.call("b2_delete_file_version", {"fileName": name, "fileId": file_id})
        except Answered as error:
            if not error.is_gone:
                raise

    async def _of(self, name: str) -> list[Version]:
        """Newest first, without unfinished uploads: `open_uploads` is for those."""
        found: list[Version] = []
        start: dict[str, str] = {"startFileName": name}
        while True:
            answer = await self._api.call(
                "b2_list_file_versions",
                {"bucketId": self._api.account.bucket_id, "prefix": name, "maxFileCount": _PAGE, **start},
            )
            listed = parse_versions(answer)
            found += [each for each in listed if each.name == name and each.action != "start"]
            next_name, next_id = answer.get("nextFileName"), answer.get("nextFileId")
            if next_name != name or not isinstance(next_id, str):
                return found
            following = {"startFileName": name, "startFileId": next_id}
            if following == start or not listed:
                raise Unanswered("a listing of versions does not move on")
            start = following
