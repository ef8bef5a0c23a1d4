"""A machine under v86, in the role that `guests.machine.QemuMachine` has for QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guests.console import ConsoleWatch
from guests.errors import InfrastructureError
from guests.machine import AGENT
from guests.processes import clean_left_over
from guests.progress import Progress, silent
from guests.resident import SocketLineChannel
from guests.shell import LineChannel, Shell
from guests.uml.shell import PortShell
from guests.v86.launch import V86Launch
from guests.v86.program import VERSION, ensure_program, require_host
from guests.v86.root import V86Root, ensure_root
from guests.v86.state import ensure_state, files_of

TAG = "host9p"
"""The mount tag of v86's one share; it cannot be chosen."""
READY_LIMIT = 120.0
"""Seconds that a restored guest has to answer; it takes one or two of a processor of its own."""


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
    """The agent's source; None means ``guests/agent.py``."""


class V86Machine:
    """One machine and the roads into it.

    Not for several threads at once, and ``start`` belongs in a thread that lives as long as the machine: the kernel
    of the host ends the emulator when the thread that started it ends.
    """

    accelerator = "v86"

    def __init__(self, spec: V86Spec, progress: Progress = silent) -> None:
        self.spec = spec
        self._progress = progress
        self._launch: V86Launch | None = None
        self._root: V86Root | None = None
        self.logs = {"console": spec.run_dir.absolute() / "console.log"}
        self.console = ConsoleWatch(self.logs["console"])
        self._begun = 0
        self.version = VERSION

    def start(self) -> None:
        """Start the machine from its saved state; fetch, build, boot and save it first where that is absent.

        Returns when it takes programs. Raises InfrastructureError when any of it fails; nothing is left then.
        """
        if self._launch is not None:
            raise InfrastructureError("this machine is already started", "stop it first, or restore it")
        require_host()
        for line in clean_left_over():
            self._progress(line)
        self.logs["console"].parent.mkdir(parents=True, exist_ok=True)
        program, self._root = ensure_program(self._progress), ensure_root(self._progress)
        own, memory = self.spec.server is None, self.spec.memory_mb
        saved = ensure_state(program, self._root, memory, own_server=own, progress=self._progress)
        self._begun = self.console.mark()
        self._launch = V86Launch(
            files_of(saved, program, self._root), self.logs["console"], memory, server=self.spec.server,
            own_server=own, state=saved / "machine", launcher=self.spec.launcher,
        )  # fmt: skip
        try:
            self._launch.wait_ready(READY_LIMIT)
        except BaseException:
            self.stop()
            raise

    def restore(self) -> None:
        """A fresh guest, whatever became of the present one. The log goes on."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the machine and remove what it used, except the log. May be called at any time, repeatedly."""
        if self._launch is not None:
            self._launch.stop()
            self._launch = None

    def __enter__(self) -> V86Machine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def name(self) -> str:
        """What ``assay9 guest list`` calls this start of the machine."""
        return self._started().name

    @property
    def pid(self) -> int:
        """The emulator's pid; 0 when it is not started or has ended."""
        return 0 if self._launch is None else self._launch.pid

    @property
    def argv(self) -> list[str]:
        """The emulator's command line, for the record."""
        return self._started().argv

    @property
    def root(self) -> V86Root:
        """The guest in use. Raises InfrastructureError before the first start."""
        if self._root is None:
            raise InfrastructureError("the guest was never started")
        return self._root

    def alive(self) -> bool:
        """The emulator runs and the kernel in it has not said that it panicked."""
        return self._launch is not None and self._launch.runs() and not self.panicked()

    def panicked(self) -> bool:
        """The kernel's log of this start has a panic."""
        return any(event.kind == "panic" for event in self.console.since(self._begun))

    def why_dead(self) -> str:
        """One line: what is known about a machine that is not alive."""
        if self._launch is None:
            return "the machine is not started"
        return "the guest's kernel panicked" if self.panicked() else self._launch.why_ended()

    def shell(self) -> Shell:
        """Commands in the guest, each over a line of its own while it runs."""
        launch = self._started()
        return PortShell(lambda source: SocketLineChannel(launch.run_python(source)), self.alive)

    def agent_channel(self) -> LineChannel:
        """Start an agent in the guest and return its standard input and output."""
        source = self.spec.agent or AGENT
        if not source.is_file():
            raise InfrastructureError(f"no agent at {source}", "name one with V86Spec.agent")
        return SocketLineChannel(self._started().run_python(source.read_bytes()))

    def _started(self) -> V86Launch:
        if self._launch is None:
            raise InfrastructureError("the machine is not started", "start it first")
        return self._launch
