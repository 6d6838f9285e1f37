"""Run one command and write down what it used. A script of its own: `python -I -S meter.py FILE COMMAND…`.

The kernel counts the memory of the process that forks towards the peak of what it starts. So the one
that starts what is measured has to be small: it imports nothing that it can do without.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main(report: str, command: list[str]) -> int:
    """Start, pass SIGTERM on, wait.

    `began` and `ended` are of the monotonic clock, which all processes share; `began_at` is Unix time.
    """
    began, began_at = time.monotonic(), time.time()
    pid = os.fork()
    if pid == 0:
        os.execvp(command[0], command)
    signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(pid, number))
    _, status, used = os.wait4(pid, 0)
    ended = time.monotonic()
    found = {
        "began": began,
        "began_at": began_at,
        "ended": ended,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    with open(report + ".part", "w") as file:
        json.dump(found, file)
    os.rename(report + ".part", report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
