"""The console of a virtual machine: logged for as long as the machine runs, with a dialogue by pexpect.

A command and a console server are programs with their own terminal; a socket and a terminal server are sockets; a
serial device is a file.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pexpect
from pexpect import fdpexpect

from conformance.errors import InfrastructureError
from conformance.sut.hypervisor.tables import ConsoleTable, command_of, filled
from guests.access.destination import Destination

_SLICE = 1.0


class Console:
    """One console. The caller's thread holds the dialogue; then a separate thread continues to read."""

    def __init__(
        self,
        table: ConsoleTable,
        values: dict[str, str],
        log: Path,
        host: Destination | None = None,
        ssh_config: Path | None = None,
    ) -> None:
        """`host` is where a command runs, None for this host; `ssh_config` replaces the user's configuration."""
        self._table, self._values, self._log, self._host = table, values, log, host
        self._ssh = ["-tt", *(["-F", str(ssh_config)] if ssh_config is not None else [])]
        self._child: Any = None
        self._reader: threading.Thread | None = None
        self._ends = threading.Event()

    def open(self) -> None:
        """Begin to read. Raises InfrastructureError if there is no console."""
        self.close()
        self._ends.clear()
        output = self._log.open("ab", buffering=0)
        try:
            self._child = self._spawn()
        except (OSError, pexpect.ExceptionPexpect) as error:
            output.close()
            raise InfrastructureError(f"the guest's console cannot be opened: {error}", "see [console]") from None
        self._child.logfile_read = output

    def hold_dialogue(self) -> None:
        """Wait for the text that each step expects, and send its reply; then read on. Raises InfrastructureError."""
        for number, step in enumerate(self._table.steps, 1):
            try:
                self._child.expect(step.expect.encode(), timeout=self._table.step_seconds)
                self._child.sendline(step.send.encode())
            except pexpect.TIMEOUT:
                raise InfrastructureError(
                    f"console.steps, entry {number}: {step.expect!r} was not read within "
                    f"{self._table.step_seconds:.0f} s",
                    f"see {self._log}",
                ) from None
            except (pexpect.EOF, OSError) as error:
                raise InfrastructureError(
                    f"console.steps, entry {number}: the console ended ({type(error).__name__})", f"see {self._log}"
                ) from None
        self._reader = threading.Thread(target=self._read_on, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._ends.set()
        child, self._child = self._child, None
        if self._reader is not None:
            self._reader.join(10 * _SLICE)
            self._reader = None
        if child is not None:
            with contextlib.suppress(Exception):  # the console is gone already
                child.close()
            child.logfile_read.close()

    def _read_on(self) -> None:
        child = self._child
        while not self._ends.is_set():
            try:
                child.expect([pexpect.TIMEOUT], timeout=_SLICE)
                child.buffer = b""
            except (pexpect.EOF, OSError, ValueError):
                return

    def _spawn(self) -> Any:
        table = self._table
        if table.socket:
            found = socket.socket(socket.AF_UNIX)
            found.connect(filled(table.socket, self._values))
            return fdpexpect.fdspawn(found.detach())  # SocketSpawn logs nothing
        if table.telnet:
            host, _, number = filled(table.telnet, self._values).rpartition(":")
            return fdpexpect.fdspawn(socket.create_connection((host, int(number)), 20.0).detach())
        if table.serial:
            device = os.open(filled(table.serial, self._values), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            return fdpexpect.fdspawn(device)
        if table.ssh:
            return pexpect.spawn("ssh", [*self._ssh, filled(table.ssh, self._values)])
        command = command_of(table.command, self._values)
        if self._host is None:
            return pexpect.spawn("/bin/sh", ["-c", command])
        port = ["-p", str(self._host.port)] if self._host.port is not None else []
        user = ["-l", self._host.user] if self._host.user else []
        return pexpect.spawn("ssh", [*self._ssh, *port, *user, self._host.host, "--", command])
