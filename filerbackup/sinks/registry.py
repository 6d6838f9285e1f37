"""From settings to a sink; the client library of a kind is imported only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from filerbackup.errors import UsageError
from filerbackup.settings.model import LocalSettings, S3Settings, SinkSettings
from filerbackup.sinks.base import Sink


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where a sink's class is, and the extra of the package that brings what it imports."""

    module: str
    name: str
    extra: str = ""


_KINDS: dict[type[SinkSettings], _Kind] = {
    LocalSettings: _Kind("filerbackup.sinks.local", "LocalSink"),
    S3Settings: _Kind("filerbackup.sinks.s3", "S3Sink", extra="s3"),
}


def create_sink(settings: SinkSettings) -> Sink:
    """A sink for these settings, not opened yet.

    Raises UsageError when the settings are of no known kind, when the sink cannot use them, or when
    its client library is not installed.
    """
    kind = _KINDS.get(type(settings))
    if kind is None:
        raise UsageError(f"[sink.{settings.name}] is of no kind that filerbackup knows")
    try:
        module = importlib.import_module(kind.module)
    except ModuleNotFoundError as error:
        if not kind.extra or (error.name or "").startswith("filerbackup"):
            raise
        raise UsageError(
            f"[sink.{settings.name}] needs the package {error.name}, which is not installed",
            hint=f"pip install 'filerbackup[{kind.extra}]'",
        ) from error
    return cast("Callable[[SinkSettings], Sink]", getattr(module, kind.name))(settings)
