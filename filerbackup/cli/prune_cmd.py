"""`filerbackup prune`: remove old days from dated copies."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from datetime import datetime

from filerbackup.cli.common import run_asking, settings_of, start_logging
from filerbackup.errors import UsageError
from filerbackup.pipeline.layout import Dated
from filerbackup.recovery.prune import Prune, Pruned, choose, days_of, require_dated
from filerbackup.runtime.build import Shared, make_source
from filerbackup.runtime.service import connected, require_folder, shared_parts
from filerbackup.settings.model import Settings, SinkSettings
from filerbackup.sinks.registry import create_sink


def prune(options: argparse.Namespace) -> int:
    """Go through the days that may go, oldest first; print a line for each."""
    if options.keep_days < 1 or options.keep_at_least < 1:
        raise UsageError("--keep-days and --keep-at-least are numbers of days, 1 or more")
    settings = settings_of(options, require_sinks=True)
    start_logging(settings, warnings=True)
    chosen = [of for of in settings.sinks if of.is_incremental and options.sink in (None, of.name)]
    if not chosen:
        raise UsageError(
            "no sink that fits has is_incremental = true",
            hint="a mirror holds what the source holds: there are no days to remove",
        )

    async def work() -> int:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connected(settings.source, settings))
            shared = await shared_parts(stack, client, settings, create_name=False)
            await require_folder(client, shared.scope.root)
            for of in chosen:
                await _prune(settings, of, shared, options)
        return 0

    return run_asking(work())


async def _prune(settings: Settings, of: SinkSettings, shared: Shared, options: argparse.Namespace) -> None:
    layout = Dated(shared.scope.relative, of.timezone)
    async with AsyncExitStack() as stack:
        sink = create_sink(of, settings.security, settings.source)
        stack.push_async_callback(sink.close)
        await sink.open()
        await require_dated(sink, cluster=shared.cluster, path=shared.scope.root)
        days = await days_of(sink)
        today = datetime.now(layout.zone).date()
        going = choose(days, today=today, keep_days=options.keep_days, keep_at_least=options.keep_at_least)
        source = make_source(settings, shared, "filerbackup-prune")
        job = Prune(sink, source, layout, shared.scope.absolute, dry_run=options.dry_run)
        removed = kept = size = 0
        for day in going:
            done = await job.day(day)
            removed, kept, size = removed + done.removed, kept + done.kept, size + done.removed_bytes
            print(f"{of.name}: {_line(done, dry_run=options.dry_run)}")
        would = "would be " if options.dry_run else ""
        print(
            f"{of.name}: {len(days)} days, {len(going)} of them older than {options.keep_days} days; "
            f"{removed} files ({size:,} bytes) {would}removed, {kept} kept: the filer still has them so"
        )


def _line(done: Pruned, *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    return f"{done.day}: {done.removed} files ({done.removed_bytes:,} bytes) {would}removed, {done.kept} kept"
