"""`make run`: a real SeaweedFS in a scratch directory, replicated, changed, replicated live, compared."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.support.configs import general, local_sink
from tests.support.daemon import Daemon, daemon, wait_until
from tests.support.load import ODD_NAMES, put_many
from tests.support.trees import DIRECTORY, Tree, difference, filer_tree, local_tree
from tests.support.weed import WeedServer, running_weed, scratch_directory

FILES = 2000
FOLDER = "/projects"


def say(text: str) -> None:
    """One line to whoever watches."""
    print(text, flush=True)


def fill(weed: WeedServer, rng: random.Random) -> None:
    """Many small files, odd names, one empty and one large file."""
    sizes = (0, 10, 1_000, 4_096, 20_000, 100_000)
    put_many(
        weed,
        (
            (f"{FOLDER}/team{i % 9}/week{i % 23}/file{i}.bin", rng.randbytes(rng.choice(sizes)))
            for i in range(FILES)
        ),
    )
    put_many(weed, ((f"{FOLDER}/odd names/{name}", name.encode()) for name in ODD_NAMES))
    weed.put(f"{FOLDER}/large.bin", rng.randbytes(64 << 20))


def change(weed: WeedServer, rng: random.Random) -> None:
    """Overwrite, create, rename a tree, delete a tree."""
    put_many(weed, ((f"{FOLDER}/team1/new{i}.bin", rng.randbytes(3_000)) for i in range(200)))
    put_many(weed, ((f"{FOLDER}/team2/week2/file{i}.bin", b"overwritten") for i in range(0, 200, 2)))
    weed.rename(f"{FOLDER}/team3", f"{FOLDER}/renamed team")
    weed.delete(f"{FOLDER}/team4", recursive=True)


def catch_up(process: Daemon) -> None:
    """`filerbackup catchup` on this terminal, with its progress display."""
    command = [sys.executable, "-m", "filerbackup", "catchup", "--config", str(process.config)]
    subprocess.run(command, check=True)


def summary(tree: Tree) -> str:
    """How much there is."""
    files = [item for item in tree.values() if item != DIRECTORY]
    return f"{len(files)} files, {len(tree) - len(files)} directories, {sum(f.size for f in files):,} bytes"


def main() -> int:
    """Returns 0 when both sides are equal."""
    scratch = scratch_directory("run")
    copy = scratch / "copy"
    rng = random.Random(1)
    say(f"scratch directory: {scratch}")
    say("starting SeaweedFS ...")
    with running_weed(scratch / "seaweedfs") as weed:
        say(f"  filer http://{weed.filer}/ with everything in {weed.directory}")
        say(f"writing about {FILES} files to {FOLDER} ...")
        fill(weed, rng)
        config = general(weed, FOLDER) + local_sink(copy)
        with daemon(scratch / "filerbackup", config) as process:
            say(f"first copy: filerbackup catchup --config {process.config}")
            catch_up(process)
            say("following: filerbackup run, while files are written, renamed and deleted ...")
            process.start()
            wait_until(lambda: "following" in _state(process), what=lambda: process.log)
            change(weed, rng)
            changed_at = time.monotonic()
            wait_until(
                lambda: not difference(filer_tree(weed, FOLDER), local_tree(copy)),
                what=lambda: difference(filer_tree(weed, FOLDER), local_tree(copy)),
            )
            say(f"  the copy was equal within {time.monotonic() - changed_at:.1f} s of the last change")
            process.stop()
        source = filer_tree(weed, FOLDER)
        unlike = difference(source, local_tree(copy))
    say(f"compared by content: {unlike or 'equal'}: {summary(source)}")
    say(f"the copy is in {copy}, the daemon's log in {process.log_path}; remove {scratch} when you are done")
    return 1 if unlike else 0


def _state(process: Daemon) -> str:
    return str(process.status()[0]["state"])


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    sys.exit(main())
