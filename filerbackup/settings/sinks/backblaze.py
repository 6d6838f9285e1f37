"""`[sink.backblaze]`."""

from __future__ import annotations

from filerbackup.errors import UsageError
from filerbackup.settings import places, values
from filerbackup.settings.model import BackblazeSettings
from filerbackup.settings.secret import Secret
from filerbackup.settings.sinks.section import Parts, Section, in_plain_text, objects

PARTS = Parts(smallest=5_000_000, largest=5_000_000_000)
"""Of a B2 large file."""

_ID, _KEY = "b2_account_id", "b2_master_application_key"


def read(section: Section) -> BackblazeSettings:
    """Raises UsageError."""
    bucket = section.named("bucket", "an existing bucket")
    section.both_or_neither(
        _ID,
        _KEY,
        "Give the id and the key of one application key, or neither and set B2_APPLICATION_KEY_ID and "
        "B2_APPLICATION_KEY in the environment.",
    )
    section.named(_ID, "the id of an application key; B2_APPLICATION_KEY_ID is not set either")
    endpoint = section.get("endpoint", places.as_endpoint, "")
    if in_plain_text(endpoint):
        raise UsageError(
            f"{section.label('endpoint')}: must be https: {endpoint} would get the key in plain text"
        )
    if section.get("directory_markers", values.as_bool, False):
        raise UsageError(
            f"{section.label('directory_markers')}: must be false: no name in B2 can end in a slash"
        )
    return BackblazeSettings(
        **objects(section, PARTS, _as_storage_class),
        weed_identity=("backblaze", bucket, section.text("directory")),
        bucket=section.get("bucket", places.as_b2_bucket, ""),
        key_id=section.text(_ID),
        application_key=section.get(_KEY, values.as_secret, Secret()),
        region=section.text("b2_region"),
        endpoint=endpoint,
        hard_delete=section.get("hard_delete", values.as_bool, False),
    )


def _as_storage_class(value: object) -> str:
    if values.as_text(value):
        raise values.BadValue(f"must be left out: B2 has no storage classes, not {values.shown(value)}")
    return ""
