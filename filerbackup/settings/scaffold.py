"""The commented example that `filerbackup scaffold` prints."""

from __future__ import annotations

_EXAMPLE = """\
# replication.toml for filerbackup: what is copied, and where to.
#
# Looked for in this order, unless --config names a file or a directory:
#    ./replication.toml
#    ~/.seaweedfs/replication.toml
#    /usr/local/etc/seaweedfs/replication.toml
#    /etc/seaweedfs/replication.toml
#
# It is the file of `weed filer.backup`: one that works there works here. What filerbackup adds is
# shown with its default, behind a "#", and weed ignores it.
#
# Stronger than this file are environment variables, and stronger still are flags:
#    sink.s3.bucket               WEED_SINK_S3_BUCKET
#    sink.s3.storage_class (new)  FILERBACKUP_SINK_S3_STORAGE_CLASS
#    filerbackup.concurrency      FILERBACKUP_CONCURRENCY   --concurrency
# Weaker are variables of the services' own tools, which count where the key is empty.
#
# A file with a secret in it belongs to one user alone: chmod 600 replication.toml

[filerbackup]
# One filer, or a list of filers of one cluster: ["a:8888", "b:8888"]. The gRPC port is the port
# plus 10000, or what follows a dot: "a:8888.18888".
# filer = "localhost:8888"

# The folder to copy, with all below it.
# path = "/"

# Who serves file content: "volume" (the volume servers, fast) or "filer" (when those cannot be reached).
# read_via = "volume"

# How long to wait for a filer at the start before giving up.
# connect_timeout = "30s"

# What to leave out; * and ? are wildcards. A path with a leading slash is that folder or file and
# all below it; without one it is the name of any component on the way. Names are of files.
# exclude_paths = ["/buckets/scratch", ".snapshot"]
# exclude_names = ["*.tmp", "._*"]

# Operations at once for each sink, and the file content that may be in memory, for all of them.
# concurrency = 64
# memory = "96MiB"

# Where to begin: "auto" (go on where it stopped; the first time copy what is there, then follow),
# "snapshot" (compare everything first), "log" (the oldest change that is known), "now", or a time
# such as "2026-01-31T20:00:00Z".
# start = "auto"

# Go on where `weed filer.backup` stopped with the same sink and folder.
# adopt_weed_checkpoint = false

# Keep in the sink what was deleted at the source.
# no_delete = false

# Use a sink directory that already holds other things, and clear away what does not belong there.
# claim = false

# How long running operations may take to finish after a signal to stop.
# grace = "20s"

# How often the whole sink is compared with the filer; "0" is never.
# reconcile_every = "24h"

# Of buckets with versions "current" (the current version under the object's own name), or "all"
# (every version, as the filer keeps them).
# versions = "current"

# Files whose content is only in remote storage: "fetch" (into the cluster first, then copied) or "skip".
# remote_entries = "fetch"

# Objects that the S3 gateway has encrypted are decrypted with the keys in security.toml, and the copies
# are in plain: see config/security.toml. Whether the key of SSE-S3 may be read from /etc/s3/sse_kek on
# the filer, where older gateways have put it.
# sse_kek_from_filer = false

# When more than this is deleted within the window, the sink's deletes are held until somebody says
# `filerbackup deletes allow` or `discard`; everything else goes on. A number (10000), a share of the
# tree ("10%"), or "off".
# delete_guard = "50%"
# delete_guard_window = "1h"

# "text" or "json"; debug, info, warning or error.
# log_format = "text"
# log_level = "info"

# Every enabled sink is served, each on its own; weed takes the first one only.

[sink.local]
enabled = false
# An absolute path.
directory = "/data"
# Copies as root keep the set-uid and set-gid bits too: whoever can write to the source then decides what
# programs of this machine run as root.
# keep_set_id = false
# Copies go into a directory for each day, YYYY-MM-DD by the time of modification, and nothing is
# ever deleted. Otherwise the sink mirrors the folder.
is_incremental = false
# The zone whose days those are.
# timezone = "UTC"
# For this sink instead of the one above.
# concurrency = 64

[sink.s3]
enabled = false
# When both are empty, the usual places are asked: AWS_ACCESS_KEY_ID, ~/.aws/credentials, a role.
aws_access_key_id = ""
aws_secret_access_key = ""
# Of temporary keys only.
# aws_session_token = ""
region = "us-east-2"
# The bucket must exist.
bucket = "your_bucket_name"
directory = "/"
# Empty for AWS, else a URL: "http://localhost:8333".
endpoint = ""
is_incremental = false
# "bucket.host" is how AWS has it, "host/bucket" (path style) most others.
# s3_force_path_style = true
# The authorities to trust for the endpoint, a PEM file; empty: the system's.
# ca_file = ""
# A canned ACL for what is written, such as bucket-owner-full-control. Empty: the bucket's own rules.
# acl = ""
# "AES256" or "aws:kms", then with a key of KMS or the account's default one. Empty: as the bucket has it.
# server_side_encryption = ""
# sse_kms_key_id = ""
# timezone = "UTC"
# concurrency = 64
# A symlink becomes "rclonelink" (an object name.rclonelink that holds the target, which rclone makes
# a link of again), "follow-metadata" (an object of the link's own name, as s3fs has it), or nothing: "skip".
# symlinks = "rclonelink"
# Keep directories as empty objects whose names end in a slash: empty ones come back then.
# directory_markers = false
# For what is written: STANDARD, STANDARD_IA, … or "source", which is what the writer of the file asked
# for. Empty: the bucket's own.
# storage_class = ""
# Larger files go in parts of this size, so many of one file at once.
# part_size = "8MiB"
# part_concurrency = 4

[sink.google_cloud_storage]
enabled = false
# The path of a JSON file, or the JSON itself. Empty: GOOGLE_APPLICATION_CREDENTIALS_JSON (the JSON itself),
# then Application Default Credentials (GOOGLE_APPLICATION_CREDENTIALS, gcloud, the machine's identity).
google_application_credentials = "/path/to/x.json"
# The bucket must exist.
bucket = "your_bucket_seaweedfs"
directory = "/"
is_incremental = false
# Empty for Google (or STORAGE_EMULATOR_HOST), else a URL.
# endpoint = ""
# timezone = "UTC"
# concurrency = 64
# As for S3. Classes: STANDARD, NEARLINE, COLDLINE, ARCHIVE.
# symlinks = "rclonelink"
# directory_markers = false
# storage_class = ""
# part_size = "8MiB"
# part_concurrency = 4

[sink.azure]
enabled = false
# Empty: AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ACCOUNT_KEY. Without a key Entra ID is asked, with the
# workload or managed identity of the machine, the AZURE_… variables or the Azure CLI.
account_name = ""
account_key = ""
# The managed identity to take, where there are several.
client_id = ""
# The URL of the blob service. Empty: https://<account_name>.blob.core.windows.net
endpoint = ""
# The container must exist.
container = "mycontainer"
directory = "/"
is_incremental = false
# timezone = "UTC"
# concurrency = 64
# As for S3. Access tiers: Hot, Cool, Cold, Archive.
# symlinks = "rclonelink"
# directory_markers = false
# storage_class = ""
# part_size = "8MiB"
# part_concurrency = 4

[sink.backblaze]
enabled = false
# An application key; the master key will do. Empty: B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, or
# B2_ACCOUNT_ID and B2_MASTER_APPLICATION_KEY.
b2_account_id = ""
b2_master_application_key = ""
# Not needed: the service says where an account lives.
b2_region = ""
# The bucket must exist.
bucket = "mybucket"
directory = "/"
is_incremental = false
# Remove every version of what was deleted or replaced, instead of hiding it for the bucket's lifecycle
# rules to clear away.
# hard_delete = false
# Empty for Backblaze, else a URL.
# endpoint = ""
# timezone = "UTC"
# concurrency = 64
# As for S3; B2 has neither storage classes nor names that end in a slash.
# symlinks = "rclonelink"
# directory_markers = false
# storage_class = ""
# part_size = "8MiB"
# part_concurrency = 4

[sink.filer]
enabled = false
# Another SeaweedFS: its filer's gRPC port, which is its port plus 10000. Keys and certificates are
# those of security.toml, for both clusters.
grpcAddress = "localhost:18888"
# Files go below this folder of the target, which must not be its root.
directory = "/backup"
# For what is written there. Empty and 0: as the target has it.
replication = ""
collection = ""
ttlSec = 0
# dataCenter = ""
# disk = ""
# part_size = "8MiB"
# part_concurrency = 4
is_incremental = false
# timezone = "UTC"
# concurrency = 64
"""


def scaffold() -> str:
    """A `replication.toml` with every key, explained; all sinks are off."""
    return _EXAMPLE
