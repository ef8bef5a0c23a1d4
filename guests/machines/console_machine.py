"""The base of machines whose guest is reached over lines of its console: User-Mode Linux and v86."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TypeVar

from guests.access.console_shell import PortShell
from guests.access.shell import Shell
from guests.agent.clock import PROGRAM, WrongClock, check_and_set
from guests.agent.packing import agent_file
from guests.errors import InfrastructureError
from guests.host.lines import LineChannel
from guests.host.processes import clean_left_over
from guests.host.progress import Progress
from guests.machines.base import AnyMachine
from guests.machines.console import ConsoleWatch
from guests.machines.started import StartedOnLines

L = TypeVar("L", bound=StartedOnLines)


class PortMachine(AnyMachine[L]):
    """A machine whose resident starts programs on lines of its console."""

    accelerator: str
    ready_limit: float
    """Seconds that a guest has to answer."""
    saved = False
    """Whether it is restored from a saved machine, which may have to be made again."""

    def __init__(self, run_dir: Path, agent: Path | None, progress: Progress) -> None:
        """``run_dir``: where its log goes; ``agent``: the agent's source, None for our own."""
        self._progress = progress
        self.agent = agent or agent_file()
        self.logs = {"console": run_dir.absolute() / "console.log"}
        self.console = ConsoleWatch(self.logs["console"])

    @abstractmethod
    def _begin(self, rebuild: bool) -> L:
        """Fetch and build what is absent, ``_mark`` the log, and launch. Raises InfrastructureError.

        ``rebuild``: boot and save the machine again, if it is restored from a saved one.
        """

    def start(self) -> None:
        """Start the guest; first fetch and build what is missing."""
        if self._launch is not None:
            raise InfrastructureError("this machine is already started", "stop it first, or restore it")
        for line in clean_left_over():
            self._progress(line)
        self.logs["console"].parent.mkdir(parents=True, exist_ok=True)
        try:
            self._start_once(rebuild=False)
        except WrongClock as error:
            if not self.saved:
                raise
            self._progress(f"the saved machine cannot be used ({error.message}): making it again")
            self._start_once(rebuild=True)

    def _start_once(self, rebuild: bool) -> None:
        self._launch = self._begin(rebuild)
        try:
            self._launch.wait_ready(self.ready_limit)
            check_and_set(self._launch.run_python(PROGRAM))
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return 0 if self._launch is None else self._launch.pid

    def alive(self) -> bool:
        return self.runs() and not self.panicked()

    def panicked(self) -> bool:
        """The kernel's log of this start has a panic."""
        return any(event.kind == "panic" for event in self.console.since(self._begun))

    def why_dead(self) -> str:
        if self._launch is None:
            return "the machine is not started"
        return "the guest's kernel panicked" if self.panicked() else self._launch.why_ended()

    def shell(self) -> Shell:
        """Commands in the guest, each over its own line while it runs. Needs no root."""
        return PortShell(self._started().run_python, self.alive)

    def resident_channel(self) -> LineChannel:
        """Start an agent in the guest over a line and return its standard input and output."""
        if not self.agent.is_file():
            raise InfrastructureError(f"no agent at {self.agent}", "name another in the machine's specification")
        return self._started().run_python(self.agent.read_bytes())
