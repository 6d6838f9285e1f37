"""How far clocks differ; nanoseconds."""

from __future__ import annotations

CLOCKS_DIFFER_NS = 10_000_000_000
"""Of the filer's or a volume server's clock and ours, at most."""
PEERS_DIFFER_NS = 60_000_000_000
"""Filers order their peers' events by their own arrival, and may have an entry so much later than they."""
