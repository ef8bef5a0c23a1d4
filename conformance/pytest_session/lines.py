"""Lines of a worker for the reporter of the controlling process."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.files import remove_tree

_LONGEST = 2000
"""Bytes of a worker's line."""


class Messages:
    """Lines of workers, received by a thread of the controlling process."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._socket: socket.socket | None = None
        self._directory: Path | None = None
        self.address = ""
        """What a worker needs to `send`; empty where there is no way, and it writes to standard error."""
        with contextlib.suppress(OSError, InfrastructureError):
            self._directory = Path(tempfile.mkdtemp(prefix="p-", dir=paths.runtime_dir()))
            receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            receiving.bind(str(self._directory / "s"))
            receiving.settimeout(0.5)
            self._socket, self.address = receiving, str(self._directory / "s")
            threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while (receiving := self._socket) is not None:
            try:
                line = receiving.recv(_LONGEST)
            except TimeoutError:
                continue
            except OSError:
                return
            self._say(line.decode(errors="replace"))

    def close(self) -> None:
        """Stop receiving; a second call does nothing."""
        receiving, self._socket = self._socket, None
        if receiving is not None:
            receiving.close()
        if self._directory is not None:
            remove_tree(self._directory)


def send(address: str, line: str) -> bool:
    """Send a worker's line to the controlling process; returns whether that took it. Never waits."""
    if not address:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.setblocking(False)
        sending.sendto(line.encode(errors="replace")[:_LONGEST], address)
        return True
    return False
