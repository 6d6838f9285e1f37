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
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal; at the second leave as a crash would, which costs repeated work only.

    A cancelled task would not do: a call that hangs in a file system cannot be cancelled.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            _log.warning("%s again: leaves at once", number.name)
            logging.shutdown()
            os._exit(EXIT_AT_ONCE)
        _log.info("%s: stops taking changes, finishes what runs, stores the checkpoint", number.name)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
