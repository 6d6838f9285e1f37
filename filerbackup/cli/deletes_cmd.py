"""`filerbackup deletes list|allow|discard`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict

from filerbackup.cli.common import asked_filer, chosen_pairs, run_asking, settings_of, start_logging
from filerbackup.errors import UsageError
from filerbackup.observe.logs import escaped
from filerbackup.pipeline.start import when
from filerbackup.settings.model import Settings
from filerbackup.state.base import Decision, DeleteWish, GuardRecord
from filerbackup.state.held import FilerHeldDeletes
from filerbackup.state.pair import Pair


def list_(options: argparse.Namespace) -> int:
    """Print how many there are, since when, and the first of them."""
    if options.count < 0:
        raise UsageError("--count is a number of paths")
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def ask() -> int:
        rows = []
        async for pair, store, record in _stores(settings, options):
            held, kept, paths = await _look(store, record, options.count)
            wish = await store.wish()
            rows.append(
                {
                    "pair": asdict(pair),
                    "held": held,
                    "since": when(record.tripped_ns) if held else "",
                    "kept": kept,
                    "decision": wish.decision.value if wish else "",
                    "paths": paths,
                }
            )
            if not options.json:
                print(_text(pair, record, held, kept, paths, wish))
        if options.json:
            print(json.dumps(rows, indent=2))
        return 0

    return run_asking(ask())


def allow(options: argparse.Namespace) -> int:
    """Ask the process that runs, or else the next one, to carry them out."""
    return _decide(options, Decision.ALLOW, kept=options.kept)


def discard(options: argparse.Namespace) -> int:
    """Ask it to drop them; the copies stay, also when the sink is compared with the source."""
    return _decide(options, Decision.DISCARD)


def _decide(options: argparse.Namespace, decision: Decision, *, kept: bool = False) -> int:
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def ask() -> int:
        asked = 0
        async for pair, store, record in _stores(settings, options):
            held, discarded, _ = await _look(store, record, 0)
            count = held + (discarded if kept else 0)
            if not count:
                continue
            asked += 1
            await store.ask(DeleteWish(decision, time.time_ns(), kept))
            done = "carried out" if decision is Decision.ALLOW else "discarded: the copies stay"
            print(
                f"{escaped(pair.describe())}: {_deletes(count)} will be {done}, by the running process "
                "or by the next one"
            )
        if not asked:
            print("no deletes are held")
        return 0

    return run_asking(ask())


async def _look(store: FilerHeldDeletes, record: GuardRecord, most: int) -> tuple[int, int, list[str]]:
    """How many are held, how many were discarded, and the first paths of what is held."""
    held = kept = 0
    paths: list[str] = []
    async for number, deletes in store.batches():
        if number in record.allowed:
            continue
        if number <= record.decided_to:
            kept += len(deletes)
            continue
        held += len(deletes)
        paths += [delete.path for delete in deletes[: max(0, most - len(paths))]]
    return held, kept, paths


def _text(
    pair: Pair, record: GuardRecord, held: int, kept: int, paths: list[str], wish: DeleteWish | None
) -> str:
    lines = [escaped(pair.describe())]
    lines.append(f"  {_deletes(held)} held" + (f" since {when(record.tripped_ns)}" if held else ""))
    lines += [f"    {escaped(path)}" for path in paths]
    if held > len(paths):
        lines.append(f"    … and {held - len(paths)} more")
    if record.allowed:
        lines.append("  deletes that were allowed are being carried out")
    if kept:
        lines.append(f"  {_deletes(kept)} discarded earlier, the copies are kept")
    if wish is not None:
        lines.append(f"  asked for: {wish.decision.value}; by the running process, or by the next one")
    elif held:
        lines.append("  decide with: filerbackup deletes allow, or: filerbackup deletes discard")
    return "\n".join(lines)


def _deletes(count: int) -> str:
    return f"{count} delete{'' if count == 1 else 's'}"


async def _stores(
    settings: Settings, options: argparse.Namespace
) -> AsyncIterator[tuple[Pair, FilerHeldDeletes, GuardRecord]]:
    async with asked_filer(settings) as client:
        for pair in await chosen_pairs(client, settings, options):
            store = FilerHeldDeletes(client, pair)
            yield pair, store, await store.load()
