"""The display of progress: as text, on a string, in the log, and on a real terminal."""

from __future__ import annotations

import asyncio
import fcntl
import io
import logging
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.observe import display as display_module
from filerbackup.observe.display import (
    REDRAW_EVERY_S,
    Painter,
    display,
    format_bytes,
    format_seconds,
    is_terminal,
    render,
    shorten,
    terminal_columns,
)  # fmt: skip
from filerbackup.observe.logs import LogHandler
from filerbackup.observe.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    return Progress("snapshot", clock=clock)


class Screen:
    """As much of a terminal as the display uses: newline, return, cursor up, erase below."""

    def __init__(self) -> None:
        self.rows = [""]
        self.row = 0

    def feed(self, text: str) -> Screen:
        for token in re.findall(r"\x1b\[\d*[A-Za-z]|[^\x1b]", text):
            match token:
                case "\n":
                    self.row += 1
                    if self.row == len(self.rows):
                        self.rows.append("")
                case "\r":
                    pass
                case "\x1b[J":
                    del self.rows[self.row + 1 :]
                    self.rows[self.row] = ""
                case _ if token.endswith("A") and token.startswith("\x1b"):
                    self.row -= int(token[2:-1])
                    assert self.row >= 0
                case _ if token.startswith("\x1b"):
                    raise AssertionError(f"unexpected {token!r}")
                case _:
                    self.rows[self.row] += token
        return self


# -- as text ---------------------------------------------------------------------------------------


def test_units() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 1536, 5 << 20, 3 << 30, 5 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB", "5120.0 TiB",
    ]  # fmt: skip
    assert [format_seconds(s) for s in (0, 42.4, 61, 3723)] == ["0:00", "0:42", "1:01", "1:02:03"]


def filled(progress: Progress, clock: Clock) -> Progress:
    progress.expect(5000, 1 << 30)
    clock.now += 10
    for number in range(1234):
        progress.finished(f"f{number}", 1 << 16)
    progress.failed("bad")
    for number in range(64):
        progress.started(f"dir/file-{number}", 1 << 16)
    return progress


def test_a_wide_terminal_shows_everything(progress: Progress, clock: Clock) -> None:
    assert render(filled(progress, clock).look(), 200) == [
        "snapshot  7%  1,234 of 5,000 files  77.1 MiB of 1.0 GiB  7.7 MiB/s  123 files/s  1 failed  2:03 left"
        "  0:10 elapsed",
        "  dir/file-0",
        "  dir/file-1 (and 62 more)",
    ]  # fmt: skip


def test_a_narrow_terminal_shows_what_matters(progress: Progress, clock: Clock) -> None:
    figures = filled(progress, clock).look()
    assert render(figures, 60)[0] == "7%  1,234 of 5,000 files  1 failed  2:03 left"
    assert render(figures, 40)[0] == "7%  1,234 of 5,000 files  1 failed"
    assert render(figures, 12)[0] == "1,23… files"


@given(st.text(st.characters(), max_size=300), st.integers(0, 120))
def test_no_name_is_wider_than_the_terminal_or_holds_controls(name: str, columns: int) -> None:
    progress = Progress(name, clock=lambda: 0.0)
    for suffix in "abc":
        progress.started(name + suffix, 1)
    for line in render(progress.look(), columns):
        assert line.isprintable()
        assert display_module._width(line) <= max(columns - 1, 10)


def test_shortening_keeps_the_end() -> None:
    assert shorten("a/very/long/path/to/file.txt", 16) == "a/ver…o/file.txt"
    assert shorten("日本語の名前.txt", 10) == "日…前.txt"
    assert shorten("short", 5) == "short"


# -- on a terminal ---------------------------------------------------------------------------------


def test_lines_are_drawn_over(clock: Clock) -> None:
    stream = io.StringIO()
    painter = Painter(stream)
    painter.paint(["one", "  a", "  b"])
    painter.paint(["two", "  c"])
    painter.paint(["three", "  d", "  e"])
    painter.leave(["end"])
    stream.write("$ ")
    assert Screen().feed(stream.getvalue()).rows == ["end", "$ "]


def test_the_same_lines_are_not_drawn_again() -> None:
    stream = io.StringIO()
    painter = Painter(stream)
    painter.paint(["one", "two"])
    before = stream.getvalue()
    painter.paint(["one", "two"])
    assert stream.getvalue() == before


def test_the_log_writes_above_the_lines() -> None:
    stream = io.StringIO()
    painter = Painter(stream)
    handler = LogHandler(stream)
    handler.lent = painter.lent
    painter.paint(["one", "  a"])
    for message in ("first", "second"):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, message, (), None))
    painter.paint(["two"])
    rows = Screen().feed(stream.getvalue()).rows
    assert [row[21:] for row in rows[:2]] == ["INFO  first", "INFO  second"]
    assert rows[2:] == ["two"]


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


async def test_a_terminal_that_goes_away_stops_nothing(progress: Progress) -> None:
    async with display(progress, Gone(), True):
        await asyncio.sleep(0.3)
        progress.finished("a", 1)


async def test_at_most_five_times_a_second() -> None:
    progress = Progress()
    frames: list[float] = []
    began = time.monotonic()

    class Counting(io.StringIO):
        def write(self, text: str) -> int:
            frames.append(time.monotonic())
            return super().write(text)

    async with display(progress, Counting(), True, 0.001):
        for number in range(100):
            progress.finished(f"f{number}", 1)
            await asyncio.sleep(0.01)
    assert 3 <= len(frames) <= 2 + (time.monotonic() - began) / REDRAW_EVERY_S
    # All but the last one, which comes with the end of the block.
    assert min(later - earlier for earlier, later in pairwise(frames[:-1])) >= REDRAW_EVERY_S * 0.9


async def test_the_error_of_the_block_comes_out_as_it_is(progress: Progress) -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="boom"):
        async with display(progress, stream, True):
            raise ValueError("boom")
    assert stream.getvalue().startswith("snapshot  0 files")


async def test_cancelling_the_block_leaves_no_task(progress: Progress) -> None:
    async def work() -> None:
        async with display(progress, io.StringIO(), True):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stopped_terminal_does_not_stop_the_loop(progress: Progress) -> None:
    writing, go_on = threading.Event(), threading.Event()

    class Stopped(io.StringIO):
        def write(self, text: str) -> int:
            writing.set()
            assert go_on.wait(10)
            return super().write(text)

    async with display(progress, Stopped(), True):
        async with asyncio.timeout(5):
            while not writing.is_set():
                await asyncio.sleep(0.01)
        go_on.set()


# -- elsewhere -------------------------------------------------------------------------------------


async def test_elsewhere_it_is_log_lines(
    progress: Progress, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.StringIO()
    caplog.set_level(logging.INFO)
    async with display(progress, stream, False, 0.02):
        progress.expect(2, 20)
        progress.finished("a", 10)
        clock.now += 5
        async with asyncio.timeout(5):
            while not caplog.records:
                await asyncio.sleep(0.01)
        progress.finished("b", 10)
    first, last = caplog.records[0], caplog.records[-1]
    assert (
        first.getMessage()
        == "snapshot, 50%, 1 of 2 files, 10 B of 20 B, 2 B/s, 0 files/s, 0:05 left, 0:05 elapsed"
    )
    assert (last.files, last.bytes, last.files_total, last.failures) == (2, 20, 2, 0)  # type: ignore[attr-defined]
    assert last.name == "filerbackup.progress"
    assert stream.getvalue() == ""


# -- a real terminal -------------------------------------------------------------------------------


@contextmanager
def terminal(columns: int) -> Iterator[tuple[io.TextIOWrapper, list[bytes]]]:
    """A pty: its slave as a stream, and what came out at the other end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    received: list[bytes] = []

    def drain() -> None:
        try:
            while data := os.read(master, 65536):
                received.append(data)
        except OSError:
            return

    reader = threading.Thread(target=drain)
    reader.start()
    stream = open(slave, "w", encoding="utf-8")  # noqa: SIM115
    try:
        yield stream, received
    finally:
        stream.close()
        reader.join(5)
        os.close(master)


async def test_on_a_real_terminal(clock: Clock, progress: Progress) -> None:
    log = logging.Logger("test")
    with terminal(50) as (stream, received):
        assert is_terminal(stream, {"TERM": "xterm"})
        assert terminal_columns(stream) == 50
        handler = LogHandler(stream)
        log.addHandler(handler)
        async with display(progress, stream, is_terminal(stream, {"TERM": "xterm"}), handler=handler):
            progress.expect(3, 3000)
            for number in range(3):
                name = f"dir/{number}-\x1b[31m\n" + "é" * 80
                progress.started(name, 1000)
                progress.advanced(500)
                clock.now += 1
                async with asyncio.timeout(10):
                    while f"dir/{number}".encode() not in b"".join(received):
                        await asyncio.sleep(0.01)
                log.info("half of %d", number)
                progress.finished(name, 1000)
        assert handler.lent is nullcontext
        log.info("afterwards")
    output = b"".join(received).decode()
    assert "\x1b[31m" not in output
    assert "  dir/0-\\x1b[31m\\n…é" in output
    rows = Screen().feed(output.replace("\r\n", "\n")).rows
    assert [row[21:] for row in rows[:3]] == [f"INFO  half of {number}" for number in range(3)]
    assert rows[3] == "100%  3 of 3 files  2.9 KiB of 2.9 KiB  0:00 left"
    assert rows[4].endswith("INFO  afterwards")
    assert rows[5:] == [""]
    assert max(map(len, rows[3:4])) < 50


def test_what_is_no_terminal() -> None:
    assert not is_terminal(io.StringIO(), {"TERM": "xterm"})
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed, {"TERM": "xterm"})
    assert terminal_columns(io.StringIO()) == 80
    with terminal(80) as (stream, _):
        assert not is_terminal(stream, {"TERM": "dumb"})
        assert not is_terminal(stream, {})
