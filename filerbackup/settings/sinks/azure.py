"""`[sink.azure]`."""

from __future__ import annotations

import base64
import binascii

from filerbackup.errors import UsageError
from filerbackup.settings import places, values
from filerbackup.settings.model import AzureSettings
from filerbackup.settings.secret import Secret
from filerbackup.settings.sinks.section import Parts, Section, in_plain_text, objects

PARTS = Parts(smallest=1 << 20, largest=4000 << 20)
"""Blocks of a block blob."""

ACCESS_TIERS = ("Hot", "Cool", "Cold", "Archive")


def read(section: Section) -> AzureSettings:
    """Raises UsageError."""
    account = section.named("account_name", "the storage account")
    container = section.named("container", "an existing container")
    endpoint = section.get("endpoint", places.as_azure_endpoint, "")
    key = section.get("account_key", _as_account_key, Secret())
    _check_transport(section, endpoint, key)
    if key and section.text("client_id"):
        section.warnings.append(
            f"{section.label('client_id')}: not used, since there is an account_key "
            f"({section.found.origin(section.key('account_key'))})"
        )
    written = (section.text("endpoint"), container, section.text("directory"))
    return AzureSettings(
        **objects(section, PARTS, places.as_one_of_classes("source", *ACCESS_TIERS)),
        weed_identity=("azure", account, *written),
        account_name=section.get("account_name", places.as_azure_account, ""),
        account_key=key,
        client_id=section.text("client_id"),
        endpoint=endpoint,
        container=section.get("container", places.as_azure_container, ""),
    )


def _check_transport(section: Section, endpoint: str, key: Secret) -> None:
    if endpoint.startswith("http://") and not key:
        raise UsageError(
            f"{section.label('endpoint')}: must be https without an account_key",
            hint="A token of Entra ID is never sent in plain text.",
        )
    if in_plain_text(endpoint):
        section.warnings.append(
            f"{section.label('endpoint')}: {endpoint} is not https: content travels in plain text"
        )


def _as_account_key(value: object) -> Secret:
    secret = values.as_secret(value)
    try:
        base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise values.BadValue(
            "must be a key of the storage account as Azure shows it, in base64; a connection string or a "
            "SAS token is none"
        ) from None
    return secret
