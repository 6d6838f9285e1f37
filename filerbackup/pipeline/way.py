"""What all sessions of one replicator work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from filerbackup.pipeline.apply import Applier, Ends
from filerbackup.pipeline.fence import Fence
from filerbackup.pipeline.filters import Scope
from filerbackup.pipeline.guard import Guard
from filerbackup.pipeline.layout import Layout
from filerbackup.pipeline.limiter import Limiter
from filerbackup.pipeline.planner import Planner
from filerbackup.pipeline.watcher import Watcher
from filerbackup.state.base import Boot, CheckpointStore


@dataclass(frozen=True, slots=True)
class Way:
    """The stages, or how to make those that are a session's own. `holder`: this process.

    `require_cluster` raises when the filer is no longer the one that it was; `boot` tells its runs apart.
    """

    ends: Ends
    checkpoints: CheckpointStore
    scope: Scope
    layout: Layout
    planner: Planner
    watcher: Watcher
    limiter: Callable[[], Limiter]
    guard: Callable[[], Guard]
    applier: Callable[[Limiter, Guard], Applier]
    fence: Fence
    require_cluster: Callable[[], Awaitable[None]]
    generation: Callable[[], int]
    boot: Boot
    holder: str
