"""What the program `soak.inside.watch` measures in the guest: its memory, the latency of the share, 9P messages."""

from __future__ import annotations

from typing import Any

from conformance.vfs.deployment import Deployment
from soak.program import InsideProgram


class InsideMonitor:
    """The newest sample of the program; each is returned once."""

    def __init__(self, deployment: Deployment, roots: list[str], seconds: float, guest: bool = True) -> None:
        # without a guest its memory and load are this host's, and must not be shown as a guest's
        config: dict[str, Any] = {"roots": roots, "seconds": seconds, "guest": guest}
        directory = f"{deployment.control_root}/soak-watch"
        self.program = InsideProgram(deployment.inside, "soak.inside.watch", directory, config)
        self._newest: dict[str, float] = {}
        self._held = False
        self.program.place()
        self.program.start()

    def sample(self) -> dict[str, float]:
        """See Monitor."""
        self._poll()
        newest, self._newest = self._newest, {}
        return newest

    def _poll(self) -> None:
        for event in self.program.poll():
            if event["e"] == "sample":
                self._newest = event["v"]
            else:
                self._held = event["e"] == "held"

    @property
    def held(self) -> bool:
        """It has stopped probing the share, as `hold` requested."""
        self._poll()
        return self._held

    def hold(self) -> None:
        """Stop probing the share until `release`."""
        self._held = False
        self.program.hold()

    def release(self) -> None:
        """Continue to probe the share."""
        self.program.release()
