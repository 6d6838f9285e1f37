"""`[sink.s3]`."""

from __future__ import annotations

from filerbackup.errors import UsageError
from filerbackup.settings import files, places, values
from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.settings.sinks.section import Parts, Section, objects

DEFAULT_REGION = "us-east-2"
PARTS = Parts(smallest=5 << 20, largest=5 << 30)
"""Of an S3 multipart upload."""

_ID, _SECRET, _TOKEN = "aws_access_key_id", "aws_secret_access_key", "aws_session_token"
_SSE, _KMS_KEY = "server_side_encryption", "sse_kms_key_id"


def read(section: Section) -> S3Settings:
    """Raises UsageError."""
    bucket = section.named("bucket", "an existing bucket")
    _without_effect(section)
    _check_credentials(section)
    endpoint = section.get("endpoint", places.as_endpoint, "")
    return S3Settings(
        **objects(section, PARTS, places.as_storage_class),
        weed_identity=("s3", section.text("endpoint"), bucket, section.text("directory", "/")),
        bucket=section.get("bucket", places.as_bucket, ""),
        region=section.text("region") or DEFAULT_REGION,
        endpoint=endpoint,
        access_key_id=section.text(_ID),
        secret_access_key=section.get(_SECRET, values.as_secret, Secret()),
        session_token=section.get(_TOKEN, values.as_secret, Secret()),
        force_path_style=section.get("s3_force_path_style", values.as_bool, True),
        acl=section.get("acl", places.as_canned_acl, ""),
        server_side_encryption=_encryption(section, endpoint),
        sse_kms_key_id=section.text(_KMS_KEY),
        ca_file=_ca_file(section, endpoint),
    )


def _check_credentials(section: Section) -> None:
    neither = "Give both, or neither to use the AWS environment variables, profile or role."
    section.both_or_neither(_ID, _SECRET, neither)
    if section.text(_TOKEN) and not section.text(_ID):
        raise UsageError(
            f"{section.label(_ID)}: missing, while {section.key(_TOKEN)} is set",
            hint="A session token belongs to the key id and the secret key that came with it.",
        )


def _encryption(section: Section, endpoint: str) -> str:
    chosen = section.get(_SSE, values.as_choice("AES256", "aws:kms"), "") if section.text(_SSE) else ""
    if section.text(_KMS_KEY) and chosen != "aws:kms":
        raise UsageError(
            f"{section.label(_KMS_KEY)}: acts only with {section.key(_SSE)} = "
            f'"aws:kms", which is {chosen or "not set"}'
        )
    if chosen and endpoint.startswith("http://"):
        section.warnings.append(
            f"{section.label(_SSE)}: {endpoint} is not https; many services refuse to encrypt then, "
            "and on the network everything stays in plain text"
        )
    return chosen


def _ca_file(section: Section, endpoint: str) -> str:
    if not section.text("ca_file"):
        return ""
    path = section.file("ca_file")
    if b"-----BEGIN" not in files.contents(path, section.label("ca_file")):
        raise UsageError(
            f"{section.label('ca_file')}: {values.printable(str(path))} holds no certificate in PEM form"
        )
    if endpoint.startswith("http://"):
        section.warnings.append(f"{section.label('ca_file')}: not used, since {endpoint} is not https")
    return str(path)


def _without_effect(section: Section) -> None:
    """Keys of weed that change nothing here: parts follow the file's size, content is always checked."""
    section.get("uploader_max_upload_parts", values.as_int(0, 1 << 31), 0)
    section.get("keep_part_size", values.as_bool, True)
    section.get("s3_disable_content_md5_validation", values.as_bool, True)
