"""The servers of one guest: a process for each share, each of the one program that the target's table names."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from conformance.ground import GroundLost
from conformance.sut.parts.linux_guest import TAGS
from conformance.sut.parts.process import ServerProcess
from conformance.sut.parts.serving import Serving
from conformance.sut.servers.programs import DiodServer, GaneshaServer, P9ufsServer, ReferenceServer, Started
from conformance.sut.servers.tables import StartedTable
from conformance.sut.tcp.relay import Relay
from conformance.sut.tcp.tables import TcpDiodTable, TcpGaneshaTable, TcpP9ufsTable, TcpReferenceTable
from guests.host.endings import OutOfMemory
from guests.host.progress import Progress

HOST = "10.0.2.2"
"""This host as a guest of QEMU's user network sees it; what the guest sends there arrives on 127.0.0.1."""

_PROGRAMS: dict[type[StartedTable], type[Started[Any]]] = {
    TcpReferenceTable: ReferenceServer,
    TcpDiodTable: DiodServer,
    TcpGaneshaTable: GaneshaServer,
    TcpP9ufsTable: P9ufsServer,
}


class TcpServers(Serving):
    """They run in the run's mount namespace, and see what is mounted there below an export."""

    def __init__(self, table: StartedTable, base: Path, exports: Sequence[Path], progress: Progress) -> None:
        program = _PROGRAMS[type(table)]
        self._programs = [
            program(table, base / f"server-{tag}", progress, path) for tag, path in zip(TAGS, exports, strict=True)
        ]
        self.own_file_system = program.own_file_system
        """Each export must be a file system of its own."""
        self.version = self._programs[0].version()
        self.title = f"{program.name} {self.version}"
        self._relays: list[Relay] = []
        self._running = False

    @property
    def argv(self) -> list[str]:
        """See Serving: that of the first share's."""
        return self._programs[0].argv()

    def start(self, launcher: tuple[str, ...]) -> None:
        self.remove()
        self._running = True
        for program in self._programs:
            program.run_dir.mkdir(exist_ok=True)
            program.launcher = launcher
            program.start()
            if program.own_network:
                self._relays.append(Relay(partial(program.inside_network, partial(_connected, program.port))))
        self.version = self._programs[0].version()  # a fetched program has one only now
        self.title = f"{self._programs[0].name} {self.version}"

    def pause(self, number: int) -> None:
        self._process(number).pause()

    def kill(self, number: int) -> None:
        self._process(number).kill()

    def _process(self, number: int) -> ServerProcess:
        process = self._programs[number].process
        assert process is not None
        return process

    def restart(self, number: int) -> None:
        self._programs[number].start()

    def source(self, number: int) -> tuple[str, str]:
        program = self._programs[number]
        port = self._relays[number].port if self._relays else program.port
        aname = f",aname={os.fsdecode(program.aname)}" if program.aname else ""
        return HOST, f"trans=tcp,port={port}{aname}"

    def processes(self) -> dict[str, int]:
        pid = self._programs[0].pid() if self._running else None
        return {"device": pid} if pid is not None else {}

    def death(self) -> str | None:
        return next((death for program in self._programs if (death := program.death()) is not None), None)

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        return next((lost for program in self._programs if (lost := program.ground_lost(memory)) is not None), None)

    def mark(self) -> int:
        """See Serving: a place in the log of the first share's."""
        return self._programs[0].log_size()

    def excerpts(self, mark: int) -> list[tuple[str, str]]:
        said = self._programs[0].log(mark).strip()
        return [("server log", said)] if said else []

    def remove(self) -> None:
        self._running = False
        while self._relays:
            self._relays.pop().close()
        for program in self._programs:
            with contextlib.suppress(OSError):
                program.stop()


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))
