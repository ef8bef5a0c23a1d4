"""What the program `soak.inside.watch` sees in the guest: its memory, the latency of the share, 9P messages."""

from __future__ import annotations

from typing import Any

from conformance.vfs.deployment import Deployment
from soak.program import InsideProgram


class InsideMonitor:
    """The newest that the program said; a sample of it is given once."""

    def __init__(self, deployment: Deployment, roots: list[str], seconds: float, guest: bool = True) -> None:
        # without a guest its memory and load are this host's, and must not be shown as a guest's
        config: dict[str, Any] = {"roots": roots, "seconds": seconds, "guest": guest}
        directory = f"{deployment.control_root}/soak-watch"
        self._program = InsideProgram(deployment.inside, "soak.inside.watch", directory, config)
        self._newest: dict[str, float] = {}
        self._held = False
        self._program.place()
        self._program.start()

    def sample(self) -> dict[str, float]:
        """See Monitor."""
        self._poll()
        newest, self._newest = self._newest, {}
        return newest

    def _poll(self) -> None:
        for event in self._program.poll():
            if event["e"] == "sample":
                self._newest = event["v"]
            else:
                self._held = event["e"] == "held"

    @property
    def held(self) -> bool:
        """It keeps off the share, as `hold` asked."""
        self._poll()
        return self._held

    def hold(self) -> None:
        """Keep off the share until `release`."""
        self._held = False
        self._program.hold()

    def release(self) -> None:
        """Go on probing the share."""
        self._program.release()

    def running(self) -> bool:
        """Whether the program lives."""
        return self._program.running()

    def last_words(self) -> str:
        """What it wrote to standard error."""
        return self._program.last_words()

    def forget(self) -> None:
        """The agent closed what it had open."""
        self._program.forget()

    def kill(self) -> None:
        """End it."""
        self._program.kill()
