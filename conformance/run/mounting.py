"""The outcome of cases whose share cannot be mounted.

A device that refuses or hangs a mount that it must serve has one defect: after a second attempt on a fresh machine it
is the finding of one case, and every other case that needs the mount is undrivable. Pure: the runner does the mounting.
"""

from __future__ import annotations

from collections.abc import Collection

from conformance.case import Case
from conformance.errors import Finding, Undrivable
from conformance.vfs.deployment import MountFailed
from conformance.vfs.mount_options import MountOptions

MOUNTABLE = "MOUNTABLE-001"
"""The case that judges whether the share can be mounted."""


class Unmountable:
    """The mounts of one worker that failed twice, and the case to which each is charged."""

    def __init__(self) -> None:
        self.judged: Collection[MountOptions] = ()
        """Mounts that `MOUNTABLE` judges in this run, in whichever worker."""
        self._why: dict[MountOptions, MountFailed] = {}
        self._charged: dict[MountOptions, str] = {}

    def failed(self, mount: MountOptions, error: MountFailed) -> None:
        """Remember that it failed on a fresh machine, too."""
        self._why[mount] = error

    def known(self, mount: MountOptions) -> bool:
        """Whether it is known to fail."""
        return mount in self._why

    def outcome(self, case: Case, mount: MountOptions) -> Finding | Undrivable:
        """The outcome of a case that needs a mount which is known to fail.

        It is a finding of `MOUNTABLE`; if that case does not run with this mount, of the first case that needs the
        mount.
        """
        error = self._why[mount]
        if case.id == MOUNTABLE or (mount not in self.judged and mount not in self._charged):
            self._charged.setdefault(mount, case.id)
            text = f"the share cannot be mounted with {error.options}, nor on a fresh guest: {error.why}"
            return Finding(text, "mount", {"options": error.options, "seen": error.why})
        judge = MOUNTABLE if mount in self.judged else self._charged[mount]
        return Undrivable(f"the share cannot be mounted with {error.options}, which is the finding of {judge}")
