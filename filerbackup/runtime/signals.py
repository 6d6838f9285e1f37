"""SIGTERM and SIGINT: the first one drains, the second one leaves at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)
EXIT_AT_ONCE = 130
SAME_REQUEST_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal; at the second leave as a crash would, which costs repeated work only.

    A cancelled task would not do: a call that hangs in a file system cannot be cancelled.
    """
    loop = asyncio.get_running_loop()

    stopped_at = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal stopped_at
        if stopped_at and loop.time() - stopped_at < SAME_REQUEST_S:
            # Some send one signal to the process and one to its group.
            return
        if stopped_at:
            _log.warning("%s again: leaves at once", number.name)
            logging.shutdown()
            os._exit(EXIT_AT_ONCE)
        _log.info("%s: stops taking changes, finishes what runs, stores the checkpoint", number.name)
        stopped_at = loop.time()
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
