"""Typed, frozen settings. Units are in the names; a secret cannot be printed.

Filled by `filerbackup.settings.load` from files, environment and flags, or by hand in a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from filerbackup.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files for TLS towards gRPC or HTTPS servers (`grpc.ca`, `grpc.client`, `https.client`)."""

    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """What `security.toml` says that a client needs."""

    grpc: ClientTls | None = None
    https: ClientTls | None = None
    volume_read_key: Secret | None = None
    filer_read_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """The filer and the folder to watch.

    `filers` are `host:port` or `host:port.grpcPort`. `path` has no trailing slash ("/" is the
    root). `read_via`: "volume" or "filer".
    """

    filers: tuple[str, ...] = ("localhost:8888",)
    path: str = "/"
    read_via: str = "volume"
    connect_timeout_s: float = 30.0
    exclude_paths: tuple[str, ...] = ()
    exclude_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How hard to work.

    `concurrency`: operations at once and sink. `memory_bytes`: file content held in memory by all
    sinks together. `start`: auto, snapshot, log, now, or an RFC 3339 time. `reconcile_every_s`: how
    often the sink is compared with the live tree; 0: never.
    """

    concurrency: int = 64
    memory_bytes: int = 96 << 20
    start: str = "auto"
    adopt_weed_checkpoint: bool = False
    no_delete: bool = False
    claim: bool = False
    dry_run: bool = False
    grace_s: float = 20.0
    reconcile_every_s: float = 86400.0


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """What every sink has. `name` is its section (`local`, `s3`), for messages.

    `directory` is absolute, without a trailing slash. `timezone` names the zone whose days a dated
    layout uses. `concurrency`: operations at once, None for the pipeline's. `weed_identity`: kind,
    endpoint, bucket and directory (local: kind and directory) exactly as they were written, which
    is what `weed filer.backup` hashes into its checkpoint key; empty when made by hand.
    """

    name: str
    directory: str = "/"
    is_incremental: bool = False
    timezone: str = "UTC"
    concurrency: int | None = None
    weed_identity: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalSettings(SinkSettings):
    """`[sink.local]`."""


@dataclass(frozen=True, slots=True)
class S3Settings(SinkSettings):
    """`[sink.s3]`.

    Empty keys mean the usual AWS chain. An empty endpoint means AWS; any other is `http://` or
    `https://` with host and port, without a trailing slash.
    """

    bucket: str = ""
    region: str = "us-east-2"
    endpoint: str = ""
    access_key_id: str = ""
    secret_access_key: Secret = field(default_factory=Secret)
    force_path_style: bool = True
    storage_class: str = ""
    acl: str = ""
    part_size_bytes: int = 8 << 20
    part_concurrency: int = 4


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`format`: "text" or "json". `level`: debug, info, warning or error."""

    format: str = "text"
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one process needs to know. `warnings` are for the log, once, at the start.

    `origins`: which file, environment variable or flag supplied each key, never its value.
    """

    source: SourceSettings = field(default_factory=SourceSettings)
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)
    security: SecuritySettings = field(default_factory=SecuritySettings)
    log: LogSettings = field(default_factory=LogSettings)
    sinks: tuple[SinkSettings, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
