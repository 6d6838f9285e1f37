"""`filerbackup dead-letters list|retry|drop`."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace

from filerbackup.cli.common import asked_filer, chosen_pairs, run_asking, settings_of, start_logging
from filerbackup.errors import UsageError
from filerbackup.observe.logs import escaped
from filerbackup.pipeline.start import when
from filerbackup.settings.model import Settings
from filerbackup.state.base import DeadLetter
from filerbackup.state.letters import FilerDeadLetters
from filerbackup.state.pair import Pair


def list_(options: argparse.Namespace) -> int:
    """Print them."""
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def ask() -> int:
        found = [item async for item in _letters(settings, options)]
        if options.json:
            print(
                json.dumps(
                    [
                        {"id": letter.letter_id, "pair": asdict(pair), **asdict(letter)}
                        for pair, _, letter in found
                    ],
                    indent=2,
                )
            )
            return 0
        for pair, _, letter in found:
            print(f"{letter.letter_id}  {when(letter.ts_ns)}  {letter.action}  {escaped(letter.path)}")
            print(f"    {escaped(pair.describe())}: {escaped(letter.reason)}")
            if letter.retry_requested:
                print("    a retry is asked for")
        print(f"{len(found)} dead letter{'' if len(found) == 1 else 's'}")
        return 0

    return run_asking(ask())


def retry(options: argparse.Namespace) -> int:
    """Ask for another try: by the process that runs, or else by the next one."""
    return _change(options, drop=False)


def drop(options: argparse.Namespace) -> int:
    """Forget letters; what they stand for stays uncopied until it changes again or a comparison finds it."""
    return _change(options, drop=True)


def _change(options: argparse.Namespace, *, drop: bool) -> int:
    if bool(options.ids) == options.all:
        raise UsageError("name the letters by their ids, or say --all")
    settings = settings_of(options, require_sinks=False)
    start_logging(settings)

    async def change() -> int:
        missing = set(options.ids)
        count = 0
        async for _, store, letter in _letters(settings, options):
            if not (options.all or letter.letter_id in options.ids):
                continue
            missing.discard(letter.letter_id)
            count += 1
            if drop:
                await store.remove(letter.letter_id)
            else:
                await store.put(replace(letter, retry_requested=True))
        done = "dropped" if drop else "will be tried again by the running process, or by the next one"
        print(f"{count} dead letter{'' if count == 1 else 's'} {done}")
        if missing:
            raise UsageError(f"no such dead letter: {', '.join(sorted(missing))}")
        return 0

    return run_asking(change())


async def _letters(
    settings: Settings, options: argparse.Namespace
) -> AsyncIterator[tuple[Pair, FilerDeadLetters, DeadLetter]]:
    async with asked_filer(settings) as client:
        for pair in await chosen_pairs(client, settings, options):
            store = FilerDeadLetters(client, pair)
            for letter in await store.all():
                yield pair, store, letter
