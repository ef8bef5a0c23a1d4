"""Our end of a line to a guest whose resident starts Python programs (on the console of User-Mode Linux or v86).

The resident takes a JSON line with the sizes of a program and of its compiled code, then both; it answers "ok\\n" and
the line is the program's standard input and output from then on.
"""

from __future__ import annotations

import functools
import json
import marshal
import socket
from importlib.util import MAGIC_NUMBER

from guests.errors import InfrastructureError

_OK = len(b"ok\n")


def start_program(connection: socket.socket, source: bytes, gone: InfrastructureError) -> None:
    """Run Python source at the other end. Raises ``gone`` if that hangs up, OSError like the socket."""
    code = _compiled(source)
    head = {"source_size": len(source), "code_size": len(code), "magic": MAGIC_NUMBER.hex()}
    connection.sendall(json.dumps(head).encode() + b"\n" + source + code)
    left = _OK
    while left:
        part = connection.recv(left)
        if not part:
            raise gone
        left -= len(part)


@functools.cache
def _compiled(source: bytes) -> bytes:
    """A program compiled for the guest: compiling the agent there takes half a second, and seconds under v86."""
    return marshal.dumps(compile(source, "/root/agent.py", "exec"))
