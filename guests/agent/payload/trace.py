"""Tracing of 9P messages in the guest's kernel."""

from __future__ import annotations

import os
import threading
from typing import Any

from guests.agent.payload.declare import op
from guests.agent.payload.state import KEPT

TRACE = "/sys/kernel/tracing/instances/assay9"


TRACE_FDS: dict[str, int] = {}


@op()
def trace_begin() -> bool:
    """Start recording the guest's 9p tracepoints in an instance of our own; False where there are none."""
    if not os.path.isdir("/sys/kernel/tracing/events/9p"):
        return False
    if not TRACE_FDS:
        if not os.path.isdir(TRACE):
            os.mkdir(TRACE)
        for name, value in (
            ("buffer_size_kb", "4096"),
            ("events/9p/9p_client_req/enable", "1"),
            ("events/9p/9p_client_res/enable", "1"),
        ):
            with open(os.path.join(TRACE, name), "w") as f:
                f.write(value)
        TRACE_FDS["pipe"] = os.open(TRACE + "/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        TRACE_FDS["marker"] = os.open(TRACE + "/trace_marker", os.O_WRONLY)
        KEPT.update(TRACE_FDS.values())
    trace_end()
    return True


@op()
def trace_end() -> str:
    """What was traced since the last reading, as text of the kernel's own format; reading consumes it."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(TRACE_FDS["pipe"], 1 << 16)
        except BlockingIOError:
            part = b""
        if not part:
            return b"".join(parts).decode(errors="replace")
        parts.append(part)


@op()
def trace_mark(text: str) -> None:
    os.write(TRACE_FDS["marker"], text.encode())


MARKED = threading.local()
"""Of each thread: `number`, the call that its messages belong to in the trace, 0 for none of the case's."""


def mark_call(request: dict[str, Any]) -> None:
    """Say in the trace to which call of the case the following messages of this thread belong."""
    number = request["id"] if request.get("marked") else 0
    if number or getattr(MARKED, "number", 0):
        trace_mark(f"assay9 call {number}")
        MARKED.number = number
