"""Shows a `Progress` while a block runs.

On a terminal as up to three lines that are redrawn, elsewhere as a log line now and then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TextIO

from filerbackup.observe.logs import BoundLogger, LogHandler, escaped
from filerbackup.observe.progress import Figures, Progress

REDRAW_EVERY_S = 0.2
LOG_EVERY_S = 10.0


def format_bytes(count: float) -> str:
    """Bytes for a person: `512 B`, `56.1 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1024 or unit == "TiB":
            break
    return f"{count:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration for a person: `0:42`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(figures: Figures) -> list[tuple[int, str]]:
    """The parts of the first line in order, each with its importance (0 is the highest)."""
    parts: list[tuple[int, str]] = []
    if figures.label:
        parts.append((6, escaped(figures.label)))
    done, total = figures.files_done + figures.failures, figures.files_total
    if figures.bytes_total:
        parts.append((2, f"{100 * figures.bytes_done // figures.bytes_total}%"))
    elif total:
        parts.append((2, f"{100 * min(done, total) // total}%"))
    of = "" if total is None else f" of {total:,}"
    parts.append((0, f"{figures.files_done:,}{of} files"))
    of = "" if figures.bytes_total is None else f" of {format_bytes(figures.bytes_total)}"
    parts.append((4, format_bytes(figures.bytes_done) + of))
    if figures.bytes_per_s is not None:
        parts.append((5, f"{format_bytes(figures.bytes_per_s)}/s"))
    if figures.files_per_s is not None:
        parts.append((7, f"{figures.files_per_s:,.0f} files/s"))
    if figures.failures:
        parts.append((1, f"{figures.failures:,} failed"))
    if figures.left_s is not None:
        parts.append((3, f"{format_seconds(figures.left_s)} left"))
    parts.append((8, f"{format_seconds(figures.elapsed_s)} elapsed"))
    return parts


def render(figures: Figures, columns: int, *, names: bool = True) -> list[str]:
    """What a terminal of so many columns shows: the summary, then up to two names."""
    width = max(columns - 1, 10)
    parts = summary(figures)
    while len(parts) > 1 and _width("  ".join(text for _, text in parts)) > width:
        parts.remove(max(parts))
    shown = [shorten("  ".join(text for _, text in parts), width)]
    if not names:
        return shown
    current = figures.current[:2]
    for number, key in enumerate(current, start=1):
        more = figures.current_count - len(current)
        tail = f" (and {more:,} more)" if more > 0 and number == len(current) else ""
        shown.append("  " + shorten(escaped(key[-4 * width :]), max(width - 2 - len(tail), 4)) + tail)
    return [shorten(line, width) for line in shown]


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, with the middle left out; the end says more than the start."""
    if _width(text) <= width:
        return text
    tail_width = (width - 1) * 2 // 3
    tail = _fitting(reversed(text), tail_width)[::-1]
    return _fitting(text, width - 1 - _width(tail)) + "…" + tail


def _fitting(text: Iterable[str], width: int) -> str:
    taken: list[str] = []
    for char in text:
        width -= _char_width(char)
        if width < 0:
            break
        taken.append(char)
    return "".join(taken)


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


# -- on a terminal, or in the log ---------------------------------------------------------------


class Painter:
    """Draws lines at the bottom of a terminal, over the ones that it drew before.

    Threads may use it: drawing happens in one, and the log borrows the terminal from another.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lock = threading.Lock()
        self._shown: Sequence[str] = ()

    def paint(self, shown: Sequence[str]) -> None:
        """Replace what is there."""
        with self._lock:
            if shown != self._shown:
                self._write(self._erasure() + "\n".join(shown))
                self._shown = shown

    def leave(self, shown: Sequence[str]) -> None:
        """Replace what is there for the last time; what comes next begins on a new line."""
        with self._lock:
            self._write(self._erasure() + "\n".join((*shown, "")))
            self._shown = ()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The terminal without the lines, for somebody else to write whole lines to."""
        with self._lock:
            self._write(self._erasure())
            try:
                yield
            finally:
                self._write("\n".join(self._shown))

    def _erasure(self) -> str:
        if not self._shown:
            return ""
        up = f"\x1b[{len(self._shown) - 1}A" if len(self._shown) > 1 else ""
        return f"\r{up}\x1b[J"

    def _write(self, text: str) -> None:
        if self._stream is None or not text:
            return
        try:
            self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone; the work goes on without it.
            self._stream = None


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether lines can be redrawn on this stream."""
    try:
        return stream.isatty() and environ.get("TERM", "") not in ("", "dumb")
    except ValueError:
        return False


def terminal_columns(stream: TextIO) -> int:
    """The width of the stream's terminal now, or 80."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


@asynccontextmanager
async def display(
    progress: Progress,
    stream: TextIO,
    is_tty: bool,
    interval: float | None = None,
    *,
    handler: LogHandler | None = None,
    logger: logging.Logger | BoundLogger | None = None,
    columns: Callable[[TextIO], int] = terminal_columns,
) -> AsyncIterator[None]:
    """Show progress while the block runs, and once more at its end.

    On a terminal (`is_tty`) on `stream`, at most five times a second; `handler` is the log handler
    that writes to the same terminal. Elsewhere as a line of `logger` every `interval` seconds (10
    when None). A terminal that goes away, or is stopped (Ctrl-S), does not hold up the block.
    """
    if is_tty:
        show = _on_terminal(progress, stream, handler, columns)
        every = max(interval or 0.0, REDRAW_EVERY_S)
    else:
        show = _in_log(progress, logger or logging.getLogger("filerbackup.progress"))
        every = interval or LOG_EVERY_S
    stop = asyncio.Event()
    async with show as once:
        task = asyncio.create_task(_repeat(once, every, stop), name="progress display")
        try:
            yield
        finally:
            stop.set()
            await task


async def _repeat(once: Callable[[], Awaitable[None]], every: float, stop: asyncio.Event) -> None:
    while not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await stop.wait()
                return
        await once()


@asynccontextmanager
async def _on_terminal(
    progress: Progress, stream: TextIO, handler: LogHandler | None, columns: Callable[[TextIO], int]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    painter = Painter(stream)

    async def once() -> None:
        # A stopped terminal blocks whoever writes to it: that must not be the loop.
        await asyncio.to_thread(painter.paint, render(progress.look(), columns(stream)))

    before = handler.lent if handler is not None else None
    if handler is not None:
        handler.lent = painter.lent
    try:
        yield once
    finally:
        await asyncio.to_thread(painter.leave, render(progress.look(), columns(stream), names=False))
        if handler is not None and before is not None:
            handler.lent = before


@asynccontextmanager
async def _in_log(
    progress: Progress, logger: logging.Logger | BoundLogger
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    def say() -> None:
        figures = progress.look()
        counts = {
            "files": figures.files_done,
            "files_total": figures.files_total,
            "bytes": figures.bytes_done,
            "bytes_total": figures.bytes_total,
            "failures": figures.failures,
        }
        extra = {name: count for name, count in counts.items() if count is not None}
        logger.info(", ".join(text for _, text in summary(figures)), extra=extra)

    async def once() -> None:
        say()

    try:
        yield once
    finally:
        say()
