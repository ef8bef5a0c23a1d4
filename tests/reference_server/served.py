"""A server process for one test, with few descriptors if wanted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.reference_server.test_stream import Wire


class Served:
    """A server process."""

    def __init__(self, process: subprocess.Popen[bytes], path: str, log: Path) -> None:
        self.process, self.path, self._log = process, path, log
        self._wires: list[Wire] = []

    def connect(self) -> Wire:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        self._wires.append(Wire(sock))
        return self._wires[-1]

    def try_to_connect(self) -> bool:
        """Whether the server accepts a peer."""
        try:
            self.connect().begin()
        except (EOFError, ConnectionError):
            return False
        return True

    def log(self) -> list[str]:
        return self._log.read_text().splitlines()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close(self) -> None:
        for wire in self._wires:
            wire.sock.close()


def limited(limit: int, handles: bool = True) -> list[str]:
    """Prefix of a command that limits it to ``limit`` descriptors.  Without ``handles`` it opens no files by handle."""
    if os.geteuid() != 0:
        return ["prlimit", f"--nofile={limit}:{limit}"]
    # Root would raise its own limit.
    without = "-sys_resource" if handles else "-sys_resource,-dac_read_search"
    return ["prlimit", f"--nofile={limit}:{limit}", "setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]


@contextmanager
def serving(folder: Path, limit: int, *options: str, handles: bool = True) -> Iterator[Served]:
    """Serve ``folder`` with at most ``limit`` descriptors."""
    path, log = str(folder.parent / "s"), folder.parent / "log"
    command = [sys.executable, "-m", "reference_server", "serve", str(folder), "--unix", path, *options]
    whole = [*limited(limit, handles), *command]
    with log.open("wb") as file, subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=file) as process:
        assert process.stdout is not None
        assert b"listening on" in process.stdout.readline(), log.read_text()
        served = Served(process, path, log)
        try:
            yield served
        finally:
            served.close()
            process.terminate()
            assert process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
