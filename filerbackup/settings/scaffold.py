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

# "text" or "json"; debug, info, warning or error.
# log_format = "text"
# log_level = "info"

# Every enabled sink is served, each on its own; weed takes the first one only.

[sink.local]
enabled = false
# An absolute path.
directory = "/data"
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
region = "us-east-2"
# The bucket must exist.
bucket = "your_bucket_name"
directory = "/"
# Empty for AWS, else a URL: "http://localhost:8333".
endpoint = ""
is_incremental = false
# s3_force_path_style = true
# acl = ""
# timezone = "UTC"
# concurrency = 64
# For what is written: STANDARD, STANDARD_IA, … Empty: the service's default.
# storage_class = ""
# Larger files go in parts of this size, so many of one file at once.
# part_size = "8MiB"
# part_concurrency = 4

# weed's other sinks. This version refuses to start when one of them is enabled.

[sink.filer]
enabled = false
grpcAddress = "localhost:18888"
directory = "/backup"
replication = ""
collection = ""
ttlSec = 0
is_incremental = false

[sink.google_cloud_storage]
enabled = false
google_application_credentials = "/path/to/x.json"
bucket = "your_bucket_seaweedfs"
directory = "/"
is_incremental = false

[sink.azure]
enabled = false
account_name = ""
account_key = ""
client_id = ""
endpoint = ""
container = "mycontainer"
directory = "/"
is_incremental = false

[sink.backblaze]
enabled = false
b2_account_id = ""
b2_master_application_key = ""
b2_region = ""
bucket = "mybucket"
directory = "/"
is_incremental = false
"""


def scaffold() -> str:
    """A `replication.toml` with every key, explained; all sinks are off."""
    return _EXAMPLE
