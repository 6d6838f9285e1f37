"""`filerbackup checkpoint show|set|reset`."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict

from filerbackup.cli.common import asked_filer, chosen_pairs, run_asking, settings_of, start_logging
from filerbackup.errors import FilerBackupError
from filerbackup.filer.client import FilerClient
from filerbackup.observe.logs import escaped
from filerbackup.pipeline.start import parse_time_ns, refuse_future, when
from filerbackup.state.base import Checkpoint
from filerbackup.state.checkpoints import FilerCheckpoints
from filerbackup.state.kv import KeyValues
from filerbackup.state.lease import FilerLease
from filerbackup.state.pair import Pair


def show(options: argparse.Namespace) -> int:
    """Print the stored checkpoints."""
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def ask() -> int:
        async with asked_filer(settings) as client:
            found = []
            for pair in await chosen_pairs(client, settings, options):
                found.append((pair, await FilerCheckpoints(KeyValues(client), pair).load()))
        if options.json:
            print(json.dumps([_record(pair, checkpoint) for pair, checkpoint in found], indent=2))
            return 0
        for pair, checkpoint in found:
            print(escaped(pair.describe()))
            if checkpoint is None:
                print("  no checkpoint: the next run takes a snapshot")
                continue
            print(f"  offset   {when(checkpoint.offset_ns)} ({checkpoint.offset_ns})")
            print(
                f"  phase    {checkpoint.phase.value}"
                + (escaped(f" behind {checkpoint.cursor}") if checkpoint.cursor else "")
            )
            print(f"  stored   {when(checkpoint.updated_ns)} by {escaped(checkpoint.holder)}")
        return 0

    return run_asking(ask())


def set_(options: argparse.Namespace) -> int:
    """Store another offset."""
    offset_ns = int(options.time) if options.time.isdigit() else parse_time_ns(options.time)
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def change() -> int:
        async with asked_filer(settings) as client:
            now_ns = await client.now_ns()
            refuse_future(offset_ns, now_ns)
            for pair in await chosen_pairs(client, settings, options):
                await _require_free(client, pair)
                store = FilerCheckpoints(KeyValues(client), pair)
                await store.save(
                    Checkpoint(
                        offset_ns=offset_ns,
                        updated_ns=time.time_ns(),
                        compared_ns=time.time_ns(),
                        holder="checkpoint set",
                        ahead_to_ns=now_ns,
                    )
                )
                print(f"{escaped(pair.describe())}: goes on from {when(offset_ns)}")
        return 0

    return run_asking(change())


def reset(options: argparse.Namespace) -> int:
    """Forget the stored offset."""
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def change() -> int:
        async with asked_filer(settings) as client:
            for pair in await chosen_pairs(client, settings, options):
                await _require_free(client, pair)
                await FilerCheckpoints(KeyValues(client), pair).delete()
                print(
                    f"{escaped(pair.describe())}: forgotten; the next run compares and fills with a snapshot"
                )
        return 0

    return run_asking(change())


async def _require_free(client: FilerClient, pair: Pair) -> None:
    """A running process would write its own checkpoint over the new one."""
    holder = await FilerLease(client, pair.lock_name, "checkpoint", time.monotonic).holder()
    if holder is not None:
        raise FilerBackupError(f"{pair.describe()}: {holder} works on it", hint="stop it first")


def _record(pair: Pair, checkpoint: Checkpoint | None) -> dict[str, object]:
    stored = None if checkpoint is None else {**asdict(checkpoint), "phase": checkpoint.phase.value}
    return {"pair": asdict(pair), "checkpoint": stored}
