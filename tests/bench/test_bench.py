"""A benchmark that measures the wrong thing is worse than none."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bench import meter
from tests.bench.cases import ONE_WAY_MS, Case, Load, all_cases
from tests.bench.programs import FilerBackup, Process, Run, Summary, Weed
from tests.bench.proxy import far_away
from tests.bench.report import Result, goals, markdown, table
from tests.bench.source import content, names
from tests.bench.targets import Directory, WrongCopy, check, is_complete

ONE_WAY_S = ONE_WAY_MS / 1000
FAREWELL = b"that was all"
MB = 1_000_000


@pytest.fixture
async def far_echo() -> AsyncIterator[int]:
    """Port of a proxy before a server that sends back what it gets, and a farewell."""
    ended: list[asyncio.Future[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.get_running_loop().create_future())
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write(FAREWELL)
        writer.close()
        await writer.wait_closed()
        ended[-1].set_result(None)

    echo = await asyncio.start_server(answer, "127.0.0.1", 0)
    with far_away(echo.sockets[0].getsockname()[1], ONE_WAY_MS) as proxy:
        yield proxy.port
        await asyncio.wait_for(asyncio.gather(*ended), 10)
    echo.close()
    await echo.wait_closed()


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    assert await reader.read() == FAREWELL
    writer.close()
    await writer.wait_closed()


async def test_a_round_trip_takes_as_long_as_was_asked_for_and_opening_another(far_echo: int) -> None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", far_echo)
    times = []
    for _ in range(10):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        times.append(time.monotonic() - began)
        began = time.monotonic()
    await _leave(reader, writer)
    assert times[0] >= 4 * ONE_WAY_S
    assert min(times[1:]) >= 2 * ONE_WAY_S
    assert min(times[1:]) < 3 * ONE_WAY_S


async def test_many_bytes_are_delayed_but_not_slowed_down_and_arrive_in_order(far_echo: int) -> None:
    data = bytes(range(256)) * (1 << 16)
    reader, writer = await asyncio.open_connection("127.0.0.1", far_echo)
    began = time.monotonic()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    seconds = time.monotonic() - began
    await _leave(reader, writer)
    # One block at a time, and no block during the delay, would take 13 s.
    assert seconds < 5


def test_the_meter_counts_what_the_command_used_and_nothing_else(tmp_path: Path) -> None:
    ballast = bytearray(200 * MB)
    program = "import sys, time; x = bytearray(60_000_000); [0 for _ in range(3_000_000)]; sys.exit(3)"
    process = Process(tmp_path / "run", [sys.executable, "-S", "-c", program], {}, cwd=tmp_path)
    used = process.used()
    assert used["exit_code"] == 3
    assert 60 * MB < used["peak_bytes"] < 100 * MB < len(ballast)
    assert 0.01 < used["cpu_s"] <= 2 * (used["ended"] - used["began"])


def test_the_meter_passes_sigterm_on(tmp_path: Path) -> None:
    program = (
        "import signal as s, sys; s.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); s.pause()"
    )
    process = Process(tmp_path / "run", [sys.executable, "-c", program], {}, cwd=tmp_path)
    while "up" not in process.log:
        assert process.is_running
        time.sleep(0.01)
    process.terminate()
    assert process.used()["exit_code"] == 7


def test_the_meter_imports_little() -> None:
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"exec(open({meter.__file__!r}).read().split('if __name__')[0])",
    ]
    command[-1] += "; import sys, json as j; print(j.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert not {"asyncio", "subprocess", "typing"} & set(loaded)


@pytest.fixture
def load() -> Load:
    return Load("some", 7, 5000)


@pytest.fixture
def copy(load: Load, tmp_path: Path) -> Path:
    """A right copy of the load, with a mark beside it."""
    root = tmp_path / "copy"
    Directory(root)
    (root / ".filerbackup").mkdir()
    (root / ".filerbackup" / "sink.json").write_text("{}")
    for name in names(load):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"".join(content(load, name)))
    return root


class _Seen(Directory):
    """A directory that is there already."""

    def __init__(self, path: Path) -> None:
        self._path = path


def test_a_right_copy_is_right(load: Load, copy: Path) -> None:
    check(_Seen(copy), load)
    assert is_complete(_Seen(copy), load)


@pytest.mark.parametrize("how", ["missing", "more", "short", "other"])
def test_a_wrong_copy_is_found(load: Load, copy: Path, how: str) -> None:
    file = copy / names(load)[3]
    data = file.read_bytes()
    match how:
        case "missing":
            file.unlink()
        case "more":
            (copy / "d000" / "another").write_bytes(b"")
        case "short":
            file.write_bytes(data[:-1])
        case "other":
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(WrongCopy):
        check(_Seen(copy), load)


def _result(case: Case, weed_s: float, own_s: float, peak: int = 100 * MB) -> Result:
    peer = case.peer_load or case.load
    return Result(
        case,
        {
            Weed.name: Summary(peer, [Run(weed_s, 1.0, 50 * MB)] * 3),
            FilerBackup.name: Summary(
                case.load, [Run(seconds, 2.0, peak, 0.5) for seconds in (own_s, own_s / 2, own_s * 9)]
            ),
        },
    )


def test_rates_are_compared_not_times_and_medians_count() -> None:
    s3, far, _, large = all_cases(5000)
    assert _result(s3, weed_s=10, own_s=5).ratio(FilerBackup.name) == pytest.approx(2)
    assert _result(far, weed_s=9, own_s=7.5).ratio(FilerBackup.name) == pytest.approx(20)
    assert _result(large, weed_s=80, own_s=4).rate(FilerBackup.name) == pytest.approx(67.1, abs=0.1)


def test_goals_are_said_to_be_missed_when_they_are() -> None:
    s3 = all_cases(5000)[0]
    reached, peak = goals([_result(s3, weed_s=10.1, own_s=5)])
    assert reached.startswith("reached")
    assert peak.startswith("reached")
    missed, peak = goals([_result(s3, weed_s=9.9, own_s=5, peak=251 * MB)])
    assert missed.startswith("MISSED")
    assert peak.startswith("MISSED")


def test_both_tables_hold_every_number() -> None:
    results = [_result(case, weed_s=10, own_s=5) for case in all_cases(5000)]
    for text in (table(results), markdown(results, 3)):
        assert text.count("weed filer.backup") >= 4
        for cell in ("1,000 files/s", "5.00 (2.50 to 45.00)", "2.00x (goal 2x)", "33.33x (goal 20x)", "100"):
            assert cell in text
