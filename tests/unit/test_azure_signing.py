"""The signature, against that of Microsoft's own SDK."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from azure.core.rest import HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.errors import UsageError
from filerbackup.settings.secret import Secret
from filerbackup.sinks.azure.signing import SharedKey

KEY = base64.b64encode(bytes(range(64))).decode()
_metadata_names = st.text("abz019_", min_size=1, max_size=8).filter(lambda name: not name[0].isdigit())
_values = st.text("abc XYZ09=;,+/", min_size=1, max_size=20).map(str.strip).filter(bool)
_headers = st.dictionaries(
    st.sampled_from(
        ["x-ms-blob-type", "x-ms-blob-content-type", "x-ms-version", "x-ms-access-tier", "x-ms-tags",
         "content-md5", "content-type", "if-match", "content-length"]
    ) | _metadata_names.map(lambda name: f"x-ms-meta-{name}"),
    _values,
)  # fmt: skip
_queries = st.dictionaries(st.sampled_from(["comp", "restype", "prefix", "blockid", "marker"]), _values)


def by_sdk(method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> str:
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    request = HttpRequest(method, f"https://host{path}" + (f"?{text}" if text else ""), headers=headers)
    SharedKeyCredentialPolicy("account", KEY).on_request(
        SimpleNamespace(http_request=request, context=SimpleNamespace(transport=None))
    )
    return request.headers["Authorization"]


@given(_headers, _queries, st.text(max_size=20))
def test_it_is_the_sdks(headers: dict[str, str], query: dict[str, str], name: str) -> None:
    path = "/box/" + quote(name.encode("utf-8", "replace"), safe="/~")
    signed = dict(headers)
    SharedKey("account", Secret(KEY)).sign_now("PUT", path, query, signed)

    authorization = signed.pop("authorization")
    assert authorization == by_sdk("PUT", path, query, signed)


def test_digits_come_behind_an_underscore() -> None:
    """The service does not sort by bytes: another order is another signature."""
    headers = {"x-ms-meta-a1": "1", "x-ms-meta-a_": "2", "x-ms-meta-ab": "3"}
    signed = dict(headers)
    SharedKey("account", Secret(KEY)).sign_now("PUT", "/box/a", {}, signed)

    assert signed.pop("authorization") == by_sdk("PUT", "/box/a", {}, signed)


@pytest.mark.parametrize("key", ["not base64!", "abc", '"quoted=="'])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        SharedKey("account", Secret(key))
    assert key not in f"{caught.value} {caught.value.hint} {caught.value.__context__!r}"
