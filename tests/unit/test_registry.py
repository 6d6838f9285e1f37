"""Which class a section becomes, and what is said when its client library is missing."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from filerbackup.errors import UsageError
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    FilerSinkSettings,
    GcsSettings,
    S3Settings,
    SecuritySettings,
    SinkSettings,
)
from filerbackup.settings.secret import Secret
from filerbackup.sinks.registry import create_sink

OBJECT_STORES = [
    (S3Settings("s3"), "filerbackup.sinks.s3", "S3Sink", "s3"),
    (GcsSettings("google_cloud_storage"), "filerbackup.sinks.gcs", "gcs_sink", "gcs"),
    (AzureSettings("azure"), "filerbackup.sinks.azure", "azure_sink", "azure"),
    (BackblazeSettings("backblaze"), "filerbackup.sinks.backblaze", "backblaze_sink", "b2"),
]


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[tuple[object, ...]]:
    """A module whose maker notes what it was called with."""
    calls: list[tuple[object, ...]] = []

    def make(*arguments: object) -> str:
        calls.append(arguments)
        return "a sink"

    loaded = ModuleType(module)
    setattr(loaded, name, make)
    monkeypatch.setitem(sys.modules, module, loaded)
    return calls


@pytest.mark.parametrize(("settings", "module", "name", "extra"), OBJECT_STORES)
def test_an_object_store_is_made_from_its_settings(
    monkeypatch: pytest.MonkeyPatch, settings: SinkSettings, module: str, name: str, extra: str
) -> None:
    calls = stand_in(monkeypatch, module, name)
    made: object = create_sink(settings, SecuritySettings())
    assert made == "a sink"
    assert calls == [(settings,)]


def test_the_filer_sink_gets_the_security_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch, "filerbackup.sinks.filer", "FilerSink")
    settings = FilerSinkSettings("filer")
    security = SecuritySettings(volume_read_key=Secret("x"))
    create_sink(settings, security)
    create_sink(settings)
    assert calls == [(settings, security), (settings, SecuritySettings())]


@pytest.mark.parametrize(("settings", "module", "name", "extra"), OBJECT_STORES)
@pytest.mark.parametrize(
    ("error", "problem", "upgrade"),
    [
        (ModuleNotFoundError("x", name="sdk.core"), "needs the package sdk.core, which is not installed", ""),
        (ImportError("x", name="google.cloud"), "needs a package of google.cloud that is not installed", ""),
        (
            ImportError("cannot import name 'aio'", name="sdk", path="/sdk.py"),
            "cannot use the installed package sdk: cannot import name 'aio'",
            "--upgrade ",
        ),
    ],
)
def test_a_missing_client_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
    settings: SinkSettings,
    module: str,
    name: str,
    extra: str,
    error: ImportError,
    problem: str,
    upgrade: str,
) -> None:
    def refuse(name: str) -> None:
        assert name == module
        raise error

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(UsageError) as caught:
        create_sink(settings)
    assert str(caught.value) == f"[sink.{settings.name}] {problem}"
    assert caught.value.hint == f"pip install {upgrade}'filerbackup[{extra}]'"


def test_a_namespace_without_the_package_is_what_python_says_it_is() -> None:
    """The kind of error that the registry takes for a missing package."""
    pytest.importorskip("google.cloud")
    with pytest.raises(ImportError) as caught:
        exec("from google.cloud import no_such_package")
    assert not isinstance(caught.value, ModuleNotFoundError)
    assert (caught.value.name, caught.value.path) == ("google.cloud", None)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("x", name="filerbackup.sinks.gcs.nowhere"),
        ImportError("cannot import name", name="filerbackup.sinks", path="/x.py"),
        ImportError("said without a name"),
    ],
)
def test_a_mistake_of_ones_own_is_not_taken_for_a_missing_package(
    monkeypatch: pytest.MonkeyPatch, error: ImportError
) -> None:
    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(type(error)) as caught:
        create_sink(GcsSettings("google_cloud_storage"))
    assert caught.value is error
