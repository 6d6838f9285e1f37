"""The peer: `weed filer.backup` with the same replication.toml."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import wait_until
from tests.support.weed import WeedServer, weed_binary

CHECKPOINT_EVERY_S = 3.0
"""weed stores its offset with the first event that comes this long after the last store."""


def run_weed_backup(weed: WeedServer, config: Path, folder: str, *, until: Callable[[], bool]) -> None:
    """Run it until a condition holds and it has stored its checkpoint."""
    command = [
        weed_binary(), f"-config_dir={config.parent}", "filer.backup",
        f"-filer={weed.filer}", f"-filerPath={folder}",
    ]  # fmt: skip
    log_path = config.parent / "weed-backup.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=config.parent)
        try:
            wait_until(until, within_s=60, what=lambda: log_path.read_text()[-2000:])
            time.sleep(CHECKPOINT_EVERY_S + 0.5)
            weed.put(f"{folder}/tick", b"an event for the checkpoint")
            wait_until(lambda: "progressed to" in log_path.read_text(), within_s=30)
        finally:
            process.terminate()
            process.wait(60)
