"""What nobody caught: a traceback without secrets, in place of the interpreter's own."""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType

from filerbackup.observe.logs import cleaned, escaped


def show_crashes_without_secrets() -> None:
    """From now on tracebacks of the main thread, of other threads and of finalizers go the log's way."""

    def of_thread(thrown: threading.ExceptHookArgs) -> None:
        if thrown.exc_type is not SystemExit:
            _report(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)

    def of_finalizer(thrown: sys.UnraisableHookArgs) -> None:
        _report(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)

    sys.excepthook = _report
    threading.excepthook = of_thread
    sys.unraisablehook = of_finalizer


def _report(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    text = cleaned("".join(traceback.format_exception(kind, error, where)))
    try:
        sys.stderr.write("".join(escaped(line) + "\n" for line in text.splitlines()))
    except (OSError, ValueError):
        return
