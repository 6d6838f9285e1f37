"""`[sink.google_cloud_storage]`."""

from __future__ import annotations

import json

from filerbackup.errors import UsageError
from filerbackup.settings import files, places, values
from filerbackup.settings.model import GcsSettings
from filerbackup.settings.secret import Secret, secrets_in
from filerbackup.settings.sinks.section import Parts, Section, in_plain_text, objects

PARTS = Parts(smallest=1 << 20, largest=5 << 30)
"""Objects of their own that the service puts together; it would take smaller and larger ones."""

STORAGE_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
EMULATOR = "STORAGE_EMULATOR_HOST"

_CREDENTIALS = "google_application_credentials"
_SECRETS = ("private_key", "refresh_token", "client_secret")
_NEEDED = {
    "service_account": ("client_email", "private_key", "token_uri"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}
_HINT = (
    "Create a key with `gcloud iam service-accounts keys create`, or leave it empty to use Application "
    "Default Credentials. In a TOML file the JSON itself stands in single quotes, '{…}'."
)


def read(section: Section) -> GcsSettings:
    """Raises UsageError."""
    bucket = section.named("bucket", "an existing bucket")
    credentials, path, in_file = _credentials(section)
    endpoint = _endpoint(section)
    if in_plain_text(endpoint) and (credentials or path):
        raise UsageError(
            f"{section.label('endpoint')}: must be https, or without credentials: {endpoint} would see "
            "tokens in plain text"
        )
    return GcsSettings(
        **objects(section, PARTS, places.as_one_of_classes("source", *STORAGE_CLASSES)),
        weed_identity=(section.kind, bucket, section.text("directory")),
        bucket=section.get("bucket", places.as_gcs_bucket, ""),
        credentials=credentials,
        credentials_file=path,
        in_file=in_file,
        endpoint=endpoint,
    )


def _endpoint(section: Section) -> str:
    written = section.text("endpoint")
    if section.found.origin(section.key("endpoint")) != f"environment variable {EMULATOR}":
        return section.get("endpoint", places.as_endpoint, "")
    # Google's own libraries take a bare host and port here, and mean http.
    try:
        endpoint = places.as_endpoint(written if "://" in written else f"http://{written}")
    except values.BadValue as error:
        raise UsageError(f"environment variable {EMULATOR}: {error}") from None
    section.warnings.append(
        f"environment variable {EMULATOR}: copies go to the emulator at {endpoint}, not to Google"
    )
    return endpoint


def _credentials(section: Section) -> tuple[Secret, str, tuple[Secret, ...]]:
    """The JSON itself, or the path of the file that holds it with the secrets in there."""
    text = section.text(_CREDENTIALS).strip()
    label = section.label(_CREDENTIALS)
    if not text:
        return Secret(), "", ()
    if text.startswith("{"):
        _check(text, label)
        return Secret(text), "", ()
    path = section.file(_CREDENTIALS)
    shown = f"{label}: {values.printable(str(path))}"
    try:
        content = files.contents(path, label).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{shown}: not JSON", hint=_HINT) from None
    if _check(content, shown) and (warning := files.open_to_others(path)):
        section.warnings.append(warning)
    return Secret(), str(path), tuple(secrets_in(Secret(content)))


def _check(text: str, label: str) -> bool:
    """Whether credentials hold a secret. Raises UsageError, without a word of them."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{label}: not JSON", hint=_HINT) from None
    kind = document.get("type") if isinstance(document, dict) else None
    if not isinstance(kind, str) or not kind:
        raise UsageError(f'{label}: no credentials of Google: the field "type" is missing', hint=_HINT)
    for field in _NEEDED.get(kind, ()):
        if not isinstance(document.get(field), str) or not document[field]:
            raise UsageError(f'{label}: the field "{field}" is missing from the {kind}', hint=_HINT)
    return any(document.get(field) for field in _SECRETS)
