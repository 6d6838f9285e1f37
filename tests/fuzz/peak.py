"""How much memory something takes at its peak, as the kernel counts it: in Python, in C, in buffers."""

from __future__ import annotations

from pathlib import Path

_RESET_PEAK = "5"


class Peak:
    """Of this process, from now on."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        self._before_kb = _status_kb("VmRSS")

    def grown_mb(self) -> int:
        """By how much it has been larger than at the beginning, at most."""
        return (_status_kb("VmHWM") - self._before_kb) >> 10


def _status_kb(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)
