"""TCP connections on which a peer that is gone is noticed, by the kernel, within a minute.

A peer whose machine or whose network has vanished says nothing. Without these options the kernel asks
after two hours, and repeats what is not confirmed for a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import socket

import aiohttp

IDLE_S = 15
"""Of silence, before the kernel asks whether the peer is still there."""
ASK_EVERY_S = 10
ASK_TIMES = 3
UNCONFIRMED_S = 45
"""What was sent and is not confirmed for so long, or cannot be sent at all, ends the connection."""
UNSENT_BYTES = 128 << 10
"""More waits in the program and not in the kernel, so that progress that is seen is progress."""

_OPTIONS = (
    ("TCP_KEEPIDLE", IDLE_S),
    ("TCP_KEEPINTVL", ASK_EVERY_S),
    ("TCP_KEEPCNT", ASK_TIMES),
    ("TCP_USER_TIMEOUT", UNCONFIRMED_S * 1000),
    ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
)


def new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for aiohttp's connector (`socket_factory`)."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    _make_watchful(made)
    return made


def watch(transport: asyncio.BaseTransport) -> None:
    """The same for a connection that is open already."""
    found = transport.get_extra_info("socket")
    if found is not None:
        _make_watchful(found)


def _make_watchful(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        # Not every system has all of them.
        option: int | None = getattr(socket, name, None)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
