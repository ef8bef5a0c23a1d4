"""Directories for exports: readable by every user, and removed afterwards, even after kill -9.

They are in /var/tmp, which supports extended attributes and is not a small tmpfs; not below the results, whose parents
may be closed to the test users.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from conformance.ground import GroundLost
from guests.host import paths
from guests.host.file_systems import mount_new
from guests.host.files import remove_tree
from guests.host.processes import claim


class Scratch:
    """One directory with a claim on it: the next run removes it if this one is killed."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="assay9-", dir=paths.scratch_dir()))
        self.path.chmod(0o755)
        self._backing = self.path.with_name(f"{self.path.name}-backing")
        self._claim = claim(f"scratch-{secrets.token_hex(6)}", (self.path, self._backing), keep=False)

    def lie_on(self, kind: str) -> None:
        """Put the directory, which is still empty, on a new file system of that kind (`guests.host.file_systems`).

        The file system is removed with the directory. Raises InfrastructureError.
        """
        self._backing.mkdir(mode=0o700)
        try:
            mount_new(kind, self.path, self._backing)
        except BaseException:
            self.remove()
            raise

    def lost(self) -> GroundLost | None:
        """The error when another process has removed the directory, or None."""
        if self.path.is_dir():
            return None
        return GroundLost(f"the scratch directory {self.path} was removed while it was in use", "leave it alone")

    def remove(self) -> None:
        """Remove it; a second call does nothing."""
        remove_tree(self.path)
        remove_tree(self._backing)
        self._claim.file.unlink(missing_ok=True)

    def leave(self) -> None:
        """Give up the claim: the directory stays, and belongs to the user."""
        self._claim.file.unlink(missing_ok=True)
