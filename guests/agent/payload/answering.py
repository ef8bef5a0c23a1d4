"""Answering one request, in any process."""

from __future__ import annotations

import errno
import os
import time
import traceback
from typing import Any

from guests.agent.payload.declare import perform
from guests.agent.payload.looking import look
from guests.agent.payload.platforms import Absent
from guests.agent.payload.state import CHANGED, HERE, OPENED
from guests.agent.payload.trace import TRACE_FDS, mark_call
from guests.agent.payload.wire import encode, errno_name


def below_root(changed: list[str]) -> list[str]:
    """The names below the root of changed paths and of their parents, each once."""
    root = os.fsdecode(HERE.root).rstrip("/")
    names: list[str] = []
    for path in changed:
        if path == root:
            names.append(".")
        elif path.startswith(root + "/"):
            name = path[len(root) + 1 :]
            names += [name, os.path.dirname(name.rstrip("/")) or "."]
    return list(dict.fromkeys(names))


def answer(request: dict[str, Any], begun: float) -> tuple[dict[str, Any], float]:
    """Perform a request that began at `begun`; returns its reply, and when the call was done.

    The clock is read as rarely as possible: under User-Mode Linux each reading is a system call of 50 us.
    """
    reply: dict[str, Any] = {"id": request["id"]}
    if TRACE_FDS:
        mark_call(request)
    try:
        value = perform(request["op"], request["args"], request["kw"])
        if request.get("named"):
            OPENED[request["id"]] = value
        reply["v"] = encode(value)
    except OSError as e:
        reply["errno"], reply["text"] = errno_name(e.errno or errno.EIO), e.strerror
    except Absent as e:
        reply["absent"] = str(e)
    except BaseException:
        reply["bug"] = traceback.format_exc()
    done = time.monotonic()
    reply["s"] = round(done - begun, 6)
    if CHANGED:
        reply["changed"] = list(dict.fromkeys(CHANGED))
        del CHANGED[:]
    return reply, done


def look_after(reply: dict[str, Any], how: str) -> None:
    """Add to a reply what this process sees of the changed paths: `how` is "marked" in the trace, or "plain"."""
    names = below_root(reply.get("changed", []))
    if names:
        reply["seen"] = list(zip(names, encode(look(names, mark=how == "marked"))))
