"""What commands share: settings from options, logging, and a filer to ask."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from filerbackup.errors import UsageError
from filerbackup.filer.client import FilerClient
from filerbackup.observe.crashes import show_crashes_without_secrets
from filerbackup.observe.logs import LogHandler, configure
from filerbackup.runtime.build import pair_of
from filerbackup.runtime.service import connected
from filerbackup.settings.environment import secrets_of_chains
from filerbackup.settings.keys import OPTIONS
from filerbackup.settings.load import load_settings
from filerbackup.settings.model import Settings
from filerbackup.settings.secret import secrets_in
from filerbackup.sinks.registry import create_sink
from filerbackup.state.letters import PairDirectory
from filerbackup.state.pair import Pair

_log = logging.getLogger(__name__)


def settings_of(options: argparse.Namespace, *, require_sinks: bool) -> Settings:
    """Everything from files, environment and options. Raises UsageError."""
    flags = {option.name: getattr(options, option.name, None) for option in OPTIONS}
    if options.verbose and flags["log_level"] is None:
        flags["log_level"] = "debug"
    return load_settings(
        config=options.config,
        flags=flags,
        environ=os.environ,
        home=Path.home(),
        cwd=Path.cwd(),
        require_sinks=require_sinks,
    )


def start_logging(settings: Settings, *, warnings: bool = False) -> LogHandler:
    """Log to standard error as the settings say; if wanted, warnings about them come first."""
    handler = configure("json" if settings.log.format == "json" else "text", settings.log.level, sys.stderr)
    for secret in (*secrets_in(settings), *secrets_of_chains(os.environ)):
        handler.register_secret(secret)
    show_crashes_without_secrets()
    for warning in settings.warnings if warnings else ():
        _log.warning("%s", warning)
    for key, origin in settings.origins.items():
        _log.debug("setting", extra={"key": key, "from": origin})
    return handler


@asynccontextmanager
async def asked_filer(settings: Settings) -> AsyncIterator[FilerClient]:
    """A connected client."""
    async with connected(settings.source, settings) as client:
        yield client


async def chosen_pairs(client: FilerClient, settings: Settings, options: argparse.Namespace) -> list[Pair]:
    """What is configured here, else all that the filer knows of; narrowed by --path and --sink.

    Raises UsageError when nothing fits.
    """
    known = await PairDirectory(client).all()
    configured = [
        pair_of(settings.source.path, create_sink(sink, settings.security)) for sink in settings.sinks
    ]
    pairs = configured or known
    if options.path is not None:
        pairs = [pair for pair in pairs if pair.path == settings.source.path]
    if options.sink is not None:
        pairs = [pair for pair in pairs if pair.kind == options.sink]
    if not pairs:
        raise UsageError(
            "nothing that is backed up from this filer fits",
            hint="`filerbackup status` without --path and --sink, from a directory without replication.toml, "
            "shows all that the filer knows of",
        )
    return sorted(pairs, key=lambda pair: (pair.path, pair.kind, pair.container, pair.directory))


def run_asking(coroutine: Coroutine[Any, Any, int]) -> int:
    """Run a short command's coroutine, which returns the exit code."""
    return asyncio.run(coroutine)
