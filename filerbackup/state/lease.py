"""The lease of a pair: the filer's distributed lock."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable

from filerbackup.errors import FilerBackupError, LeaseLost, StateError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb

LEASE_S = 15
"""How long a holder that has died keeps others waiting, at most."""
STOP_BEFORE_S = 3.0
"""A holder that could not renew stops writing this long before the filer would give the lease away."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> float:
    """Seconds; goes on while the machine sleeps, because the filer's clock does. For any thread."""
    return time.clock_gettime(_CLOCK)


def owner_name() -> str:
    """Who we are, for a person who asks: host, process, and a part that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class FilerLease:
    """Satisfies `filerbackup.state.base.Lease`.

    The lock lives in a filer's memory: one that restarts has forgotten it.
    """

    def __init__(self, client: FilerClient, name: str, owner: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._name = name
        self._owner = owner
        self._clock = clock
        self._token = ""
        self._generation = 0
        self._good_until = 0.0
        self._restarts = 0

    @property
    def generation(self) -> int:
        """Of the current holding; grows with each new holder while the filer lives."""
        return self._generation

    @property
    def restarts(self) -> int:
        """How often the filer had forgotten it."""
        return self._restarts

    @property
    def lasts_s(self) -> float:
        """How long it lasts after a renewal."""
        return LEASE_S

    @property
    def left_s(self) -> float:
        """How long writing is still safe without another renewal."""
        return self._good_until - self._clock()

    async def acquire(self) -> str | None:
        """Try once; None when it is ours, else the holder's name. Raises StateError."""
        answer = await self._lock("")
        if answer.error:
            if "already owned" in answer.error:
                return answer.lock_owner or "another process"
            raise StateError(f"cannot take the lease: {answer.error[:300]}")
        return None

    async def renew(self) -> None:
        """Extend it. Raises LeaseLost, or StateError when the filer is silent."""
        answer = await self._lock(self._token)
        if not answer.error:
            return
        if "non-empty token" in answer.error:
            holder = await self.acquire()
            if holder is None:
                self._restarts += 1
                return
            raise LeaseLost(f"the lease is held by {holder}")
        if "token mismatch" in answer.error or "already owned" in answer.error:
            raise LeaseLost(f"the lease is held by {answer.lock_owner or 'another process'}")
        raise StateError(f"cannot renew the lease: {answer.error[:300]}")

    async def release(self) -> None:
        """Give it up. Never raises: it runs out by itself."""
        token, self._token, self._good_until = self._token, "", 0.0
        if not token:
            return
        request = pb.UnlockRequest(name=self._name, renew_token=token)
        try:
            await self._client.call(lambda stub: stub.DistributedUnlock, request)
        except FilerBackupError:
            return

    async def holder(self) -> str | None:
        """Who holds it now, or None."""
        try:
            answer = await self._client.call(
                lambda stub: stub.FindLockOwner, pb.FindLockOwnerRequest(name=self._name)
            )
        except FilerBackupError as error:
            if "not found" in str(error):
                return None
            raise StateError(f"cannot ask for the lease's holder: {error}") from None
        return answer.owner or None

    async def _lock(self, token: str) -> pb.LockResponse:
        began = self._clock()
        request = pb.LockRequest(
            name=self._name, seconds_to_lock=LEASE_S, renew_token=token, owner=self._owner
        )
        try:
            answer = await self._client.call(lambda stub: stub.DistributedLock, request)
        except FilerBackupError as error:
            raise StateError(f"cannot reach the lease: {error}", hint=error.hint) from None
        if not answer.error:
            self._token = answer.renew_token
            self._generation = answer.generation
            self._good_until = began + LEASE_S - STOP_BEFORE_S
        return answer
