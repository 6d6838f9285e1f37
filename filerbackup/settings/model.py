"""Typed, frozen settings. Units are in the names; a secret cannot be printed.

Filled by `filerbackup.settings.load` from files, environment and flags, or by hand in a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from filerbackup.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files for TLS towards gRPC or HTTPS servers (`grpc.ca`, `grpc.client`, `https.client`).

    `server_name`: what a filer's certificate must be for, on gRPC; empty: the host of its address.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class KmsSettings:
    """A key management service that the source's S3 gateway uses (`[kms.providers.<name>]`).

    `kind`: "aws", "openbao", "vault", or another that cannot be asked. For "aws" empty keys mean the
    usual AWS chain and an empty endpoint AWS itself; for the others `endpoint` is the server's URL, and
    either `token` or the AppRole's `role_id` and `secret_id` is set.
    """

    name: str
    kind: str
    endpoint: str = ""
    region: str = ""
    profile: str = ""
    access_key_id: str = ""
    secret_access_key: Secret = field(default_factory=Secret)
    session_token: Secret = field(default_factory=Secret)
    token: Secret = field(default_factory=Secret)
    role_id: str = ""
    secret_id: Secret = field(default_factory=Secret)
    transit_path: str = "transit"
    tls: ClientTls = field(default_factory=ClientTls)


@dataclass(frozen=True, slots=True)
class SseSettings:
    """Keys of the source's S3 gateway, to decrypt what it has encrypted (SSE-S3, SSE-KMS).

    `kek` (32 bytes in hex) or `key` (any text) is the cluster's key as the gateway has it;
    `kek_passphrase` unwraps the one that lies on the filer. `kms`: the default provider first.
    """

    kek: Secret | None = None
    key: Secret | None = None
    kek_passphrase: Secret | None = None
    kms: tuple[KmsSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """What `security.toml` says that a client needs."""

    grpc: ClientTls | None = None
    https: ClientTls | None = None
    volume_read_key: Secret | None = None
    filer_read_key: Secret | None = None
    sse: SseSettings = field(default_factory=SseSettings)


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """The filer and the folder to watch.

    `filers` are `host:port` or `host:port.grpcPort`. `path` has no trailing slash ("/" is the
    root). `read_via`: "volume" or "filer". `versions`: of a versioned bucket "current" (the current
    version under the object's own name) or "all" (every version as the filer keeps it).
    `remote_entries`: a file whose bytes are only in remote storage is copied into the cluster first
    ("fetch") or left out ("skip"). `sse_kek_from_filer`: the key of SSE-S3 may be read from the filer's
    `/etc/s3/sse_kek`.
    """

    filers: tuple[str, ...] = ("localhost:8888",)
    path: str = "/"
    read_via: str = "volume"
    connect_timeout_s: float = 30.0
    exclude_paths: tuple[str, ...] = ()
    exclude_names: tuple[str, ...] = ()
    versions: str = "current"
    remote_entries: str = "fetch"
    sse_kek_from_filer: bool = False


@dataclass(frozen=True, slots=True)
class DeleteGuard:
    """How many deletes within `window_s` are too many for one sink.

    `limit`: that number; 0: no limit by number. `share`: that share of the tree, from 0 to 1; 0: no
    limit by share. Off when both are 0.
    """

    limit: int = 0
    share: float = 0.0
    window_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How hard to work.

    `concurrency`: operations at once and sink. `memory_bytes`: file content held in memory by all
    sinks together. `start`: auto, snapshot, log, now, or an RFC 3339 time. `reconcile_every_s`: how
    often the sink is compared with the live tree; 0: never. `delete_guard`: how many deletes hold a
    sink's deletes until a person allows them.
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
    delete_guard: DeleteGuard = field(default_factory=lambda: DeleteGuard(share=0.5))


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """What every sink has. `name` is its section (`local`, `s3`), for messages.

    `directory` is absolute, without a trailing slash. `timezone` names the zone whose days a dated
    layout uses. `concurrency`: operations at once, None for the pipeline's. `weed_identity`: kind
    and place exactly as they were written, which is what `weed filer.backup` hashes into its
    checkpoint key (`filerbackup.state.pair`); empty when made by hand.
    """

    name: str
    directory: str = "/"
    is_incremental: bool = False
    timezone: str = "UTC"
    concurrency: int | None = None
    weed_identity: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalSettings(SinkSettings):
    """`[sink.local]`. `keep_set_id`: copies keep the set-uid and set-gid bits of the source."""

    keep_set_id: bool = False


@dataclass(frozen=True, slots=True)
class ObjectSettings(SinkSettings):
    """What every object store has.

    `part_size_bytes`: larger files go up in parts of this size, grown where a file would need too
    many; `part_concurrency` parts at a time. `symlinks`: "rclonelink" (an object `name.rclonelink`
    with the target as its bytes), "follow-metadata" (an object of the link's own name with the target
    as its bytes and a mode that says symlink, as s3fs does) or "skip". `directory_markers`: keep
    directories as empty objects whose names end in a slash. `storage_class`: empty for the bucket's
    own, "source" for what the source's client asked for, else a name of the service.
    """

    symlinks: str = "rclonelink"
    directory_markers: bool = False
    storage_class: str = ""
    part_size_bytes: int = 8 << 20
    part_concurrency: int = 4


@dataclass(frozen=True, slots=True)
class S3Settings(ObjectSettings):
    """`[sink.s3]`.

    Empty keys mean the usual AWS chain. An empty endpoint means AWS; any other is `http://` or
    `https://` with host and port, without a trailing slash. `server_side_encryption`: empty, "AES256"
    or "aws:kms", then with `sse_kms_key_id` or the account's default key. `ca_file`: PEM file with
    the authorities to trust for the endpoint, empty for the system's.
    """

    bucket: str = ""
    region: str = "us-east-2"
    endpoint: str = ""
    access_key_id: str = ""
    secret_access_key: Secret = field(default_factory=Secret)
    session_token: Secret = field(default_factory=Secret)
    force_path_style: bool = True
    acl: str = ""
    server_side_encryption: str = ""
    sse_kms_key_id: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class GcsSettings(ObjectSettings):
    """`[sink.google_cloud_storage]`.

    `credentials`: the JSON of a service account (or of any other credentials file), empty for
    Application Default Credentials. `credentials_file` stands in its place when that was a path, and
    `in_file` are the secrets that were seen there, to be kept out of sight (each opening reads it again).
    `endpoint`: empty for Google's own; http:// endpoints are asked without credentials when none are
    given.
    """

    bucket: str = ""
    credentials: Secret = field(default_factory=Secret)
    credentials_file: str = ""
    in_file: tuple[Secret, ...] = field(default=(), compare=False)
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class AzureSettings(ObjectSettings):
    """`[sink.azure]`.

    Without `account_key` the usual Entra chain is used (`client_id`: of the managed identity to take).
    `endpoint`: URL of the blob service, empty for `https://<account>.blob.core.windows.net`.
    """

    account_name: str = ""
    account_key: Secret = field(default_factory=Secret)
    client_id: str = ""
    endpoint: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class BackblazeSettings(ObjectSettings):
    """`[sink.backblaze]`.

    Empty keys mean `B2_APPLICATION_KEY_ID` and `B2_APPLICATION_KEY` of the environment. `region` is
    weed's `b2_region`, kept for its checkpoint key; the service tells where an account lives.
    `endpoint`: realm URL, empty for Backblaze's own. `hard_delete`: remove all versions of what the
    source deleted or replaced, instead of hiding it.
    """

    bucket: str = ""
    key_id: str = ""
    application_key: Secret = field(default_factory=Secret)
    region: str = ""
    endpoint: str = ""
    hard_delete: bool = False


@dataclass(frozen=True, slots=True)
class FilerSinkSettings(SinkSettings):
    """`[sink.filer]`: another SeaweedFS cluster.

    `grpc_address`: `host:grpcPort`, as weed has it in `grpcAddress`. `ttl_s` 0 and empty strings leave
    the choice to the target. Security is that of the source (`security.toml`). `part_size_bytes`: of
    each chunk but the last; `part_concurrency` chunks of a file at a time.
    """

    grpc_address: str = "localhost:18888"
    replication: str = ""
    collection: str = ""
    ttl_s: int = 0
    data_center: str = ""
    disk: str = ""
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
