"""Free ports for real servers."""

from __future__ import annotations

import random
import socket

_HTTP_RANGE = (12_000, 21_000)
"""Below the kernel's ephemeral range, also after weed's +10000 for gRPC."""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port_pairs(count: int) -> list[int]:
    """Ports `p` such that both `p` and `p + 10000` (weed's gRPC port) are free."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_HTTP_RANGE)
        if port not in found and _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return found


def free_port() -> int:
    """One free port."""
    return free_port_pairs(1)[0]
