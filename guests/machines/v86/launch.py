"""One start of a machine under v86: its process, its files, programs in its guest."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from guests.access.launcher import SocketLineChannel
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.endings import how_ended, last_words, sent_signal
from guests.host.files import remove_tree
from guests.host.ports import start_program
from guests.host.processes import claim, dying_with_parent, reap
from guests.host.waiting import wait_until
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


class V86Launch:
    """A running machine. Make one, ``wait_ready``, and ``stop`` it; it cannot be started again."""

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

        ``server`` is the socket of the 9P server that answers for the share; with ``own_server`` v86 does itself.
        """
        self.log = log
        self.name = name = f"v-{secrets.token_hex(4)}"
        self.process: subprocess.Popen[bytes] | None = None
        self._files = paths.runtime_dir() / name
        self._state = claim(name, (self._files,), keep=False)
        self._log_from = log.stat().st_size if log.exists() else 0
        try:
            self._files.mkdir(mode=0o700)
            self._lines = self._files / "lines"
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
            self._spawn(launcher)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, limit: float) -> None:
        """Return when the guest waits for programs; InfrastructureError after ``limit`` seconds."""

        def ready() -> bool:
            if not self.runs():
                raise InfrastructureError(self.why_ended(), f"see {self.log}")
            return self._lines.exists()

        wait_until(ready, limit, "the guest under v86 was not ready", f"see {self.log}", _POLL)

    def wait_saved(self, limit: float) -> None:
        """Return when the machine has been saved and has ended; InfrastructureError otherwise."""
        assert self.process is not None
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"v86 saved no machine within {limit:.0f} s", f"see {self.log}") from None
        if status != 0:
            raise InfrastructureError(self.why_ended(), f"see {self.log}")

    def run_python(self, source: bytes, limit: float = 60.0) -> SocketLineChannel:
        """Run Python source in the guest; the channel is its standard input and output.

        What it is sent and what it writes is text: bytes 1 are the line's own. Raises InfrastructureError.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(limit)
            connection.connect(str(self._lines))
            gone = InfrastructureError("the guest has no line free, or ended the program", f"see {self.log}")
            start_program(connection, source, gone)
            connection.settimeout(None)
        except OSError as error:
            connection.close()
            why = self.why_ended() if not self.runs() else f"the guest started no program: {error}"
            raise InfrastructureError(why, f"see {self.log}") from error
        except BaseException:
            connection.close()
            raise
        return SocketLineChannel(connection)

    def runs(self) -> bool:
        """The emulator has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The emulator's pid; 0 when it has ended."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0

    def why_ended(self) -> str:
        """One line: how the emulator ended, and its last words."""
        return how_ended("v86", self.process, last_words(self.log, self._log_from))

    def sent_signal(self) -> str | None:
        """The signal with which another process ended the emulator, or None."""
        if self.process is None:
            return None
        reap(self.process)
        return sent_signal(self.process.poll())

    def stop(self) -> None:
        """End the process and remove its files. Never raises; may be called again."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
        remove_tree(self._files)
        with contextlib.suppress(OSError):
            self._state.file.unlink(missing_ok=True)

    def _spawn(self, launcher: tuple[str, ...]) -> None:
        """One process, that the kernel ends with the thread that starts it: nothing of it can stay."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                dying_with_parent(["prlimit", "--core=0", "--", *launcher, *self.argv]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "NODE_OPTIONS": ""},
            )
        self._state = self._state.with_process(self.process.pid)
        self._state.write()
