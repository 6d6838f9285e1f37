"""The command as a user meets it: help, exit codes, and messages that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.configs import general, local_sink, s3_sink
from tests.support.daemon import daemon, wait_until
from tests.support.load import put_many
from tests.support.ports import free_port
from tests.support.weed import WeedServer


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "filerbackup", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_help_is_quick_and_names_every_command() -> None:
    fastest = 9.0
    for _ in range(6):
        began = time.monotonic()
        done = run("--help")
        fastest = min(fastest, time.monotonic() - began)
    assert done.returncode == 0
    for command in ("run", "catchup", "status", "checkpoint", "dead-letters", "scaffold"):
        assert command in done.stdout
    assert "exit codes" in done.stdout
    assert fastest < 0.5


def test_help_imports_no_sdk() -> None:
    script = (
        "import sys\n"
        "from filerbackup.cli.parser import _parser\n"
        "_parser().format_help()\n"
        "heavy = {'grpc', 'aiohttp', 'botocore', 'aiobotocore', 'obstore', 'cryptography'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_local_sink_needs_no_cloud_sdk(weed: WeedServer, tmp_path: Path) -> None:
    (tmp_path / "block").mkdir()
    for name in ("botocore", "aiobotocore", "obstore"):
        (tmp_path / "block" / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
        )
    weed.put("/nosdk/f", b"x")
    config = general(weed, "/nosdk") + local_sink(tmp_path / "copy")
    with daemon(tmp_path / "d", config) as process:
        done = process.run("catchup", env={"PYTHONPATH": str(tmp_path / "block")})
        assert done.returncode == 0, done.stderr
    with daemon(tmp_path / "e", general(weed, "/nosdk") + s3_sink(weed, "bucket")) as process:
        done = process.run("catchup", env={"PYTHONPATH": str(tmp_path / "block")})
        assert done.returncode == 2
        assert "filerbackup[s3]" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["run", "--nonsense"], ["checkpoint"], ["run", "--read-via", "pigeon"]],
)
def test_wrong_usage_is_2(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sink.local\n", "replication.toml"),
        ('[sink.local]\nenabled = true\ndirectory = "relative"\n', "sink.local.directory"),
        ("[sink.s3]\nenabled = true\nbucket = 7\n", "sink.s3.bucket"),
        ('[filerbackup]\nmemory = "lots"\n[sink.local]\nenabled = true\ndirectory = "/x"\n', "memory"),
        ("", "no sink"),
    ],
)
def test_wrong_configuration_is_2_and_names_the_key(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "replication.toml").write_text(text)
    done = run("catchup", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_scaffold_writes_once(tmp_path: Path) -> None:
    assert "[sink.s3]" in run("scaffold").stdout
    assert run("scaffold", "--output", "new.toml", cwd=tmp_path).returncode == 0
    assert (tmp_path / "new.toml").read_text() == run("scaffold").stdout
    assert run("scaffold", "--output", "new.toml", cwd=tmp_path).returncode == 2


def test_a_folder_that_is_not_there(weed: WeedServer, tmp_path: Path) -> None:
    with daemon(tmp_path / "d", general(weed, "/no/such") + local_sink(tmp_path / "copy")) as process:
        done = process.run("catchup")
        assert done.returncode == 2
        assert "/no/such" in done.stderr and "--path" in done.stderr


@pytest.mark.parametrize("command", ["run", "catchup"])
def test_a_missing_bucket_fails_at_the_start(weed: WeedServer, tmp_path: Path, command: str) -> None:
    weed.put("/nobucket/f", b"x")
    with daemon(tmp_path / "d", general(weed, "/nobucket") + s3_sink(weed, "no-such-bucket")) as process:
        done = process.run(command, timeout=60)
        assert done.returncode == 1
        assert "no-such-bucket" in done.stderr
        assert "any-secret" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr


def test_one_refused_sink_does_not_stop_the_other(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/halfbad/f", b"x")
    config = general(weed, "/halfbad") + s3_sink(weed, "no-such-bucket") + local_sink(tmp_path / "copy")
    with daemon(tmp_path / "d", config) as process:
        process.start()
        wait_until((tmp_path / "copy/f").exists, what=lambda: process.log)
        weed.put("/halfbad/g", b"y")
        wait_until((tmp_path / "copy/g").exists, what=lambda: process.log)
        assert process.process is not None and process.process.poll() is None
        assert "no-such-bucket" in process.log
        assert process.stop() == 0


def test_an_s3_server_that_is_not_there_is_waited_for(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/nos3/f", b"x")
    config = general(weed, "/nos3") + s3_sink(weed, "bucket", endpoint=f"http://127.0.0.1:{free_port()}")
    with daemon(tmp_path / "d", config) as process:
        process.start()
        wait_until(lambda: "sink error" in process.log, what=lambda: process.log)
        assert process.process is not None and process.process.poll() is None
        assert process.stop() == 0


def test_a_dry_run_changes_nothing(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/dry/f", b"x")
    target = tmp_path / "copy"
    with daemon(tmp_path / "d", general(weed, "/dry") + local_sink(target)) as process:
        done = process.run("catchup", "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "would write" in done.stderr
        assert not (target / "f").exists()
        assert "no checkpoint" in process.run("catchup").stderr


def test_log_lines_as_json(weed: WeedServer, tmp_path: Path) -> None:
    import json

    weed.put("/json/f", b"x")
    with daemon(tmp_path / "d", general(weed, "/json") + local_sink(tmp_path / "copy")) as process:
        done = process.run("catchup", "--log-format", "json")
        assert done.returncode == 0
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert all({"ts", "level", "msg"} <= line.keys() for line in lines)
        assert "caught up" in done.stdout


def test_a_catchup_that_was_stopped_does_not_claim_to_be_done(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/stopped/f", b"x")
    config = general(weed, "/stopped") + s3_sink(weed, "bucket", endpoint=f"http://127.0.0.1:{free_port()}")
    with daemon(tmp_path / "d", config) as process:
        process.start(command="catchup")
        wait_until(lambda: "sink error" in process.log, what=lambda: process.log)
        assert process.stop() == 1
        assert "stopped before it was caught up" in process.log


def test_offsets_in_the_future_are_refused(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/future/f", b"x")
    with daemon(tmp_path / "d", general(weed, "/future") + local_sink(tmp_path / "copy")) as process:
        assert process.run("catchup").returncode == 0
        for command in ("checkpoint set 2100-01-01T00:00:00Z", "catchup --start 2100-01-01T00:00:00Z"):
            done = process.run(command)
            assert done.returncode == 2, done
            assert "future" in done.stderr


def test_a_typo_in_a_bucket_does_not_stay_in_status(weed: WeedServer, tmp_path: Path) -> None:
    weed.put("/typo/f", b"x")
    with daemon(tmp_path / "d", general(weed, "/typo") + s3_sink(weed, "misspelt-bucket")) as process:
        assert process.run("catchup").returncode == 1
    with daemon(tmp_path / "e", general(weed, "/")) as process:
        assert "misspelt-bucket" not in process.run("status").stdout


def test_on_a_terminal_a_snapshot_shows_how_much_is_left(weed: WeedServer, tmp_path: Path) -> None:
    put_many(weed, ((f"/tty/d{i % 9}/f{i}", b"x" * 20_000) for i in range(1500)))
    shown, terminal = os.openpty()
    with daemon(tmp_path / "d", general(weed, "/tty") + local_sink(tmp_path / "copy")) as process:
        command = [sys.executable, "-m", "filerbackup", "catchup", "--config", str(process.config)]
        running = subprocess.Popen(
            command, stderr=terminal, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}
        )
        os.close(terminal)
        text = b""
        try:
            while block := os.read(shown, 65_536):
                text += block
        except OSError:
            # How Linux says that the other end of a terminal is closed.
            pass
        os.close(shown)
        assert running.wait(30) == 0
    assert b"of 1,500 files" in text
    assert b" left" in text
