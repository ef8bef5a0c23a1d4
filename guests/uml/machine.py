"""A User-Mode Linux machine, in the role that `guests.machine.QemuMachine` has for QEMU."""

from __future__ import annotations

from pathlib import Path

from guests.console import ConsoleWatch
from guests.errors import InfrastructureError
from guests.images.store import Image, ensure_image
from guests.machine import AGENT, AGENT_IN_GUEST, Road
from guests.processes import clean_left_over
from guests.progress import Progress, silent
from guests.resident import SocketLineChannel
from guests.shell import LineChannel, Shell
from guests.ssh import SshShell
from guests.uml.kernel import UmlKernel, ensure_kernel
from guests.uml.launch import UmlLaunch
from guests.uml.shell import PortShell
from guests.uml.spec import Device, UmlSpec

__all__ = ["Device", "UmlMachine", "UmlSpec"]

READY_LIMIT = 60.0
"""Seconds that a guest has to answer; it takes about one."""


class UmlMachine:
    """One User-Mode Linux kernel and the roads into it.

    Not for several threads at once, and ``start`` belongs in a thread that lives as long as the machine: the kernel
    of the host ends the guest when the thread that started it ends.
    """

    accelerator = "uml"

    def __init__(self, spec: UmlSpec, progress: Progress = silent) -> None:
        self.spec = spec
        self._progress = progress
        self._launch: UmlLaunch | None = None
        self._kernel: UmlKernel | None = None
        self._image: Image | None = None
        self._ssh: SshShell | None = None
        self.logs = {"console": spec.run_dir.absolute() / "console.log"}
        self.console = ConsoleWatch(self.logs["console"])
        self._begun = 0

    @property
    def image(self) -> Image:
        """The image that its root is made from. Raises InfrastructureError before the first start."""
        if self._image is None:
            raise InfrastructureError("the guest was never started")
        return self._image

    def start(self) -> None:
        """Start the guest; build its kernel and image first where they are absent.

        Returns when it takes programs. Raises InfrastructureError when any of it fails; nothing is left then.
        """
        if self._launch is not None:
            raise InfrastructureError("this machine is already started", "stop it first, or restore it")
        for line in clean_left_over():
            self._progress(line)
        self.logs["console"].parent.mkdir(parents=True, exist_ok=True)
        self._kernel = self._kernel or ensure_kernel(self._progress)
        self._image = self._image or ensure_image(self.spec.image, self.spec.extra_packages, self._progress)
        self._begun = self.console.mark()
        self._launch = UmlLaunch(self.spec, self._kernel, self._image, self.logs["console"])
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
        if self._ssh is not None:
            self._ssh.close()
            self._ssh = None
        if self._launch is not None:
            self._launch.stop()
            self._launch = None

    def __enter__(self) -> UmlMachine:
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
        """The guest kernel's pid on the host; 0 when it is not started or has ended."""
        return 0 if self._launch is None else self._launch.pid

    @property
    def argv(self) -> list[str]:
        """The kernel's command line, for the record."""
        return self._started().argv

    @property
    def kernel(self) -> UmlKernel:
        """The kernel in use, once started."""
        if self._kernel is None:
            raise InfrastructureError("the machine is not started")
        return self._kernel

    def alive(self) -> bool:
        """The kernel runs and has not said that it panicked."""
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
        """Commands in the guest over its console: the road that there is without root, too."""
        launch = self._started()
        return PortShell(lambda source: SocketLineChannel(launch.run_python(source)), self.alive)

    def ssh(self) -> SshShell:
        """The SSH connection of this start, made on first use. Raises InfrastructureError where there is no network."""
        if self._ssh is not None and not self._ssh.alive:
            self._ssh.close()
            self._ssh = None
        if self._ssh is None:
            self._ssh = self._started().connect()
        return self._ssh

    def agent_channel(self, road: Road = "resident") -> LineChannel:
        """Start an agent in the guest and return its standard input and output: over the console, or over SSH."""
        source = self.spec.agent or AGENT
        if not source.is_file():
            raise InfrastructureError(f"no agent at {source}", "name one with UmlSpec.agent")
        if road == "resident":
            return SocketLineChannel(self._started().run_python(source.read_bytes()))
        self.ssh().push(Path(source), AGENT_IN_GUEST)
        return self.ssh().open_channel(["python3", "-u", AGENT_IN_GUEST])

    def _started(self) -> UmlLaunch:
        if self._launch is None:
            raise InfrastructureError("the machine is not started", "start it first")
        return self._launch
