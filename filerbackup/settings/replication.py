"""The `[sink.*]` sections of `replication.toml`: which sinks there are, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from filerbackup.errors import UsageError
from filerbackup.settings import keys, places, values
from filerbackup.settings.model import LocalSettings, PipelineSettings, S3Settings, SinkSettings
from filerbackup.settings.secret import Secret
from filerbackup.settings.values import Values

DEFAULT_REGION = "us-east-2"
DEFAULT_PART_BYTES = 8 << 20
DEFAULT_PART_CONCURRENCY = 4
MIN_PART_BYTES = 5 << 20
MAX_PART_BYTES = 5 << 30
PLACEHOLDER_BUCKET = "your_bucket_name"
"""What weed's scaffold writes."""


def enabled_sinks(found: Values, pipeline: PipelineSettings, warnings: list[str]) -> tuple[SinkSettings, ...]:
    """All enabled sinks, in the order of `keys.SUPPORTED_SINKS`. Raises UsageError.

    Unlike weed, which takes the first one only.
    """
    for key in found.under("sink."):
        kind = key.split(".")[1]
        if key != f"sink.{kind}.enabled" or kind in keys.SUPPORTED_SINKS:
            continue
        if not found.get(key, values.as_bool, False):
            continue
        supported = ", ".join(keys.SUPPORTED_SINKS)
        if kind in keys.WEED_SINKS:
            problem = f"this sink is not supported by this version yet; supported: {supported}"
        else:
            problem = f"there is no sink of this kind; supported: {supported}"
        raise UsageError(f"{found.label(key)}: {problem}", hint="Set enabled = false in that section.")
    readers: Mapping[str, Callable[[], SinkSettings]] = {
        "local": lambda: _local(found),
        "s3": lambda: _s3(found, pipeline, warnings),
    }
    return tuple(
        readers[kind]()
        for kind in keys.SUPPORTED_SINKS
        if found.get(f"sink.{kind}.enabled", values.as_bool, False)
    )


def _common(found: Values, section: str) -> tuple[bool, str, int | None]:
    concurrency = f"{section}.concurrency"
    return (
        found.get(f"{section}.is_incremental", values.as_bool, False),
        found.get(f"{section}.timezone", values.as_timezone, "UTC"),
        found.get(concurrency, values.as_int(1, keys.MAX_CONCURRENCY), 0) or None,
    )


def _local(found: Values) -> LocalSettings:
    key = "sink.local.directory"
    written = found.get(key, values.as_text, "")
    if not written:
        raise UsageError(f"{found.label(key)}: must name the directory to copy into")
    is_incremental, timezone, concurrency = _common(found, "sink.local")
    return LocalSettings(
        name="local",
        directory=found.get(key, places.as_local_directory, ""),
        is_incremental=is_incremental,
        timezone=timezone,
        concurrency=concurrency,
        weed_identity=("local", written),
    )


def _s3(found: Values, pipeline: PipelineSettings, warnings: list[str]) -> S3Settings:
    section = "sink.s3"
    bucket = found.get(f"{section}.bucket", values.as_text, "")
    if bucket in ("", PLACEHOLDER_BUCKET):
        raise UsageError(f"{found.label(f'{section}.bucket')}: must name an existing bucket")
    is_incremental, timezone, concurrency = _common(found, section)
    written = (
        "s3",
        found.get(f"{section}.endpoint", values.as_text, ""),
        bucket,
        found.get(f"{section}.directory", values.as_text, "/"),
    )
    _without_effect(found)
    access_key_id, secret = _credentials(found)
    part_size, part_concurrency = _parts(found, pipeline, warnings)
    return S3Settings(
        name="s3",
        directory=found.get(f"{section}.directory", places.as_key_directory, "/"),
        is_incremental=is_incremental,
        timezone=timezone,
        concurrency=concurrency,
        weed_identity=written,
        bucket=found.get(f"{section}.bucket", places.as_bucket, ""),
        region=found.get(f"{section}.region", values.as_text, DEFAULT_REGION) or DEFAULT_REGION,
        endpoint=found.get(f"{section}.endpoint", places.as_endpoint, ""),
        access_key_id=access_key_id,
        secret_access_key=secret,
        force_path_style=found.get(f"{section}.s3_force_path_style", values.as_bool, True),
        storage_class=found.get(f"{section}.storage_class", places.as_storage_class, ""),
        acl=found.get(f"{section}.acl", places.as_canned_acl, ""),
        part_size_bytes=part_size,
        part_concurrency=part_concurrency,
    )


def _credentials(found: Values) -> tuple[str, Secret]:
    id_key, secret_key = "sink.s3.aws_access_key_id", "sink.s3.aws_secret_access_key"
    access_key_id = found.get(id_key, values.as_text, "")
    secret = found.get(secret_key, values.as_secret, Secret())
    if bool(access_key_id) != bool(secret):
        given, missing = (id_key, secret_key) if access_key_id else (secret_key, id_key)
        raise UsageError(
            f"{found.label(missing)}: missing, while {given} is set",
            hint="Give both, or neither to use the AWS environment variables, profile or role.",
        )
    return access_key_id, secret


def _parts(found: Values, pipeline: PipelineSettings, warnings: list[str]) -> tuple[int, int]:
    """Size of a part in bytes and how many of one file travel at once: our keys, else weed's.

    Together they stay within the memory of the whole process.
    """
    size_key = _first_given(found, "sink.s3.part_size", "sink.s3.uploader_part_size")
    in_mib = found.get("sink.s3.uploader_part_size", values.as_int(0, MAX_PART_BYTES >> 20), 0)
    weeds_size = max(in_mib << 20, MIN_PART_BYTES) if in_mib else DEFAULT_PART_BYTES
    size = found.get("sink.s3.part_size", values.as_size(MIN_PART_BYTES, MAX_PART_BYTES), weeds_size)
    memory = values.format_size(pipeline.memory_bytes)
    if size > pipeline.memory_bytes:
        raise UsageError(
            f"{found.label(size_key)}: {values.format_size(size)} do not fit into a memory of {memory}",
            hint="Make the parts smaller, or give more with memory in [filerbackup] or --memory.",
        )
    count_key = _first_given(found, "sink.s3.part_concurrency", "sink.s3.uploader_concurrency")
    weeds_count = found.get("sink.s3.uploader_concurrency", values.as_int(0, 1024), 0)
    given = found.get("sink.s3.part_concurrency", values.as_int(1, 1024), weeds_count)
    wanted = given or DEFAULT_PART_CONCURRENCY
    fitting = min(wanted, pipeline.memory_bytes // size)
    if fitting < wanted and given:
        warnings.append(
            f"{found.label(count_key)}: {fitting} instead of {wanted}, so that parts of "
            f"{values.format_size(size)} fit into a memory of {memory}"
        )
    return size, fitting


def _first_given(found: Values, ours: str, weeds: str) -> str:
    return ours if found.has(ours) or not found.has(weeds) else weeds


def _without_effect(found: Values) -> None:
    """Keys of weed that change nothing here: parts follow the file's size, content is always checked."""
    found.get("sink.s3.uploader_max_upload_parts", values.as_int(0, 1 << 31), 0)
    found.get("sink.s3.keep_part_size", values.as_bool, True)
    found.get("sink.s3.s3_disable_content_md5_validation", values.as_bool, True)
