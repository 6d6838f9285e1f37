"""From settings to a sink; the client library of a kind is imported only when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from filerbackup.errors import UsageError
from filerbackup.settings.model import (
    AzureSettings,
    BackblazeSettings,
    FilerSinkSettings,
    GcsSettings,
    LocalSettings,
    S3Settings,
    SecuritySettings,
    SinkSettings,
    SourceSettings,
)
from filerbackup.sinks.base import Sink


@dataclass(frozen=True, slots=True)
class _Kind:
    """What makes a sink, and the extra of the package that brings what that imports.

    `secured`: it takes the settings of `security.toml` too, since it speaks to SeaweedFS itself.
    """

    module: str
    name: str
    extra: str = ""
    secured: bool = False


_KINDS: dict[type[SinkSettings], _Kind] = {
    LocalSettings: _Kind("filerbackup.sinks.local", "LocalSink"),
    S3Settings: _Kind("filerbackup.sinks.s3", "S3Sink", extra="s3"),
    GcsSettings: _Kind("filerbackup.sinks.gcs", "gcs_sink", extra="gcs"),
    AzureSettings: _Kind("filerbackup.sinks.azure", "azure_sink", extra="azure"),
    BackblazeSettings: _Kind("filerbackup.sinks.backblaze", "backblaze_sink", extra="b2"),
    FilerSinkSettings: _Kind("filerbackup.sinks.filer", "FilerSink", secured=True),
}


def create_sink(
    settings: SinkSettings, security: SecuritySettings | None = None, source: SourceSettings | None = None
) -> Sink:
    """A sink for these settings, not opened yet.

    `source`: what is watched, so that a sink that speaks to SeaweedFS can refuse to be a part of it.
    Raises UsageError when the settings are of no known kind, when the sink cannot use them, or when
    its client library is not installed or does not fit.
    """
    kind = _KINDS.get(type(settings))
    if kind is None:
        raise UsageError(f"[sink.{settings.name}] is of no kind that filerbackup knows")
    try:
        make = getattr(importlib.import_module(kind.module), kind.name)
    except ImportError as error:
        if not kind.extra or not error.name or error.name.split(".")[0] == "filerbackup":
            raise
        raise _unusable(settings.name, kind.extra, error) from error
    watched = {"source": source} if source is not None else {}
    sink: Sink = make(settings, security or SecuritySettings(), **watched) if kind.secured else make(settings)
    return sink


def _unusable(sink: str, extra: str, error: ImportError) -> UsageError:
    install = f"pip install 'filerbackup[{extra}]'"
    if isinstance(error, ModuleNotFoundError):
        return UsageError(
            f"[sink.{sink}] needs the package {error.name}, which is not installed", hint=install
        )
    # A namespace such as google.cloud exists as soon as any package puts something into it. What is not in
    # it is then "cannot import name", of a module that has no file.
    if error.path is None:
        return UsageError(
            f"[sink.{sink}] needs a package of {error.name} that is not installed", hint=install
        )
    return UsageError(
        f"[sink.{sink}] cannot use the installed package {error.name}: {error.msg}",
        hint=f"pip install --upgrade 'filerbackup[{extra}]'",
    )
