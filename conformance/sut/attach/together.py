"""The workers of a run that use one mount of a share: the first makes it, the last removes it.

Each worker is a process with its own agent and directories in the guest. They coordinate by two locks in the run's
directory, which are released when a worker is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from pathlib import Path
from typing import IO, Protocol

from guests.host.locks import exclusive
from guests.host.progress import silent


class Users(Protocol):
    """The users of one mount."""

    name: str
    """Of the mount point."""

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """While the block runs, no other worker joins, leaves, mounts or unmounts. Raises InfrastructureError."""

    def join(self) -> None:
        """Become a user of the mount; call it in a turn."""

    def leave(self) -> bool:
        """Stop being a user; call it in a turn. Returns whether there is no other user."""


class Alone(Users):
    """The one user of a mount."""

    def __init__(self, name: str) -> None:
        self.name = name

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def join(self) -> None:
        return

    def leave(self) -> bool:
        return True


class Together(Users):
    """One of several workers of a run."""

    def __init__(self, run_dir: Path) -> None:
        self.name = f"assay9-{hashlib.sha256(str(run_dir.absolute()).encode()).hexdigest()[:8]}"
        self._gate, self._list = run_dir / "mount.gate", run_dir / "mount.users"
        self._user: IO[str] | None = None

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self._gate, "the mount of the share", silent)

    def join(self) -> None:
        if self._user is None:
            self._user = self._list.open("a")
            fcntl.flock(self._user, fcntl.LOCK_SH)

    def leave(self) -> bool:
        user, self._user = self._user, None
        if user is None:
            return False
        with user:
            try:
                fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True
