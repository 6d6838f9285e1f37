"""One identity for three clients: they address the same place, whatever the environment says."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest

from filerbackup.settings.model import S3Settings
from filerbackup.settings.secret import Secret
from filerbackup.sinks.s3.connection import connect

GIVEN = S3Settings(
    "s3", bucket="copies", region="eu-central-1", access_key_id="AKID", secret_access_key=Secret("SK")
)
AWS = "https://s3.eu-central-1.amazonaws.com/copies/"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, AWS),
        ({"force_path_style": False}, "https://copies.s3.eu-central-1.amazonaws.com/"),
        ({"force_path_style": False, "bucket": "co.pies"}, AWS.replace("copies", "co.pies")),
        ({"region": ""}, "https://s3.amazonaws.com/copies/"),
        ({"endpoint": "http://h:8333"}, "http://h:8333/copies/"),
        ({"endpoint": "https://h:8443", "force_path_style": False}, "https://copies.h:8443/"),
        ({"endpoint": "https://h/below"}, "https://h/below/copies/"),
    ],
)
async def test_all_clients_address_the_same_place(
    changes: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://elsewhere:1")
    if not changes.get("endpoint"):
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        monkeypatch.delenv("AWS_ENDPOINT_URL")
    settings = dataclasses.replace(GIVEN, **changes)
    connection = await connect(settings)
    try:
        for key in ("a/b", "sp ace+plus%20#?&=;é\U0001f600", "x~-_.!*'()"):
            parameters = {"Bucket": settings.bucket, "Key": key}
            ours = await connection.client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=60, HttpMethod="GET"
            )
            theirs = await obstore.sign_async(connection.store, "GET", key, timedelta(seconds=60))
            assert ours.startswith(place)
            assert urlsplit(ours)[:2] == urlsplit(theirs)[:2]
            assert urlsplit(ours).path.replace("%21", "!") == urlsplit(theirs).path.replace("%21", "!")
    finally:
        await connection.close()


async def test_nothing_shows_the_secret() -> None:
    connection = await connect(dataclasses.replace(GIVEN, secret_access_key=Secret("very-secret")))
    try:
        assert "very-secret" not in repr(connection)
    finally:
        await connection.close()
