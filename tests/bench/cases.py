"""What is measured, and what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000
SMALL_BYTES = 4096
LARGE_BYTES = 256 << 20
ONE_WAY_MS = 12.5
MOST_MEMORY_BYTES = 250 * MB


@dataclass(frozen=True, slots=True)
class Load:
    """Files in one folder of the source: `count` of `size` bytes each."""

    folder: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Case:
    """One way to copy. `goal`: how many times the rate of weed it should have.

    `peer_load` is a smaller load for weed, where all of it would take minutes; rates are compared.
    """

    name: str
    title: str
    sink: str
    load: Load
    goal: float
    one_way_ms: float = 0.0
    peer_load: Load | None = None

    @property
    def unit(self) -> str:
        """Of the rate: many files are counted, a single one is weighed."""
        return "files/s" if self.load.count > 1 else "MB/s"

    def rate(self, load: Load, seconds: float) -> float:
        """In `unit`."""
        done = load.count if self.load.count > 1 else load.count * load.size / MB
        return done / seconds


def all_cases(files: int) -> list[Case]:
    """The four of them, with so many small files."""
    small = Load("small", files, SMALL_BYTES)
    few = Load("few", min(files, 300), SMALL_BYTES)
    large = Load("large", 1, LARGE_BYTES)
    many = f"{files:,} files of 4 KiB"
    return [
        Case("s3", f"{many} to S3, loopback", "s3", small, goal=2),
        Case(
            "s3-far",
            f"{many} to S3, {2 * ONE_WAY_MS:g} ms round trip",
            "s3",
            small,
            goal=20,
            one_way_ms=ONE_WAY_MS,
            peer_load=few,
        ),
        Case("local", f"{many} to a local disk", "local", small, goal=1.5),
        Case("large", "one file of 256 MiB to S3, loopback", "s3", large, goal=20),
    ]
