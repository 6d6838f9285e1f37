"""What is deployed, and what the documents tell people to type, fits the program."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from filerbackup.cli.parser import parse
from filerbackup.settings import keys
from filerbackup.settings.load import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "filerbackup.service"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DOCUMENTS = [ROOT / "README.md", DEPLOY / "README.md", ROOT / "docs" / "operations.md"]
EVERYTHING = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
MANIFEST_ARGUMENTS = r"^ *args: (\[.*\])$"

KNOWN_VARIABLES = {keys.variable(key) for key in keys.REPLICATION_KEYS} | {
    keys.variable(key) for key in keys.SECURITY_KEYS
} | {keys.CONFIG_VARIABLE}  # fmt: skip


def json_lists(pattern: str, path: Path) -> list[list[str]]:
    """Every list that follows the pattern, in the form that YAML and a container file share with JSON."""
    return [json.loads(text) for text in re.findall(pattern, path.read_text(), re.MULTILINE)]


def documented(path: Path) -> Iterator[list[str]]:
    """The arguments of every `filerbackup` command in the code blocks of a document."""
    is_fenced = False
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        if not (is_fenced or line.startswith("    ")):
            continue
        typed = re.search(r"(?:^|\$ |&& |-- )(?:/opt/filerbackup/bin/)?filerbackup (.*)", line.strip())
        if typed is not None:
            arguments = shlex.split(typed[1], comments=True)
            yield arguments[: arguments.index(">")] if ">" in arguments else arguments


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_commands_are_ones(path: Path) -> None:
    commands = list(documented(path))
    assert commands
    for arguments in commands:
        parse(arguments)


@pytest.mark.parametrize("path", [*EVERYTHING, *DOCUMENTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_exist(path: Path) -> None:
    named = set(re.findall(r"\b(?:WEED|FILERBACKUP)_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    assert named <= KNOWN_VARIABLES


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for document in yaml.safe_load_all(path.read_text()):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()


@pytest.mark.parametrize(("name", "command"), [("deployment", "run"), ("cronjob", "catchup")])
def test_manifests_run_it(name: str, command: str) -> None:
    (arguments,) = json_lists(MANIFEST_ARGUMENTS, DEPLOY / "kubernetes" / f"{name}.yaml")
    assert arguments[0] == command
    parse(arguments)


def test_manifests_give_time_to_drain() -> None:
    seconds = [
        int(value)
        for path in MANIFESTS
        for value in re.findall(r"terminationGracePeriodSeconds: (\d+)", path.read_text())
    ]
    assert len(seconds) == 2
    assert min(seconds) > default_grace_s()


def test_the_configuration_in_the_secret_loads(tmp_path: Path) -> None:
    block = (DEPLOY / "kubernetes" / "secret.yaml").read_text().partition("replication.toml: |\n")[2]
    file = tmp_path / "replication.toml"
    file.write_text("".join(line.removeprefix("    ") for line in block.splitlines(keepends=True)))
    settings = load_settings(
        config=str(file), flags={}, environ={}, home=tmp_path, cwd=tmp_path, system=[]
    )  # fmt: skip
    assert [sink.name for sink in settings.sinks] == ["s3"]
    assert settings.warnings == ()


def test_the_container_runs_it_as_a_user() -> None:
    (entry,) = json_lists(r"^ENTRYPOINT (\[.*\])$", CONTAINERFILE)
    (arguments,) = json_lists(r"^CMD (\[.*\])$", CONTAINERFILE)
    assert entry == ["filerbackup"]
    parse(arguments)
    user = re.findall(r"^USER (\d+):(\d+)$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert user == [("65532", "65532")]
    for path in MANIFESTS:
        assert set(re.findall(r"runAs(?:User|Group): (\d+)", path.read_text())) <= {"65532"}


def test_the_container_copies_what_is_there() -> None:
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", CONTAINERFILE.read_text(), re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()


def test_the_unit_runs_it() -> None:
    unit = unit_settings(UNIT)
    (start,) = unit["ExecStart"]
    program, *arguments = shlex.split(start)
    assert Path(program).name == "filerbackup"
    parse(arguments)
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert int(unit["TimeoutStopSec"][0]) > default_grace_s()
    # Without /proc/sys the local sink would take every start for one after a power loss.
    assert "pid" not in unit.get("ProcSubset", [])


def test_the_directory_of_the_unit_is_writable_and_waited_for() -> None:
    unit = unit_settings(UNIT)
    assert unit["ReadWritePaths"] == unit["RequiresMountsFor"]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    try:
        subprocess.run(["systemd-analyze", "--version"], check=True, capture_output=True)
    except OSError:
        pytest.skip("no systemd-analyze here")
    text = UNIT.read_text().replace("/opt/filerbackup/bin/filerbackup", "/bin/true")
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("=filerbackup\n", "=root\n"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_closed(tmp_path: Path) -> None:
    """As systemd itself rates it, from 0 (closed) to 100; `keep-owners.conf` costs some."""
    unit = unit_settings(UNIT)
    for name, value in (("ProtectSystem", "strict"), ("NoNewPrivileges", "yes"), ("RestrictSUIDSGID", "yes"),
                        ("CapabilityBoundingSet", ""), ("LimitCORE", "0"), ("UMask", "0077")):  # fmt: skip
        assert unit[name] == [value]
    try:
        subprocess.run(["systemd-analyze", "--version"], check=True, capture_output=True)
    except OSError:
        pytest.skip("no systemd-analyze here")
    (tmp_path / UNIT.name).write_text(UNIT.read_text())
    for drop_in, most in ((None, "20"), (DEPLOY / "systemd" / "keep-owners.conf", "30")):
        if drop_in is not None:
            (tmp_path / f"{UNIT.name}.d").mkdir()
            (tmp_path / f"{UNIT.name}.d" / drop_in.name).write_text(drop_in.read_text())
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", UNIT.name],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        if "unrecognized option" in done.stderr:
            pytest.skip("an old systemd-analyze")
        assert done.returncode == 0, done.stdout[-200:] + done.stderr


@pytest.mark.parametrize("name", ["deployment", "cronjob"])
def test_the_manifests_are_closed(name: str) -> None:
    text = (DEPLOY / "kubernetes" / f"{name}.yaml").read_text()
    for demanded in (
        "runAsNonRoot: true",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "capabilities: {drop: [ALL]}",
        "seccompProfile: {type: RuntimeDefault}",
        "automountServiceAccountToken: false",
    ):
        assert demanded in text


def unit_settings(path: Path) -> dict[str, list[str]]:
    """The settings of a unit file; one may be given several times."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, equals, value = line.partition("=")
            assert equals, line
            found.setdefault(name, []).append(value)
    return found


def default_grace_s() -> float:
    """How long running operations may take to finish, without an option that says otherwise."""
    from filerbackup.settings.model import PipelineSettings

    return PipelineSettings().grace_s
