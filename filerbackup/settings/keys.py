"""Every key that can be set, in one place: the tables that loading, flags and warnings go by.

Keys are dotted and in lower case, as weed sees them (its reader ignores capitals). The environment
variable of a key is its name in upper case with `_` for `.`: `WEED_SINK_S3_BUCKET` for the keys of
weed's files, `FILERBACKUP_CONCURRENCY` and `FILERBACKUP_SINK_S3_STORAGE_CLASS` for what is new.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from filerbackup.settings import places, values
from filerbackup.settings.values import printable

MIN_MEMORY_BYTES = 8 << 20
MAX_CONCURRENCY = 4096
SECTION = "filerbackup."

START_WORDS = ("auto", "snapshot", "log", "now")


def _start(value: object) -> str:
    # TOML has times of its own: start = 2026-01-31T20:00:00Z without quotes.
    text = value.isoformat() if isinstance(value, datetime) else value
    if isinstance(text, str):
        if text in START_WORDS:
            return text
        try:
            values.parse_rfc3339(text)
        except values.BadValue:
            pass
        else:
            return text
    words = ", ".join(START_WORDS)
    raise values.BadValue(
        f'must be one of {words}, or a time such as "2026-01-31T20:00:00Z", not {values.shown(text)}'
    )


@dataclass(frozen=True, slots=True)
class Option:
    """One key of `[filerbackup]`.

    `name` is the key, the name in the flags mapping given to `load_settings` (an argparse `dest`)
    and, in upper case after `FILERBACKUP_`, the environment variable. `flag` is the command's option.
    """

    name: str
    flag: str
    parse: Callable[[object], object]
    help: str


OPTIONS: tuple[Option, ...] = (
    Option("filer", "--filer", places.as_filers, "filer address host:port[.grpcPort]; several with commas"),
    Option("path", "--path", places.as_filer_folder, "folder of the filer to back up"),
    Option("read_via", "--read-via", values.as_choice("volume", "filer"), "who serves file content"),
    Option("connect_timeout", "--connect-timeout", values.as_duration(0.1, 86400), "wait for the filer"),
    Option("exclude_paths", "--exclude-path", values.as_list, "leave out paths (* and ?)"),
    Option("exclude_names", "--exclude-name", values.as_list, "leave out file names (* and ?)"),
    Option("concurrency", "--concurrency", values.as_int(1, MAX_CONCURRENCY), "operations at once and sink"),
    Option("memory", "--memory", values.as_size(MIN_MEMORY_BYTES, 1 << 44), "file content held in memory"),
    Option("start", "--start", _start, "auto, snapshot, log, now, or an RFC 3339 time"),
    Option("adopt_weed_checkpoint", "--adopt-weed-checkpoint", values.as_bool, "go on where weed stopped"),
    Option("no_delete", "--no-delete", values.as_bool, "keep in the sink what the source deleted"),
    Option("claim", "--claim", values.as_bool, "accept a sink directory that holds other things"),
    Option("dry_run", "--dry-run", values.as_bool, "say what would be done, only probe the sinks"),
    Option("grace", "--grace", values.as_duration(0, 86400), "time to finish after a signal to stop"),
    Option("reconcile_every", "--reconcile-every", values.as_interval(1, 366 * 86400), "compare; 0: never"),
    Option("versions", "--versions", values.as_choice("current", "all"), "of versioned buckets"),
    Option("remote_entries", "--remote-entries", values.as_choice("fetch", "skip"), "only in remote storage"),
    Option("sse_kek_from_filer", "--sse-kek-from-filer", values.as_bool, "read SSE-S3's key from the filer"),
    Option("delete_guard", "--delete-guard", values.as_limit, "hold deletes above a number or a share"),
    Option("delete_guard_window", "--delete-guard-window", values.as_duration(1, 366 * 86400), "within"),
    Option("log_format", "--log-format", values.as_choice("text", "json"), "text or json"),
    Option("log_level", "--log-level", values.as_choice("debug", "info", "warning", "error"), "what to log"),
)  # fmt: skip
"""Flags and keys of `[filerbackup]`, one to one. A flag that was not given must be None."""

_EVERY_SINK = ("enabled", "directory", "is_incremental")

WEED_SINKS: Mapping[str, tuple[str, ...]] = {
    "local": _EVERY_SINK,
    "s3": (
        *_EVERY_SINK, "aws_access_key_id", "aws_secret_access_key", "region", "bucket", "endpoint", "acl",
        "keep_part_size", "uploader_max_upload_parts", "uploader_part_size",
        "uploader_concurrency", "s3_disable_content_md5_validation", "s3_force_path_style",
    ),
    "google_cloud_storage": (*_EVERY_SINK, "google_application_credentials", "bucket"),
    "azure": (*_EVERY_SINK, "account_name", "account_key", "client_id", "endpoint", "container"),
    "backblaze": (*_EVERY_SINK, "b2_account_id", "b2_master_application_key", "b2_region", "bucket"),
    "filer": (
        *_EVERY_SINK, "grpcaddress", "replication", "collection", "ttlsec", "datacenter", "disk",
    ),
}  # fmt: skip
"""weed's keys, those that its scaffold does not show among them."""

SINKS = tuple(WEED_SINKS)
"""The kinds of sinks, in the order in which they are listed and started."""

_NEW_FOR_EVERY_SINK = ("timezone", "concurrency")
_NEW_FOR_OBJECTS = (
    *_NEW_FOR_EVERY_SINK, "symlinks", "directory_markers", "storage_class", "part_size", "part_concurrency",
)  # fmt: skip

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "local": (*_NEW_FOR_EVERY_SINK, "keep_set_id"),
    "s3": (
        *_NEW_FOR_OBJECTS, "aws_session_token", "server_side_encryption", "sse_kms_key_id", "ca_file",
    ),
    "google_cloud_storage": (*_NEW_FOR_OBJECTS, "endpoint"),
    "azure": _NEW_FOR_OBJECTS,
    "backblaze": (*_NEW_FOR_OBJECTS, "endpoint", "hard_delete"),
    "filer": (*_NEW_FOR_EVERY_SINK, "part_size", "part_concurrency"),
}  # fmt: skip
"""What is new in a sink's section."""

PLACEHOLDERS: Mapping[str, str] = {
    "sink.s3.bucket": "your_bucket_name",
    "sink.google_cloud_storage.google_application_credentials": "/path/to/x.json",
    "sink.google_cloud_storage.bucket": "your_bucket_seaweedfs",
    "sink.backblaze.bucket": "mybucket",
}
"""What weed's scaffold writes where a name of one's own belongs, and what cannot be one.

Its "mycontainer" of Azure can.
"""

SERVICE_VARIABLES: tuple[Mapping[str, str], ...] = (
    {"sink.google_cloud_storage.google_application_credentials": "GOOGLE_APPLICATION_CREDENTIALS_JSON"},
    {"sink.google_cloud_storage.endpoint": "STORAGE_EMULATOR_HOST"},
    {
        "sink.azure.account_name": "AZURE_STORAGE_ACCOUNT",
        "sink.azure.account_key": "AZURE_STORAGE_ACCOUNT_KEY",
    },
    {
        "sink.backblaze.b2_account_id": "B2_APPLICATION_KEY_ID",
        "sink.backblaze.b2_master_application_key": "B2_APPLICATION_KEY",
    },
    {
        "sink.backblaze.b2_account_id": "B2_ACCOUNT_ID",
        "sink.backblaze.b2_master_application_key": "B2_MASTER_APPLICATION_KEY",
    },
)
"""Variables of the services' own tools, which stand in where nothing else says anything.

Those of one group belong together. AWS has its chain of its own.
"""

_SOURCE = ("enabled", "grpcaddress", "directory", "excludedirectories")

SECURITY_KEYS = (
    "grpc.ca", "grpc.client.cert", "grpc.client.key", "grpc.client.client_cert", "grpc.client.client_key",
    "grpc.client.server_name",
    "https.client.enabled", "https.client.cert", "https.client.key", "https.client.ca",
    "https.client.insecure_skip_verify", "jwt.signing.read.key", "jwt.filer_signing.read.key",
    "s3.sse.kek", "s3.sse.key", "s3.sse.kek.passphrase",
)  # fmt: skip
"""What is read of `security.toml`; its other keys are for servers."""

SECRET_KEYS = frozenset(
    {
        "sink.s3.aws_secret_access_key", "sink.s3.aws_session_token", "sink.azure.account_key",
        "sink.backblaze.b2_master_application_key",
        "sink.google_cloud_storage.google_application_credentials",
        "jwt.signing.read.key", "jwt.filer_signing.read.key",
        "s3.sse.kek", "s3.sse.key", "s3.sse.kek.passphrase",
    }
)  # fmt: skip
"""Keys whose file should be closed to others. Credentials of Google may also be the path of a file."""


SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AZURE_CLIENT_SECRET", "AZURE_PASSWORD", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "IDENTITY_HEADER",
    "MSI_SECRET",
)  # fmt: skip
"""What the clouds' own chains read by themselves: not ours to use, but ours to keep out of sight."""


def is_secret(key: str, value: object) -> bool:
    """Whether the value of a key of `SECRET_KEYS` is a secret itself."""
    if key == "sink.google_cloud_storage.google_application_credentials":
        return isinstance(value, str) and value.lstrip().startswith("{")
    return bool(value)


WEED_KEYS = frozenset(
    [f"sink.{sink}.{name}" for sink, names in WEED_SINKS.items() for name in names]
    + [f"source.filer.{name}" for name in _SOURCE]
)
NEW_KEYS = frozenset(
    [SECTION + option.name for option in OPTIONS]
    + [f"sink.{sink}.{name}" for sink, names in EXTRAS.items() for name in names]
)
REPLICATION_KEYS = WEED_KEYS | NEW_KEYS
"""Everything that `replication.toml` may hold."""

REPLICATION_SECTIONS = frozenset(
    key.rsplit(".", depth)[0] for key in REPLICATION_KEYS for depth in range(1, key.count(".") + 1)
)

# Kubernetes puts these into every pod beside a service whose name begins with "filerbackup".
_SERVICE_VARIABLE = re.compile(
    r"FILERBACKUP(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

CONFIG_VARIABLE = "FILERBACKUP_CONFIG"
"""Stands in for `--config`."""


def variable(key: str) -> str:
    """The environment variable that sets a key."""
    if key.startswith(SECTION):
        key = key[len(SECTION) :]
        return "FILERBACKUP_" + key.upper()
    prefix = "FILERBACKUP_" if key in NEW_KEYS else "WEED_"
    return prefix + key.upper().replace(".", "_")


def is_foreign_variable(name: str) -> bool:
    """Whether a variable without a key of its own is no mistake: another program's, or a service's."""
    if name.startswith("WEED_SINK_"):
        return False
    if not name.startswith("FILERBACKUP_"):
        return True
    return name == CONFIG_VARIABLE or _SERVICE_VARIABLE.fullmatch(name) is not None


def did_you_mean(key: str, known: Collection[str], separator: str = ".") -> str:
    """What to add to a message about an unknown key: `; did you mean "sink.s3.bucket"?`, or nothing."""
    head, _, leaf = key.rpartition(separator)
    siblings = {
        name.rpartition(separator)[2]: name for name in known if name.rpartition(separator)[0] == head
    }
    close = difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.6)
    best = siblings[close[0]] if close else ""
    if not best:
        elsewhere = sorted(name for name in known if name.rpartition(separator)[2] == leaf)
        best = elsewhere[0] if len(elsewhere) == 1 else ""
    if not best:
        best = next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.85)), "")
    return f'; did you mean "{printable(best)}"?' if best else ""
