"""Configurations for the daemon under test."""

from __future__ import annotations

from pathlib import Path

from tests.support.weed import WeedServer


def general(weed: WeedServer, path: str = "/data", **more: object) -> str:
    """The `[filerbackup]` section."""
    lines = [f'filer = "{weed.filer}"', f'path = "{path}"', 'connect_timeout = "20s"']
    lines += [f"{name} = {_toml(value)}" for name, value in more.items()]
    return "[filerbackup]\n" + "\n".join(lines) + "\n"


def local_sink(directory: Path, **more: object) -> str:
    """`[sink.local]`."""
    return _section("local", directory=str(directory), **more)


def s3_sink(weed: WeedServer, bucket: str, **more: object) -> str:
    """`[sink.s3]` at a weed's gateway, or at what `endpoint` puts before it."""
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any-secret", "region": "us-east-1"}
    return _section("s3", bucket=bucket, **{**keys, "endpoint": weed.s3_endpoint, "directory": "/", **more})


def sink(kind: str, **keys: object) -> str:
    """Any `[sink.<kind>]`."""
    return _section(kind, **keys)


def _section(name: str, **keys: object) -> str:
    lines = [f"{key} = {_toml(value)}" for key, value in {"enabled": True, **keys}.items()]
    return f"\n[sink.{name}]\n" + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case _:
            escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
