"""The base of all machines (QEMU, User-Mode Linux, v86): start, console, stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, Self, TypeVar

from guests.access.ssh import SshShell
from guests.errors import InfrastructureError
from guests.host.endings import OutOfMemory, interference
from guests.host.lines import LineChannel
from guests.host.processes import stopped
from guests.machines.console import ConsoleWatch
from guests.machines.started import Started

S = TypeVar("S", bound=Started)


class AnyMachine(ABC, Generic[S]):
    """A machine and the ways into it.

    Not thread-safe. Call ``start`` in a thread that lives as long as the machine: the kernel of the host ends the guest
    when the thread that started it ends.
    """

    console: ConsoleWatch
    logs: dict[str, Path]
    """What a start of it writes on the host, by name; `console` is the guest's."""
    program: str
    """What runs the guest, for messages: `Started.program`."""
    _launch: S | None = None
    _ssh: SshShell | None = None
    _begun = 0
    """Where the console's log of this start begins."""

    @abstractmethod
    def start(self) -> None:
        """Start the guest and return when it answers. Raises InfrastructureError; nothing is left then."""

    def runs(self) -> bool:
        """The program that runs the guest has not ended. Cheap; does not check the guest."""
        return self._launch is not None and self._launch.runs()

    @abstractmethod
    def alive(self) -> bool:
        """It runs, and the guest's kernel has not panicked as far as is known."""

    @abstractmethod
    def why_dead(self) -> str:
        """One line: what is known about a machine that is not alive."""

    @property
    @abstractmethod
    def reached_by(self) -> str:
        """How the agent in the guest is reached, for the record: SSH, the launcher, a console."""

    @abstractmethod
    def agent_channel(self) -> LineChannel:
        """Start an agent in the guest and return its standard input and output."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The pid on the host of what runs the guest; 0 when it is not started or has ended."""

    def ground_lost(self, memory: OutOfMemory) -> InfrastructureError | None:
        """A failure under the machine since its start that neither its guest nor a device caused.

        That is: another process ended or stopped it, or one of its own disks failed. None if neither is seen.
        """
        sent = None if self._launch is None else self._launch.sent_signal()
        if sent is not None:
            return InfrastructureError(*interference(self.program, sent, memory))
        if self.pid and (why := stopped(self.program, self.pid)) is not None:
            return InfrastructureError(*why)
        if (seen := self.console.traced_lost(self._begun)) is not None:
            return InfrastructureError(
                f"another process ended or stopped a process of {self.program} ({seen})",
                "find the sender (see the kernel's log for out of memory), then run again",
            )
        if (failure := self.console.own_disk_failure(self._begun)) is not None:
            return InfrastructureError(
                f"the guest's own disk failed ({failure}): its behaviour says nothing about the share",
                "the image in the cache, or the disk under it, is damaged or full: assay9 doctor --verify",
            )
        return None

    @abstractmethod
    def doubt(self) -> None:
        """Before the next start, check every byte of the files that it starts from."""

    def restore(self) -> None:
        """Replace the guest by a fresh one. The logs continue."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the machine and remove what it used, except the logs. May be called at any time, repeatedly."""
        self._hang_up()
        if self._launch is not None:
            self._launch.stop()
            self._launch = None

    def ssh(self) -> SshShell:
        """The SSH connection of this start, made on first use and again after it was lost.

        Raises InfrastructureError if the guest has no network.
        """
        if self._ssh is not None and not self._ssh.alive:
            self._hang_up()
        if self._ssh is None:
            self._ssh = self._started().connect()
        return self._ssh

    def _hang_up(self) -> None:
        if self._ssh is not None:
            self._ssh.close()
            self._ssh = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def name(self) -> str:
        """What ``assay9 guest list`` calls this start of the machine."""
        return self._started().name

    @property
    def argv(self) -> list[str]:
        """The command line of what runs the guest, for the record."""
        return self._started().argv

    def _mark(self) -> None:
        """Remember the current end of the console's log as the beginning of this start."""
        self._begun = self.console.mark()

    def _started(self) -> S:
        if self._launch is None:
            raise InfrastructureError("the machine is not started", "start it first")
        return self._launch
