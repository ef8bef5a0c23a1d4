"""A small client of QEMU's machine protocol (QMP): commands, and the events in between."""

from __future__ import annotations

import json
import socket
import struct
import time
from itertools import count
from pathlib import Path
from typing import Any

from guests.errors import InfrastructureError

_ANSWER = 60.0
"""Seconds for the reply to a command. It takes a millisecond, or seconds on a busy machine: a QEMU that
is slow must not be taken for one that hangs."""

_UCRED = struct.Struct("iII")
"""struct ucred: process, user, group."""


class Qmp:
    """One connection. Not thread-safe.

    No thread reads events in the background: they wait in the socket, even those that QEMU sent just before it ended,
    and ``execute`` and ``events`` read them.
    """

    def __init__(self, path: Path, limit: float = 10.0) -> None:
        """Connect to the socket at ``path``, which must be there, and negotiate; ``limit`` in seconds."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(limit)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._numbers = count(1)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise InfrastructureError(f"QEMU's control socket {path}: {error.strerror}") from error
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.process: int = _UCRED.unpack(credentials)[0]
        """The id of the process that listens: QEMU's own, whatever script has started it. Source: unix(7)."""
        deadline = time.monotonic() + limit
        while "QMP" not in self._receive(deadline):
            pass
        self.execute("qmp_capabilities", limit=limit)

    def execute(self, command: str, limit: float = _ANSWER, **arguments: Any) -> Any:
        """Run a QMP command; returns its value. Raises InfrastructureError with QEMU's message if it fails."""
        number = next(self._numbers)
        request: dict[str, Any] = {"execute": command, "id": number}
        if arguments:
            request["arguments"] = arguments
        try:
            self._socket.settimeout(limit)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise InfrastructureError(f"QEMU is gone: {command} could not be sent ({error})") from error
        deadline = time.monotonic() + limit
        while True:
            message = self._receive(deadline)
            if message.get("id") != number:
                continue  # an event, or the late reply to an abandoned command
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise InfrastructureError(f"QEMU refused {command}: {message['error'].get('desc')}")

    def human(self, line: str, limit: float = 60.0) -> str:
        """Run a monitor command (HMP) such as ``savevm NAME``; raises InfrastructureError on ``Error:``."""
        said = str(self.execute("human-monitor-command", limit=limit, **{"command-line": line}))
        if said.startswith("Error"):
            raise InfrastructureError(f"QEMU refused {line}: {said.strip()}")
        return said

    def events(self) -> list[dict[str, Any]]:
        """All events seen so far, oldest first (``event``, ``data``, ``timestamp``)."""
        try:
            while True:
                self._receive(time.monotonic())
        except (InfrastructureError, TimeoutError):
            pass
        return list(self._events)

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._socket.close()

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message. Events are kept as they pass."""
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise InfrastructureError("QEMU's control socket does not answer") from error
            except OSError as error:
                raise InfrastructureError(f"QEMU is gone ({error})") from error
            if not data:
                raise InfrastructureError("QEMU is gone: it closed its control socket")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self._events.append(message)
        return message
