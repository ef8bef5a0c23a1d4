"""One start of a machine under v86: its process, its files, programs in its guest."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host.processes import dying_with_parent
from guests.host.waiting import wait_until
from guests.machines.started import StartedOnLines
from guests.machines.v86.program import BIOS
from guests.machines.v86.root import V86Root

MACHINE = Path(__file__).with_name("machine.mjs")
COMMAND_LINE = (
    "console=ttyS0 rdinit=/init quiet panic=-1 tsc=reliable no_timer_check mitigations=off random.trust_cpu=on"
    " cryptomgr.notests nowatchdog rcupdate.rcu_cpu_stall_timeout=120 possible_cpus=1"
)
"""v86 has one processor. Its BIOS reports a second one, whose per-processor memory does not exist: making a tracing
instance would fault on it."""
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Files:
    """What one start uses on the host."""

    program: Path
    """The folder with libv86.mjs."""
    root: V86Root
    initramfs: Path
    control: Path
    """An ext4 that is read and never written: what the guest writes stays in the emulator's memory."""


class V86Launch(StartedOnLines):
    """A running v86."""

    program = "v86"
    letter = "v"
    patience = 60.0

    def __init__(
        self,
        files: Files,
        log: Path,
        memory_mb: int,
        *,
        server: Path | None,
        own_server: bool,
        state: Path | None = None,
        save: Path | None = None,
        launcher: tuple[str, ...] = (),
    ) -> None:
        """Start it. When this raises InfrastructureError, no process and no file is left.

        ``server`` is the socket of the 9P server for the share; with ``own_server`` v86 serves it itself.
        """
        super().__init__(log)
        self._lines = self._files / "lines"
        try:
            self._claim()
            config = self._files / "config.json"
            config.write_text(
                json.dumps(
                    {
                        "v86": str(files.program),
                        "bios": str(BIOS),
                        "kernel": str(files.root.kernel),
                        "initramfs": str(files.initramfs),
                        "root": str(files.root.root),
                        "control": str(files.control),
                        "cmdline": COMMAND_LINE,
                        "memory_mb": memory_mb,
                        "lines": str(self._lines),
                        "server": None if own_server else str(server or ""),
                        "state": None if state is None else str(state),
                        "save": None if save is None else str(save),
                    }
                ),
                encoding="utf-8",
            )
            self.argv = ["node", str(MACHINE), str(config)]
            # The kernel ends it together with the thread that starts it, so nothing can stay behind.
            argv = ["prlimit", "--core=0", "--", *launcher, *self.argv]
            self._spawn(dying_with_parent(argv), NODE_OPTIONS="")
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, limit: float) -> None:
        def ready() -> bool:
            if not self.runs():
                raise InfrastructureError(self.why_ended(), f"see {self._log}")
            return self._lines.exists()

        wait_until(ready, limit, "the guest under v86 was not ready", f"see {self._log}", _POLL)

    def wait_saved(self, limit: float) -> None:
        """Return when the machine has been saved and has ended. Raises InfrastructureError otherwise."""
        assert self.process is not None
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"v86 saved no machine within {limit:.0f} s", f"see {self._log}") from None
        if status != 0:
            raise InfrastructureError(self.why_ended(), f"see {self._log}")

    def _line(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(self.patience)
            line.connect(str(self._lines))
        except BaseException:
            line.close()
            raise
        return line

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None and self.process.poll() is None else 0
