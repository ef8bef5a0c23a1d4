"""A terminal on the guest's serial console, for people."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from guests.errors import InfrastructureError

ESCAPE = b"\x1d"
"""Ctrl-], as in telnet and virsh: leaves the console."""


def attach(console: Path) -> None:
    """Connect this terminal to the console socket until Ctrl-] or the end of the machine.

    If standard input is no terminal, its lines are sent and the output is printed until the console has been silent for
    two seconds.
    """
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(console))
    except OSError as error:
        line.close()
        raise InfrastructureError(f"console {console}: {error.strerror}", "is the machine running?") from error
    with line:
        if not sys.stdin.isatty():
            _relay(line, silence=2.0)
            return
        before = termios.tcgetattr(0)
        tty.setraw(0)
        try:
            line.sendall(b"\r")
            _relay(line, silence=None)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _relay(line: socket.socket, silence: float | None) -> None:
    sources: list[socket.socket | int] = [line, 0]
    while True:
        ready, _, _ = select.select(sources, [], [], None if 0 in sources else silence)
        if not ready:
            return
        if line in ready:
            data = line.recv(65536)
            if not data:
                return
            os.write(1, data)
        if 0 in ready:
            typed = os.read(0, 4096)
            if ESCAPE in typed:
                return
            if not typed:
                sources.remove(0)
            else:
                line.sendall(typed.replace(b"\n", b"\r"))
