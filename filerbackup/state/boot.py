"""Which run of the filer this is: told by a lock that nothing but its memory keeps.

A filer that is killed loses up to a minute of its log while the entries stay, and says nothing of it
afterwards. Its signature and its configuration outlive a restart, and the generations of its locks
begin anew at 1 and soon reach any number again.
"""

from __future__ import annotations

import secrets

from filerbackup.errors import FilerBackupError, StateError
from filerbackup.filer.client import FilerClient
from filerbackup.filer.stubs import filer_pb2 as pb

BOOT_LOCK = "filerbackup/v1/boot"
_FOR_EVER_S = 10 * 365 * 86_400
"""Once it has run out, a filer that has run for so long is taken for one that was restarted."""


class FilerBoot:
    """Satisfies `filerbackup.state.base.Boot`.

    With several filers it is the run of the one that keeps this lock.
    """

    def __init__(self, client: FilerClient) -> None:
        self._client = client
        self.name = ""

    async def ask(self) -> str:
        """The name of the filer's run; the first who asks gives it one. Raises StateError."""
        own = secrets.token_hex(8)
        request = pb.LockRequest(name=BOOT_LOCK, seconds_to_lock=_FOR_EVER_S, owner=own)
        try:
            answer = await self._client.call(lambda stub: stub.DistributedLock, request)
        except FilerBackupError as error:
            raise StateError(
                f"cannot find out whether the filer was restarted: {error}", hint=error.hint
            ) from None
        if not answer.error:
            self.name = own
        elif "already owned" in answer.error and answer.lock_owner:
            self.name = answer.lock_owner
        else:
            raise StateError(f"cannot find out whether the filer was restarted: {answer.error[:300]}")
        return self.name
