"""Backblaze B2 for tests: the raw simulator inside b2sdk, behind an HTTP server that speaks the native API.

`python -m tests.support.b2 PORT` serves until it is interrupted. What the simulator leaves open is
filled in here as Backblaze documents it: names that are refused, hiding what is absent, folders in
listings, the smallest part, restricted keys, an upload URL that is used twice at a time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web
from b2sdk import v3
from b2sdk._internal import exception as b2

from tests.support.b2_simulator import SMALLEST_PART, Simulator

BUCKET = "filerbackup-tests"
Fault = Callable[[str, web.Request], web.StreamResponse | None]
"""Given the name of a call (`b2_hide_file`, `download`) and the request: an answer, or None to go on."""


class Api:
    """Translates requests to calls of the simulator, and what it raises to errors of B2's."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.fault: Fault | None = None
        self.calls: Counter[str] = Counter()
        self.refused_info = ""
        """A name in a file's info that the server finds fault with."""
        self._uploading: set[str] = set()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=6 << 30)
        app.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = re.fullmatch(r"/b2api/v([0-9])/(b2_[a-z_]+)(?:/(.*))?", request.path)
        name = path[2] if path else "download"
        self.calls[name] += 1
        if self.fault is not None and (answer := self.fault(name, request)) is not None:
            await request.read()
            return answer
        try:
            if name in ("b2_upload_file", "b2_upload_part"):
                return web.json_response(await self._upload(name, request))
            if path is None or name.startswith("b2_download_file"):
                return self._download(name, request)
            if request.method == "POST":
                given = json.loads(await request.read() or b"{}")
            else:
                given = dict(parse_qsl(request.query_string))
            return web.json_response(_plain(self._call(name, given, request)))
        except (b2.B2Error, KeyError, AssertionError, ValueError) as error:
            return _refusal(name, error)

    # -- calls with JSON --------------------------------------------------------------------------

    def _call(self, name: str, given: dict[str, Any], request: web.Request) -> Any:
        simulator, here = self.simulator, f"{request.scheme}://{request.host}"
        header = request.headers.get("Authorization", "")
        if name == "b2_authorize_account":
            return self._authorize(header, here)
        call = getattr(self, f"_{name.removeprefix('b2_')}", None)
        if call is not None:
            return call(header, given, here)
        renamed = {"name_prefix": "prefix"} if name == "b2_list_unfinished_large_files" else {}
        arguments = {renamed.get(key := _snake(each), key): value for each, value in given.items()}
        if name == "b2_list_parts":
            arguments = {"start_part_number": None, "max_part_count": None, **arguments}
        if name == "b2_list_buckets":
            arguments.pop("bucket_types", None)
        return getattr(simulator, name.removeprefix("b2_"))(simulator.API_URL, header, **arguments)

    def _authorize(self, header: str, here: str) -> Any:
        key_id, _, key = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        try:
            answer = self.simulator.authorize_account("", key_id, key)
        except b2.InvalidAuthToken:
            raise b2.Unauthorized("Invalid applicationKeyId or applicationKey", "unauthorized") from None
        answer["apiInfo"]["storageApi"].update(apiUrl=here, downloadUrl=here, s3ApiUrl=here)
        return answer

    def _get_upload_url(self, token: str, given: dict[str, Any], here: str) -> Any:
        answer = self.simulator.get_upload_url(self.simulator.API_URL, token, given["bucketId"])
        path = answer["uploadUrl"].removeprefix("https://upload.example.com/")
        return {**answer, "uploadUrl": f"{here}/b2api/v4/b2_upload_file/{path}"}

    def _get_upload_part_url(self, token: str, given: dict[str, Any], here: str) -> Any:
        answer = self.simulator.get_upload_part_url(self.simulator.API_URL, token, given["fileId"])
        path = answer["uploadUrl"].removeprefix("https://upload.example.com/part/")
        return {
            **answer,
            "fileId": given["fileId"],
            "uploadUrl": f"{here}/b2api/v4/b2_upload_part/{path}",
        }

    def _start_large_file(self, token: str, given: dict[str, Any], _here: str) -> Any:
        self._check(given["fileName"], given["fileInfo"])
        return self.simulator.start_large_file(
            self.simulator.API_URL,
            token,
            given["bucketId"],
            given["fileName"],
            given["contentType"],
            given["fileInfo"],
        )

    def _finish_large_file(self, token: str, given: dict[str, Any], _here: str) -> Any:
        started = self._bucket_of(given["fileId"]).file_id_to_file[given["fileId"]]
        parts = [part for part in started.parts if part is not None]
        if any(part.content_length < SMALLEST_PART for part in parts[:-1]):
            raise b2.BadRequest("Part is smaller than the minimum", "bad_request")
        return self.simulator.finish_large_file(
            self.simulator.API_URL, token, given["fileId"], given["partSha1Array"]
        )

    def _copy_file(self, token: str, given: dict[str, Any], _here: str) -> Any:
        self._check(given["fileName"], given.get("fileInfo") or {})
        directive = v3.MetadataDirectiveMode[given.get("metadataDirective", "COPY")]
        bucket = self._bucket_of(given["sourceFileId"])
        answer = self.simulator.copy_file(
            self.simulator.API_URL,
            token,
            given["sourceFileId"],
            given["fileName"],
            bytes_range=_range(given.get("range")),
            metadata_directive=directive,
            content_type=given.get("contentType"),
            file_info=given.get("fileInfo"),
        )
        self.simulator.file_id_to_bucket_id[answer["fileId"]] = bucket.bucket_id
        return answer

    def _copy_part(self, token: str, given: dict[str, Any], _here: str) -> Any:
        return self.simulator.copy_part(
            self.simulator.API_URL,
            token,
            given["sourceFileId"],
            given["largeFileId"],
            given["partNumber"],
            bytes_range=_range(given.get("range")),
        )

    def _list_file_names(self, token: str, given: dict[str, Any], _here: str) -> Any:
        call = self.simulator.list_file_names
        prefix, delimiter = given.get("prefix") or "", given.get("delimiter") or ""
        start, most = given.get("startFileName") or prefix, given.get("maxFileCount") or 100
        files: list[dict[str, Any]] = []
        while len(files) < most:
            page = call(self.simulator.API_URL, token, given["bucketId"], start, most, prefix)
            start = page["nextFileName"]
            for each in page["files"]:
                behind = each["fileName"][len(prefix) :]
                if delimiter and delimiter in behind:
                    folder = prefix + behind.partition(delimiter)[0] + delimiter
                    if not files or files[-1]["fileName"] != folder:
                        files.append(
                            {"action": "folder", "fileName": folder, "contentLength": 0, "fileInfo": {}}
                        )
                else:
                    files.append(each)
            if start is None or not delimiter:
                break
        return {"files": files, "nextFileName": start}

    def _get_file_info(self, token: str, given: dict[str, Any], _here: str) -> Any:
        return self._bucket_of(given["fileId"]).get_file_info_by_id(token, given["fileId"])

    # -- bytes ------------------------------------------------------------------------------------

    async def _upload(self, name: str, request: web.Request) -> Any:
        path = request.path.partition(f"{name}/")[2]
        url = f"https://upload.example.com/{'part/' if name == 'b2_upload_part' else ''}{path}"
        if request.headers.get("Authorization") != url:
            raise b2.InvalidAuthToken("Invalid authorization token", "bad_auth_token")
        if path.rpartition("/")[2] in self.simulator.expired_auth_tokens:
            raise b2.InvalidAuthToken("Authorization token has expired", "expired_auth_token")
        if url in self._uploading:
            raise b2.BadRequest(f"more than one upload using auth token {url}", "auth_token_limit")
        self._uploading.add(url)
        try:
            data = await request.read()
        finally:
            self._uploading.discard(url)
        sha1 = request.headers["X-Bz-Content-Sha1"]
        if name == "b2_upload_part":
            number = int(request.headers["X-Bz-Part-Number"])
            return self.simulator.upload_part(url, url, number, len(data), sha1, BytesIO(data))
        file_name = unquote_plus(request.headers["X-Bz-File-Name"])
        info = _info(request)
        self._check(file_name, info)
        kind = request.headers["Content-Type"]
        return self.simulator.upload_file(url, url, file_name, len(data), kind, sha1, info, BytesIO(data))

    def _download(self, name: str, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "")
        self.simulator._assert_account_auth("", token, "", "readFiles")
        if name == "b2_download_file_by_id":
            bucket = self._bucket_of(request.query["fileId"])
            found = bucket.file_id_to_file[request.query["fileId"]]
        else:
            _, _, bucket_name, file_name = request.path.split("/", 3)
            found = self.simulator.bucket_name_to_bucket[bucket_name].current(file_name)
        if found is None or not found.is_visible():
            raise KeyError("file")
        data, wanted = found.data_bytes, _range(request.headers.get("Range"))
        if wanted and wanted[0] >= len(data):
            return _error(416, "range_not_satisfiable", "The Range in the request is outside the file")
        if wanted:
            wanted = (wanted[0], min(wanted[1], len(data) - 1))
            data = data[wanted[0] : wanted[1] + 1]
        headers = dict(found.as_download_headers(token, wanted))
        kind = headers.pop("content-type")
        del headers["content-length"]
        status = 206 if wanted else 200
        # Else aiohttp says nothing of the length when a HEAD asks for an empty file.
        lengths = {"Content-Type": kind, "Content-Length": str(len(data))}
        return web.Response(status=status, headers={**headers, **lengths}, body=data)

    def _bucket_of(self, file_id: str) -> Any:
        for bucket in self.simulator.bucket_id_to_bucket.values():
            if file_id in bucket.file_id_to_file:
                return bucket
        raise KeyError(file_id)

    def _check(self, name: str, info: dict[str, str]) -> None:
        v3.B2RawHTTPApi.check_b2_filename(None, name)  # type: ignore[arg-type]
        size = len(name.encode()) + sum(len(each) + len(value.encode()) for each, value in info.items())
        if len(info) > 10 or size > 7000 or self.refused_info in info:
            raise b2.BadRequest("Too much file info", "bad_request")


class Running:
    """A server on a port of this machine, in a thread of its own; `api` has the simulator."""

    def __init__(self, port: int = 0) -> None:
        self.simulator = Simulator()
        self.api = Api(self.simulator)
        self.account_id, self.application_key = self.simulator.create_account()
        self.endpoint = ""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="b2-simulator", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10)
        self.make_bucket(BUCKET)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def client(self) -> v3.B2Api:
        """A plain client of b2sdk's."""
        api = v3.B2Api(v3.InMemoryAccountInfo())
        api.authorize_account(self.account_id, self.application_key, realm=self.endpoint)
        return api

    def make_bucket(self, name: str) -> None:
        url, account = self.simulator.API_URL, self.account_id
        token = self.simulator.authorize_account("", account, self.application_key)["authorizationToken"]
        self.simulator.create_bucket(url, token, account, name, "allPrivate")

    def make_key(
        self, capabilities: list[str] | None = None, *, bucket: str = "", prefix: str | None = None
    ) -> tuple[str, str]:
        """The id and the secret of a key, by default one that may do everything everywhere."""
        token = self.simulator.authorize_account("", self.account_id, self.application_key)
        ids = [self.simulator.bucket_name_to_bucket[bucket].bucket_id] if bucket else None
        made = self.simulator.create_key(
            self.simulator.API_URL,
            token["authorizationToken"],
            self.account_id,
            capabilities if capabilities is not None else list(v3.ALL_CAPABILITIES),
            "some-key",
            None,
            ids,
            prefix,
        )
        return made["applicationKeyId"], made["applicationKey"]

    def expire_tokens(self) -> None:
        """All tokens that were given out so far have expired."""
        self.simulator.expired_auth_tokens.update(self.simulator.auth_token_to_key)

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """In this block `fault` may answer in the server's place."""
        self.api.fault = fault
        try:
            yield
        finally:
            self.api.fault = None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self.api.application(), shutdown_timeout=0.1, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self._port).start())
        self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(runner.cleanup())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())


@contextmanager
def running_b2(port: int = 0) -> Iterator[Running]:
    """A server with one bucket (`BUCKET`) until the end of the block."""
    server = Running(port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def b2_error(status: int, code: str, message: str = "told so by a test", **headers: str) -> web.Response:
    """An error answer as B2 writes it."""
    body = {"status": status, "code": code, "message": message}
    return web.json_response(body, status=status, headers=headers)


_error = b2_error


def _refusal(name: str, error: Exception) -> web.Response:
    match error:
        case b2.InvalidAuthToken() | b2.Unauthorized():
            return _error(401, error.code or "unauthorized", error.message)
        case b2.NonExistentBucket() | b2.BucketIdNotFound():
            return _error(400, "bad_bucket_id", "Invalid bucketId")
        case b2.DuplicateBucketName():
            return _error(400, "duplicate_bucket_name", "Bucket name is already in use.")
        case b2.CopySourceTooBig():
            return _error(400, "source_too_large", "Copy source is too big: 1")
        case b2.FileNotPresent() | KeyError() if name == "b2_delete_file_version":
            return _error(400, "file_not_present", "File not present")
        case b2.FileNotPresent() | KeyError():
            return _error(404, "not_found", "File with such name or id does not exist.")
        case b2.FileSha1Mismatch() | b2.PartSha1Mismatch():
            return _error(400, "bad_request", "Checksum did not match data received")
        case b2.BadRequest():
            return _error(400, error.code or "bad_request", error.message)
        case _:
            return _error(400, "bad_request", str(error) or type(error).__name__)


def _info(request: web.Request) -> dict[str, str]:
    return {
        name[len("x-bz-info-") :].lower(): unquote_plus(value)
        for name, value in request.headers.items()
        if name.lower().startswith("x-bz-info-")
    }


def _plain(answer: Any) -> Any:
    """What JSON can hold; version 1 of the API, which rclone asks for, says `size`."""
    if isinstance(answer, dict):
        plain = {key: _plain(value) for key, value in answer.items()}
        return {**plain, "size": plain["contentLength"]} if "contentLength" in plain else plain
    return [_plain(each) for each in answer] if isinstance(answer, list | set) else answer


def _range(text: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", text or "")
    return (int(found[1]), int(found[2] or sys.maxsize)) if found else None


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


if __name__ == "__main__":
    with running_b2(int(sys.argv[1])) as served:
        print(f"{served.endpoint} {BUCKET} {served.account_id} {served.application_key}", flush=True)
        threading.Event().wait()
