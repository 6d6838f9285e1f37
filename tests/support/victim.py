"""A process that opens a sink, writes one object and waits for ever in the middle of its content.

Settings and key come as JSON on standard input; "here" on standard output says that it waits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from filerbackup.events import Entry, EntryKind
from filerbackup.settings import model
from filerbackup.settings.secret import Secret
from filerbackup.sinks.registry import create_sink


def kill_while_writing(settings: model.SinkSettings, key: str, *, size: int, good: int) -> None:
    """Write `size` bytes to `key` in a process that is killed after it took `good` of them."""
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    task = {
        "kind": type(settings).__name__,
        "fields": {
            name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()
        },
        "secrets": [name for name, value in fields.items() if isinstance(value, Secret)],
        "key": key,
        "size": size,
        "good": good,
    }
    command = [sys.executable, "-m", "tests.support.victim"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            assert process.stdout.readline() == "here\n", "it ended before it was killed"
        finally:
            process.kill()


class _Halted:
    """Content that comes up to a point."""

    md5 = b""
    memory_bytes = 1 << 20

    def __init__(self, size: int, good: int) -> None:
        self.size = size
        self._good = good

    async def read(self) -> bytes:
        return await self._halt()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        for _ in range(0, self._good, self.memory_bytes):
            yield b"x" * self.memory_bytes
        await self._halt()

    async def _halt(self) -> bytes:
        # What is under way may come to rest: the more of it is left behind, the better.
        await asyncio.sleep(0.5)
        print("here", flush=True)
        await asyncio.Event().wait()
        return b""


async def _main() -> None:
    task = json.load(sys.stdin)
    fields = {
        name: Secret(value) if name in task["secrets"] else tuple(value) if isinstance(value, list) else value
        for name, value in task["fields"].items()
    }
    sink = create_sink(getattr(model, task["kind"])(**fields))
    await sink.open()
    entry = Entry(f"/{task['key']}", EntryKind.FILE, size=task["size"])
    await sink.write(task["key"], entry, _Halted(task["size"], task["good"]))


if __name__ == "__main__":
    asyncio.run(_main())
