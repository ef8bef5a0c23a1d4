"""Target `local`: no hypervisor at all, a directory of this host seen twice.

It judges the suite: a case that does not pass here is wrong. With `through = ...` in tests, a deliberately
broken layer (FUSE, bind mount) stands between inside and outside.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

from conformance.compare import Comparer
from conformance.errors import Undrivable
from conformance.features import FEATURES
from conformance.mounts import MountOptions
from conformance.targets.deployment import Device, Place, Progress
from conformance.targets.scratch import Scratch
from conformance.targets.spec import Target
from guests.agentlink import AgentLink, LocalChannel


class LocalDeployment:
    """Inside and outside are two agents of this host on one directory."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        self.target, self.run_dir = target, run_dir
        self._scratch = Scratch()
        self._base = self._scratch.path
        self.outside_root = str(self._base / "export")
        self.inside_root = str(options.get("inside_root") or self.outside_root)
        self.control_root = str(self._base / "control")
        root = {"host-root", "guest-root", "passthrough-ownership", "mount-namespace"} if os.geteuid() == 0 else set()
        self.features = frozenset(root | set(target.profile.features))
        self.version, self.traced = platform.release(), False
        self.security_model, self.comparer = "", Comparer(target.profile.overrides())
        self._links: list[AgentLink] = []

    def start(self) -> None:
        """See Deployment."""
        for root in (self.outside_root, self.control_root):
            Path(root).mkdir(mode=0o755, exist_ok=True)
        self._connect()

    def _connect(self) -> None:
        # As root both agents live in one mount namespace of their own: what property cases mount there nobody else
        # sees, and it is gone when they are.
        root = os.geteuid() == 0
        channel = LocalChannel(("unshare", "--mount", "--propagation", "slave", "--") if root else ())
        self.outside = AgentLink(channel)
        self.outside.call("getpid")
        entered = ("nsenter", f"--mount=/proc/{channel.pid}/ns/mnt", "--") if root else ()
        self.inside = AgentLink(LocalChannel(entered))
        self.control = self.inside
        self._links = [self.inside, self.outside]

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["four-shares"])

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        raise Undrivable(FEATURES["qemu-machine"])

    def discard(self, place: Place) -> None:
        """See Deployment."""

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
        return {"target_version": f"Linux {platform.release()}", "guest_kernel": platform.release()}

    def mount(self, options: MountOptions) -> str:
        """See Deployment."""
        return f"none {self.inside_root} local (a directory of this host; asked for: {options})"

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        return {}

    def mark(self) -> Any:
        """See Deployment."""
        return None

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        return []

    def trouble(self) -> str | None:
        """See Deployment."""
        return None

    def recover(self) -> None:
        """See Deployment."""
        for link in self._links:
            link.close()
        self._connect()

    def stop(self) -> None:
        """See Deployment."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.close()
        self._links = []
        self._scratch.remove()
