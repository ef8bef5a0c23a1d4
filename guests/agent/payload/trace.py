"""Tracing of 9P messages in the guest's kernel."""

from __future__ import annotations

import os
import threading
from typing import Any

from guests.agent.payload.declare import op
from guests.agent.payload.state import KEPT

INSTANCES = "/sys/kernel/tracing/instances"
OWN = "assay9-"
"""What the name of an instance begins with that records one agent: its process id follows."""


TRACE_FDS: dict[str, int] = {}


@op()
def trace_begin(own: bool = False) -> bool:
    """Start recording the guest's 9p tracepoints in our own tracing instance; False if there are none.

    `own`: only messages of this process and its children, not those of other agents in the guest. Messages that a
    kernel thread sends for us (pages written back) are left out, too.
    """
    if not os.path.isdir("/sys/kernel/tracing/events/9p"):
        return False
    if not TRACE_FDS:
        instance = os.path.join(INSTANCES, OWN + str(os.getpid()) if own else "assay9")
        if own:
            remove_orphans()
        if not os.path.isdir(instance):
            os.mkdir(instance)
        ours = (("options/event-fork", "1"), ("set_event_pid", str(os.getpid()))) if own else ()
        for name, value in (
            ("buffer_size_kb", "4096"),
            *ours,
            ("events/9p/9p_client_req/enable", "1"),
            ("events/9p/9p_client_res/enable", "1"),
        ):
            with open(os.path.join(instance, name), "w") as f:
                f.write(value)
        TRACE_FDS["pipe"] = os.open(instance + "/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        TRACE_FDS["marker"] = os.open(instance + "/trace_marker", os.O_WRONLY)
        KEPT.update(TRACE_FDS.values())
    trace_end()
    return True


def remove_orphans() -> None:
    """Remove the instances of agents that are gone: each has a buffer in the kernel's memory."""
    for name in os.listdir(INSTANCES):
        pid = name[len(OWN) :] if name.startswith(OWN) else ""
        if pid.isdigit() and not os.path.exists("/proc/" + pid):
            try:
                os.rmdir(os.path.join(INSTANCES, name))
            except OSError:
                pass  # another agent has just removed it


@op()
def trace_end() -> str:
    """The trace since the last reading, as text in the kernel's format; reading consumes it."""
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
    """Mark in the trace to which call of the case the next messages of this thread belong."""
    number = request["id"] if request.get("marked") else 0
    if number or getattr(MARKED, "number", 0):
        trace_mark(f"assay9 call {number}")
        MARKED.number = number
