"""Machines that a run uses: this one, or another over SSH. Both start agents and run commands in the same way."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from guests.access.destination import Destination
from guests.access.shell import Result, Shell
from guests.agent.clock import GuestClock
from guests.agent.local_channel import LocalChannel
from guests.agent.packing import agent_source
from guests.agent.shell_channel import ShellChannel
from guests.errors import InfrastructureError
from guests.host.lines import LineChannel

if TYPE_CHECKING:
    from guests.access.ssh import SshShell

PYTHONS = ("python3", "/usr/local/bin/python3", *(f"python3.{minor}" for minor in range(14, 7, -1)))
"""Where an interpreter is looked for, the first that is there is taken: FreeBSD's packages have no plain `python3`."""

COMMAND = 300.0
"""Seconds that a command may take unless its caller says otherwise. The limit ends the wait for a machine that hangs;
an emulated one may need a minute for a command of a second."""

_TAKE = """\
import os
left, parts = {size}, []
while left:
    part = os.read(0, left)
    if not part: raise SystemExit("the agent did not arrive")
    left -= len(part)
    parts.append(part)
exec(compile(b"".join(parts), "agent", "exec"))
"""
"""Takes a program from standard input and becomes it: nothing is left on the machine's disk."""


class Host(Protocol):
    """A machine that a run uses."""

    where: str
    """How messages name it."""
    local: bool
    """Whether it is the machine on which the suite runs."""

    @property
    def alive(self) -> bool:
        """The connection is up, as far as this side knows."""

    def run(self, argv: Sequence[str] | str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        """See ``guests.access.shell.Shell``."""

    def python(self, program: str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        """Run a program's text by the machine's Python. Raises InfrastructureError if it has none."""

    def start_agent(self) -> LineChannel:
        """Start an agent there; the channel is its standard input and output. Raises InfrastructureError."""

    def start_program(self, source: Path) -> LineChannel:
        """The same with another Python program of one file; nothing is left on the disk there."""

    def close(self) -> None:
        """Close the connection; never raises."""


class LocalHost(Host):
    """This machine, as the user who runs the suite."""

    where = "this host"
    local = True
    alive = True

    def run(self, argv: Sequence[str] | str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        words = ["/bin/sh", "-c", argv] if isinstance(argv, str) else list(argv)
        try:
            program = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            return Result(127, "", f"{words[0]}: {error.strerror}")
        with program:
            try:
                out, err = program.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"{shlex.join(words)[:80]} ran into its time limit") from None
            finally:
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
        # as in a shell and SSH: a killed program ends with 128 + the signal's number
        status = program.returncode if program.returncode >= 0 else 128 - program.returncode
        return Result(status, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape"))

    def python(self, program: str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        return self.run([sys.executable, "-I", "-c", program], timeout, stdin)

    def start_agent(self) -> LineChannel:
        return LocalChannel()

    def start_program(self, source: Path) -> LineChannel:
        return LocalChannel(source=source)

    def close(self) -> None:
        """See Host."""


class SshHost(Host):
    """Another machine, over one SSH connection: commands and agents are channels of it."""

    local = False

    def __init__(self, shell: SshShell) -> None:
        self._shell = shell
        self.where = shell.where
        self._python: str | None = None

    @property
    def alive(self) -> bool:
        return self._shell.alive

    def run(self, argv: Sequence[str] | str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        """See Host. A command line is for /bin/sh, whatever the user's shell is there."""
        words = ["/bin/sh", "-c", argv] if isinstance(argv, str) else argv
        return self._shell.run(words, timeout, stdin)

    def python(self, program: str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        interpreter = self._interpreter()
        if not interpreter:
            raise InfrastructureError(f"{self.where} has no Python", "install Python 3.8 or later there")
        return self.run([interpreter, "-E", "-s", "-c", program], timeout, stdin)

    def start_agent(self) -> LineChannel:
        """See Host. Without Python, shell commands do what they can."""
        interpreter = self._interpreter()
        return agent_over(self._shell, interpreter) if interpreter else ShellChannel(self._shell)

    def start_program(self, source: Path) -> LineChannel:
        return agent_over(self._shell, self._interpreter() or "python3", source)

    def _interpreter(self) -> str:
        """The Python there; empty if there is none."""
        if self._python is None:
            found = self.run(f"for p in {' '.join(PYTHONS)}; do command -v $p && exit; done; exit 1")
            self._python = found.stdout.strip() if found.ok else ""
        return self._python

    def close(self) -> None:
        self._shell.close()


def agent_over(shell: Shell, python: str = "python3", source: Path | None = None) -> LineChannel:
    """Start an agent on the machine of ``shell``; the channel is its standard input and output.

    ``source``: a program instead of our own agent.
    """
    program = source.read_bytes() if source else agent_source()
    take = base64.b64encode(_TAKE.format(size=len(program)).encode()).decode()  # one line, for any shell
    channel = shell.open_channel([python, "-u", "-c", f"import base64;exec(base64.b64decode('{take}'))"])
    channel.send(program)
    return channel


def reach(destination: Destination | None, config: Path | None = None) -> Host:
    """That machine over SSH, or this one for None. Raises like ``guests.access.connection.connect``."""
    if destination is None:
        return LocalHost()
    from guests.access.connection import connect  # noqa: PLC0415 - 100 ms of paramiko, as in hosts that need none

    return SshHost(connect(destination, config))


def uptime(host: Host) -> GuestClock:
    """The monotonic clock of a Linux machine, read by a command: without an agent, and it cannot be set."""

    def clocks(_: int) -> tuple[int, int]:
        said = host.run(["cat", "/proc/uptime"])
        if not said.ok:
            raise InfrastructureError(f"{host.where}: /proc/uptime cannot be read: {said.stderr.strip()}")
        return 0, round(float(said.stdout.split()[0]) * 1e9)

    return GuestClock(clocks, resolution=0.01)
