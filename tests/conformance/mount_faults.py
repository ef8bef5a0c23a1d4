"""The reference device with a fault that appears when a guest mounts it: mount_faults.py FAULT EXPORT SOCKET TAG.

refuse: Tversion gets an error · small: the same for a small msize only · unknown: the dialect is unknown ·
hang: Tversion gets no reply · interrupt: the replies come without an interrupt · length: the used ring gives each reply
a length of 0 · crash: the device aborts at Tversion · once: as `refuse`, but only in the first process that serves this
export
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from protocol.constants import EIO
from protocol.messages import Rversion, Tversion
from reference_server.commands.serve import serve
from reference_server.errors import Refused
from reference_server.handlers import OPERATIONS
from reference_server.session import LATER
from reference_server.virtio.device import Device

SMALL = 65536


def version(fault: str, served: Any) -> Any:
    """The handler of Tversion with that fault."""

    def run(call: Any, request: Tversion) -> Any:
        if fault == "hang":
            return LATER
        if fault == "crash":
            os.abort()
        if fault == "unknown":
            return Rversion(request.tag, request.msize, b"unknown")
        if fault == "refuse" or (fault == "small" and request.msize < SMALL):
            raise Refused(EIO)
        return served(call, request)

    return run


def install(fault: str, export: Path) -> None:
    """Put the fault into the server of this process."""
    if fault == "once":
        seen = export.parent / "served-before"
        fault = "none" if seen.exists() else "refuse"
        seen.touch()
    if fault == "interrupt":
        Device._signal = lambda *_: None  # type: ignore[method-assign]
    if fault == "length":
        finish = Device._finish
        Device._finish = lambda self, answer, written: finish(self, answer, 0)  # type: ignore[method-assign]
    own = OPERATIONS[Tversion.type]
    own.run = version(fault, own.run)


if __name__ == "__main__":
    name, where, socket, tag = sys.argv[1:]
    install(name, Path(where))
    serve([where, "--vhost-user", socket, "--tag", tag])
