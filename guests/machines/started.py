"""One start of a machine: the program that runs the guest, its directories, and their end."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from guests.access.launcher import SocketLineChannel
from guests.access.ssh import SshShell
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.endings import how_ended, last_words, sent_signal
from guests.host.files import remove_tree
from guests.host.ports import start_program
from guests.host.processes import Running, claim, end, reap


class Started(ABC):
    """A running machine. Make one, ``wait_ready``, and ``stop`` it; it cannot be started again."""

    program: ClassVar[str]
    """What runs the guest, for messages."""
    letter: ClassVar[str]
    """The first of its name."""
    argv: list[str]

    def __init__(self, log: Path) -> None:
        """``log`` gets what the program writes. A subclass whose constructor raises must call ``stop`` first."""
        self.name = f"{self.letter}-{secrets.token_hex(4)}"
        self.process: subprocess.Popen[bytes] | None = None
        self._log, self._log_from = log, 0
        self._files = paths.runtime_dir() / self.name
        self._directories: tuple[Path, ...] = ()
        self._state: Running | None = None

    @abstractmethod
    def wait_ready(self, limit: float) -> None:
        """Return when the guest can start programs. Raises InfrastructureError after ``limit`` seconds."""

    def connect(self, limit: float = 30.0) -> SshShell:
        """An SSH connection to the guest. Raises InfrastructureError if it has no network."""
        raise InfrastructureError(
            "this guest has no network for SSH", "use the machine's shell(), which goes over its console"
        )

    def runs(self) -> bool:
        """The program has not ended."""
        return self.process is not None and self.process.poll() is None

    def why_ended(self) -> str:
        """One line: how the program ended, and its last words."""
        return how_ended(self.program, self.process, self._last_words())

    def sent_signal(self, within: float = 0.0) -> str | None:
        """The signal with which another process ended it, or None. Waits up to ``within`` seconds for its end."""
        if self.process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(within)
        return sent_signal(reap(self.process), self._last_words())

    def stop(self) -> None:
        """End the program and remove its directories. Never raises; may be called again."""
        if self.process is not None:
            end(self.process)
        for directory in self._directories:
            remove_tree(directory)
        if self._state is not None:
            with contextlib.suppress(OSError):
                self._state.file.unlink(missing_ok=True)

    def _claim(self, *more: Path, keep: bool = False) -> None:
        """Make its directories; they are removed when it stops or, after a kill, by the next run."""
        self._directories = (self._files, *more)
        self._state = claim(self.name, self._directories, keep)
        for directory in self._directories:
            directory.mkdir(mode=0o700)

    def _spawn(self, argv: list[str], **environment: str) -> None:
        with self._log.open("ab") as log:
            self._log_from = log.tell()  # for each attempt: the output of an earlier one does not count
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        assert self._state is not None
        self._state = self._state.with_process(self.process.pid)
        self._state.write()

    def _last_words(self) -> str:
        return last_words(self._log, self._log_from)


class StartedOnLines(Started):
    """A start of a machine whose resident starts programs on lines of its console."""

    patience: ClassVar[float]
    """Seconds that the guest has to start a program."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The pid on the host of what runs the guest; 0 when it has ended."""

    @abstractmethod
    def _line(self) -> socket.socket:
        """A line that no program uses. Raises InfrastructureError, OSError."""

    def run_python(self, source: bytes) -> SocketLineChannel:
        """Run Python source in the guest; the channel is its standard input and output.

        Under v86 its input and output must be text: the line itself uses bytes of value 1. Raises InfrastructureError.
        """
        with contextlib.ExitStack() as failed:
            try:
                line = failed.enter_context(self._line())
                line.settimeout(self.patience)
                gone = InfrastructureError("the guest has no line free, or ended the program", f"see {self._log}")
                start_program(line, source, gone)
                line.settimeout(None)
            except OSError as error:
                why = f"the guest started no program: {error}" if self.runs() else self.why_ended()
                raise InfrastructureError(why, f"see {self._log}") from error
            failed.pop_all()
        return SocketLineChannel(line)
