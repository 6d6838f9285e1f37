"""gRPC channels to filers, in plain text or with TLS as `security.toml` says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import grpc
import grpc.aio

from filerbackup.errors import UsageError
from filerbackup.filer.tls import GRPC, tls_context
from filerbackup.settings.model import ClientTls

USUAL_MESSAGE_BYTES = 8 << 20
"""A message is in memory some ten times, in the end: as bytes, as a message, and as entries with chunks."""
LARGEST_MESSAGE_BYTES = 1 << 30
"""What a filer sends at most: up to 256 events in one, each with two entries of 10,000 chunks."""
KEEPALIVE_EVERY_MS = 25_000
"""A filer takes a ping every 20 s and refuses (`too_many_pings`) what comes more often."""
KEEPALIVE_TIMEOUT_MS = 20_000
_LET_END_S = 3600.0
"""What still runs on a connection that is not used for anything new may take so long to end."""


class _Material(NamedTuple):
    """The contents of the three files."""

    ca: bytes
    key: bytes
    cert: bytes


class Channels:
    """Opens channels, and closes all of them. Raises UsageError for TLS files that cannot be used.

    gRPC reads a certificate once for each channel; `renew` sees that the files have changed.
    """

    def __init__(self, tls: ClientTls | None) -> None:
        self._tls = tls
        self._material = _read(tls) if tls else None
        self.most_bytes = USUAL_MESSAGE_BYTES
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._ending: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def open(self, address: str) -> grpc.aio.Channel:
        """A channel to `host:port`."""
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", self.most_bytes),
            ("grpc.keepalive_time_ms", KEEPALIVE_EVERY_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # What waits for the answer to a ping is not the keepalive but this, a minute by default.
            ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # The stream of changes sends nothing for hours.
            ("grpc.http2.max_pings_without_data", 0),
            # Else a new channel would get the connection of the old one.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 3_000),
            # Proxies of the environment are for the internet; a filer is ours.
            ("grpc.enable_http_proxy", 0),
        ]
        if self._tls is None or self._material is None:
            channel = grpc.aio.insecure_channel(address, options=options)
        else:
            if self._tls.server_name:
                options.append(("grpc.ssl_target_name_override", self._tls.server_name))
            credentials = grpc.ssl_channel_credentials(*self._material)
            channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.retire(address)
        self._channels[address] = channel
        return channel

    def retire(self, address: str) -> None:
        """Nothing new goes over the channel to this address; what runs on it may end by itself."""
        channel = self._channels.pop(address, None)
        if channel is not None:
            task = asyncio.create_task(channel.close(_LET_END_S), name="retired channel")
            self._ending[task] = channel
            task.add_done_callback(lambda done: self._ending.pop(done, None))

    async def renew(self) -> bool:
        """Whether there is a usable new certificate, authority or key for the channels opened from now on."""
        if self._tls is None:
            return False
        try:
            fresh = await asyncio.to_thread(_read, self._tls)
        except UsageError:
            # Half exchanged, or out of date: what was good at the start is still as good as it was.
            return False
        changed, self._material = fresh != self._material, fresh
        return changed

    async def close(self) -> None:
        """Close all channels."""
        ending = dict(self._ending)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for channel in [*ending.values(), *self._channels.values()]:
            await channel.close()
        self._channels.clear()


def _read(tls: ClientTls) -> _Material:
    """The contents of files that can be used together: gRPC itself would only fail at every call."""
    tls_context(tls, GRPC)
    try:
        return _Material(*(Path(file).read_bytes() for file in (tls.ca, tls.key, tls.cert)))
    except OSError as error:
        raise UsageError(f"cannot read TLS file {error.filename}: {error.strerror}") from None
