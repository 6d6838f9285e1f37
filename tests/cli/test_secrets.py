"""A whole process with secrets of every kind: nothing of them in its output, its state, its command line."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
import sys
from pathlib import Path

from tests.support.configs import general, local_sink, sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.gcs import TokenServer
from tests.support.leaks import forms, quotes
from tests.support.proxy import Proxy
from tests.support.weed import WeedServer

ALL_SINKS = ("local", "s3", "google_cloud_storage", "azure", "backblaze")
PLANTED = {
    name: f"planted/{name}+{secrets.token_hex(12)}" for name in ("s3", "session", "b2", "volume", "filer")
}
AZURE_KEY = base64.b64encode(secrets.token_bytes(64)).decode()
IN_ENVIRONMENT = {"AZURE_CLIENT_SECRET": f"planted-{secrets.token_hex(12)}"}


def config(weed: WeedServer, directory: Path, place: str, google_key: str) -> str:
    return (
        general(weed, "/secrets")
        + local_sink(directory)
        + sink(
            "s3", bucket="backup", endpoint=place, region="us-east-1", aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key=PLANTED["s3"], aws_session_token=PLANTED["session"],
        )
        + sink(
            "google_cloud_storage", bucket="backup", endpoint=place,
            google_application_credentials=google_key,
        )
        + sink(
            "azure", container="box", endpoint=f"{place}/account", account_name="account",
            account_key=AZURE_KEY,
        )
        + sink(
            "backblaze", bucket="bucket", endpoint=place, b2_account_id="id",
            b2_master_application_key=PLANTED["b2"],
        )
    )  # fmt: skip


def test_a_scaffold_is_for_its_owner_only(tmp_path: Path) -> None:
    """Keys will be written into it."""
    command = [sys.executable, "-m", "filerbackup", "scaffold", "--output", "new.toml"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, umask=0)
    assert (tmp_path / "new.toml").stat().st_mode & 0o777 == 0o600


async def test_a_process_shows_no_secret(weed: WeedServer, tmp_path: Path) -> None:
    """Every service is a hostile one that answers with all that it was sent."""
    weed.put("/secrets/file", b"content")
    tokens = TokenServer()
    async with Proxy(weed.s3_endpoint).running() as hostile, tokens.running():
        hostile.fault = quotes(403, "")
        key = json.loads(tokens.key()) | {"token_uri": f"{hostile.endpoint}/token"}
        (tmp_path / "key.json").write_text(json.dumps(key))
        (tmp_path / "key.json").chmod(0o600)
        text = config(weed, tmp_path / "copies", hostile.endpoint, str(tmp_path / "key.json"))
        with daemon(tmp_path / "d", text) as process:
            security = process.config.with_name("security.toml")
            security.write_text(
                f'[jwt.signing.read]\nkey = "{PLANTED["volume"]}"\n'
                f'[jwt.filer_signing.read]\nkey = "{PLANTED["filer"]}"\n'
            )
            security.chmod(0o600)
            seen = await asyncio.to_thread(observed, process, tmp_path / "copies" / "file")
        asked = {path.split("/")[1] for _, path, _ in hostile.requests}
    assert len(asked) > 3
    private = {*PLANTED.values(), AZURE_KEY, key["private_key"], *IN_ENVIRONMENT.values()}
    private |= set(key["private_key"].splitlines()[1:-1])
    for where, shown in seen.items():
        for secret in private:
            for form in forms(secret):
                assert form not in shown, f"in {where}: …{shown[max(0, shown.index(form) - 200) :][:300]}"
    assert "403" in seen["status"]
    assert " DEBUG " in seen["log"]


def observed(process: Daemon, copy: Path) -> dict[str, str]:
    """What anybody can see of a process that runs as verbosely as it can."""
    process.start("--log-level", "debug", env=IN_ENVIRONMENT)
    assert process.process is not None
    refused = len(ALL_SINKS) - 1
    wait_until(
        lambda: copy.exists() and process.log.count(" 403") >= refused, what=lambda: process.log[-3000:]
    )
    command = Path(f"/proc/{process.process.pid}/cmdline").read_text()
    rows: list[dict[str, object]] = []

    def is_stored() -> bool:
        rows[:] = process.status()
        return sum(bool(row["error"]) for row in rows) == refused

    wait_until(is_stored, what=lambda: str(rows))
    process.stop()
    once = process.run("catchup", "--log-level", "debug", env=IN_ENVIRONMENT)
    return {
        "command": command,
        "status": json.dumps(rows, ensure_ascii=False),
        "log": process.log,
        "catchup": once.stdout + once.stderr,
    }
