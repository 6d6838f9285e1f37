"""What was measured, as a table for the terminal and for Markdown."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.cases import MB, MOST_MEMORY_BYTES, Case
from tests.bench.programs import FilerBackup, Summary, Weed
from tests.support.weed import weed_binary

HEADER = ("case", "program", "files", "seconds", "rate", "CPU s", "peak MB", "ratio to weed")
_LEFT = 2
"""Columns of words; the others hold numbers."""


@dataclass(frozen=True, slots=True)
class Result:
    """All programs on one case, by name, in the order in which they ran."""

    case: Case
    summaries: Mapping[str, Summary]

    def rate(self, program: str) -> float:
        """Median rate in the case's unit."""
        summary = self.summaries[program]
        return self.case.rate(summary.load, summary.seconds)

    def ratio(self, program: str) -> float | None:
        """To weed's rate; None where weed was not measured."""
        return self.rate(program) / self.rate(Weed.name) if Weed.name in self.summaries else None


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """The cells, without the header."""
    found = []
    for result in results:
        title = result.case.title
        for program, summary in result.summaries.items():
            times = [run.seconds for run in summary.runs]
            found.append(
                (
                    title,
                    program,
                    f"{summary.load.count:,}",
                    f"{summary.seconds:.2f} ({min(times):.2f} to {max(times):.2f})",
                    f"{_number(result.rate(program))} {result.case.unit}",
                    f"{summary.cpu_s:.2f}",
                    f"{summary.peak_bytes / MB:.0f}",
                    _ratio(result, program),
                )
            )
            title = ""
    return found


def _ratio(result: Result, program: str) -> str:
    ratio = result.ratio(program)
    if ratio is None or program == Weed.name:
        return ""
    return _ratio_text(ratio) + (f" (goal {result.case.goal:g}x)" if program == FilerBackup.name else "")


def _ratio_text(ratio: float) -> str:
    """Never rounded up: 19.96 does not reach 20."""
    return f"{math.floor(ratio * 100) / 100:.2f}x"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(results: Sequence[Result]) -> str:
    """For a terminal."""
    lines = [HEADER, *rows(results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(results: Sequence[Result], rounds: int) -> str:
    """The same as a Markdown table, with the machine."""
    rule = ["---" if column < _LEFT else "---:" for column in range(len(HEADER))]
    lines = [HEADER, rule, *rows(results)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\nMedians of {rounds} rounds. {machine()}\n" + "".join(
        f"\n{note}\n" for note in notes(results)
    )


def notes(results: Sequence[Result]) -> list[str]:
    """What the table has no column for."""
    found = []
    starts = [text for result in results if (text := _start_up(result))]
    if starts:
        found.append("filerbackup's start-up, which its seconds include: " + "; ".join(starts) + ".")
    fewer = [
        f"{result.case.name}: {result.case.peer_load.count:,}" for result in results if result.case.peer_load
    ]
    if fewer:
        found.append(
            f"weed gets fewer files where all would take minutes ({', '.join(fewer)}): compare rates."
        )
    return found


def _start_up(result: Result) -> str:
    case, summary = result.case, result.summaries.get(FilerBackup.name)
    if summary is None or summary.starting_s is None:
        return ""
    rate = case.rate(summary.load, summary.seconds - summary.starting_s)
    return f"{case.name}: {summary.starting_s:.2f} s, then {_number(rate)} {case.unit}"


def goals(results: Sequence[Result]) -> list[str]:
    """One line for each goal."""
    found = []
    for result in results:
        ratio = result.ratio(FilerBackup.name) if FilerBackup.name in result.summaries else None
        if ratio is not None:
            found.append(
                f"{_verdict(ratio >= result.case.goal)}  {result.case.title}: {_ratio_text(ratio)} weed, "
                f"goal {result.case.goal:g}x"
            )
    peaks = [
        result.summaries[FilerBackup.name].peak_bytes
        for result in results
        if FilerBackup.name in result.summaries
    ]
    if peaks:
        found.append(
            f"{_verdict(max(peaks) < MOST_MEMORY_BYTES)}  peak memory in any case: {max(peaks) / MB:.0f} MB, "
            f"goal under {MOST_MEMORY_BYTES // MB} MB"
        )
    return found


def _verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "MISSED "


def machine() -> str:
    """Where it was measured."""
    version = subprocess.run([weed_binary(), "version"], capture_output=True, text=True, check=True).stdout
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) * 1024
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory / 2**30:.0f} GiB of memory, "
        f"Linux {platform.release()}, Python {platform.python_version()}, "
        f"weed {version.split()[2]}; source, target and the measured program share the machine."
    )


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
