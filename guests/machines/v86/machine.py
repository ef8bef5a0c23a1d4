"""A machine under v86, the counterpart of `guests.machines.qemu.machine.QemuMachine`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host.lines import LineChannel
from guests.host.progress import Progress, silent
from guests.machines.console_machine import PortMachine
from guests.machines.v86 import program as emulator
from guests.machines.v86 import root
from guests.machines.v86.launch import V86Launch
from guests.machines.v86.program import VERSION, ensure_program, require_host
from guests.machines.v86.root import V86Root, ensure_root
from guests.machines.v86.state import cached_state, ensure_state, files_of

TAG = "host9p"
"""The mount tag of v86's one share; it cannot be chosen."""


@dataclass(frozen=True, slots=True)
class V86Spec:
    """One machine."""

    run_dir: Path
    """Logs go here. It must exist or be creatable; it is not removed."""
    server: Path | None = None
    """A 9P server's unix socket that answers for the share; None: v86's own server, which keeps files in memory."""
    memory_mb: int = 512
    """A power of two."""
    launcher: tuple[str, ...] = ()
    """Words before the emulator's own command that end in its execution, such as ``nsenter --mount=... --``."""
    agent: Path | None = None
    """The agent's source; None means our own."""


class V86Machine(PortMachine[V86Launch]):
    """One machine under v86 and the ways into it."""

    accelerator = "v86"
    program = V86Launch.program
    saved = True
    ready_limit = 120.0  # restoring its saved state takes one or two seconds of an idle processor

    def __init__(self, spec: V86Spec, progress: Progress = silent) -> None:
        super().__init__(spec.run_dir, spec.agent, progress)
        self.spec = spec
        self._root: V86Root | None = None
        self.version = VERSION

    @property
    def root(self) -> V86Root:
        """The guest in use. Raises InfrastructureError before the first start."""
        if self._root is None:
            raise InfrastructureError("the guest was never started")
        return self._root

    def _begin(self, rebuild: bool) -> V86Launch:
        require_host()
        libraries, self._root = ensure_program(self._progress), ensure_root(self._progress)
        own, memory = self.spec.server is None, self.spec.memory_mb
        saved = ensure_state(
            libraries,
            self._root,
            memory,
            own_server=own,
            progress=self._progress,
            log=self.logs["console"].with_name("snapshot-console.log"),
            rebuild=rebuild,
        )
        self._mark()
        return V86Launch(
            files_of(saved, libraries, self._root),
            self.logs["console"],
            memory,
            server=self.spec.server,
            own_server=own,
            state=saved / "machine",
            launcher=self.spec.launcher,
        )

    def doubt(self) -> None:
        if self._root is not None:
            own, memory = self.spec.server is None, self.spec.memory_mb
            cached_state(emulator.build(), self._root, memory, own_server=own).doubt()
        emulator.cached().doubt()
        root.cached().doubt()

    @property
    def reached_by(self) -> str:
        return "lines of its console"

    def agent_channel(self) -> LineChannel:
        return self.resident_channel()
